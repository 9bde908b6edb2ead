"""Commands that take a model to where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fieldmark.cli.app import DEPLOY, app
from fieldmark.cli.early import check_run
from fieldmark.cli.terminal import terminal
from fieldmark.core.wording import shown

__all__ = ["bundle", "export"]


@app.command(rich_help_panel=DEPLOY)
def export(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    to: Annotated[
        Literal["onnx", "web"],
        typer.Option(help="onnx: a graph for ONNX Runtime. web: a page that answers in a browser, also off line."),
    ] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(help="File or folder to write. If not given: the bundle's own graph, else in RUN/exports."),
    ] = None,
    precision: Annotated[Literal["fp32", "fp16", "int8"], typer.Option(help="Of weights and computation.")] = "fp32",
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Also where more than a point of accuracy is lost.")
    ] = False,
    examples: Annotated[
        int, typer.Option(min=0, help="For web: training photographs of each class that the page shows to anybody.")
    ] = 0,
    title: Annotated[str | None, typer.Option(help="For web: the name of the page; the run's if not given.")] = None,
    runtime: Annotated[
        Path | None, typer.Option(help="For web: the npm package of onnxruntime-web, if npm cannot fetch it.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the run's data, if it was moved.")] = None,
) -> None:
    """Write the model as a file for other programs. With its graph, a bundle answers without PyTorch, and at once."""
    check_run(run)
    from fieldmark.commands.export import export as export_run

    found = export_run(
        run,
        to,
        out=out,
        precision=precision,
        allow_loss=allow_loss,
        examples=examples,
        title=title,
        runtime=runtime,
        root=root,
        listener=terminal(),
    )
    typer.echo(shown(found.said))


@app.command(rich_help_panel=DEPLOY)
def bundle(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    out: Annotated[Path | None, typer.Option(help="Folder to copy the bundle to, to be passed on.")] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only see whether a bundle is whole and answers; write nothing.")
    ] = False,
) -> None:
    """Write the model card of a run, and copy the bundle; or check one that came from somewhere."""
    check_run(run)
    from fieldmark.commands.bundle import bundle as bundle_run

    typer.echo(shown(bundle_run(run, out=out, check=check, listener=terminal()).said))
