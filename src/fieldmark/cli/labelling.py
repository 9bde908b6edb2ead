"""Commands that ask a person: which labels are wrong, and what a photograph shows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fieldmark.cli.app import LABEL, Columns, Device, Root, app, columns_of
from fieldmark.cli.early import check_run
from fieldmark.cli.terminal import terminal
from fieldmark.core.wording import counted, shown

__all__ = ["doubt", "next"]

_MOST = typer.Option(min=1, help="Number of photographs on the page.")


@app.command(rich_help_panel=LABEL)
def doubt(
    run: Annotated[Path, typer.Argument(help="A run.")],
    root: Root = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the page and doubts.csv; RUN/doubts if not given.")
    ] = None,
    most: Annotated[int, _MOST] = 100,
    evidence: Annotated[
        int, typer.Option(min=0, help="Number of doubts for which the region that decides is shown; some seconds each.")
    ] = 0,
    device: Device = "auto",
) -> None:
    """Find labels that are probably wrong, and decide about them on a page."""
    check_run(run)
    from fieldmark.commands.doubt import doubt as find_doubts
    from fieldmark.runs.opening import opened_run

    listener = terminal()
    found = find_doubts(run, root=root, out=out, most=most, evidence=evidence, device=device, listener=listener)
    page = (out or opened_run(run).folder / "doubts") / "index.html"
    typer.echo(f"{counted(len(found), 'label')} in doubt")
    for one in found[:10]:
        typer.echo(shown(f"  {one.path}  {one.label} → {one.suggested or 'another split too'}"))
    listener.note(f"To decide, open {page}")


@app.command(rich_help_panel=LABEL)
def next(
    run: Annotated[Path, typer.Argument(help="A run.")],
    unlabelled: Annotated[
        list[str] | None,
        typer.Argument(help="Files, folders, globs or tables of photographs; those of the last time if not given."),
    ] = None,
    columns: Columns = None,
    decisions: Annotated[
        list[Path] | None,
        typer.Option(help="Table of decisions that were made meanwhile, to be left out. May be repeated."),
    ] = None,
    root: Root = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the page and next.csv; RUN/next if not given.")] = None,
    most: Annotated[int, _MOST] = 50,
    balanced: Annotated[bool, typer.Option("--balanced", help="Prefer classes with few labels.")] = False,
    device: Device = "auto",
) -> None:
    """Choose the photographs to label next, and label them on a page."""
    check_run(run)
    from fieldmark.commands.next import next as choose_next
    from fieldmark.runs.opening import opened_run

    listener = terminal()
    found = choose_next(
        run,
        unlabelled,
        columns=columns_of(columns),
        decisions=decisions or (),
        root=root,
        out=out,
        most=most,
        balanced=balanced,
        device=device,
        listener=listener,
    )
    page = (out or opened_run(run).folder / "next") / "index.html"
    if found:
        typer.echo(f"{counted(len(found), 'photograph')} to label, also listed in {page.with_name('next.csv')}")
        listener.note(f"To label, open {page}")
