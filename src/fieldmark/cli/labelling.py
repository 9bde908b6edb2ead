"""Commands that ask a person: which labels are in doubt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fieldmark.cli.app import Device, Root, app
from fieldmark.cli.early import check_run
from fieldmark.cli.terminal import terminal
from fieldmark.core.wording import counted, shown

__all__ = ["doubt"]

_MOST = typer.Option(min=1, help="Number of photographs on the page.")


@app.command()
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
