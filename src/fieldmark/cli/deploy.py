"""Commands that take a model to where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fieldmark.cli.app import DEPLOY, app
from fieldmark.cli.early import check_run
from fieldmark.cli.terminal import terminal
from fieldmark.core.wording import shown

__all__ = ["export"]


@app.command(rich_help_panel=DEPLOY)
def export(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    to: Annotated[Literal["onnx"], typer.Option(help="onnx: a graph for ONNX Runtime.")] = "onnx",
    out: Annotated[
        Path | None,
        typer.Option(help="File to write. If not given: the bundle's own in fp32, else a file in RUN/exports."),
    ] = None,
    precision: Annotated[Literal["fp32", "fp16", "int8"], typer.Option(help="Of weights and computation.")] = "fp32",
    allow_loss: Annotated[
        bool, typer.Option("--allow-loss", help="Also where more than a point of accuracy is lost.")
    ] = False,
    root: Annotated[Path | None, typer.Option(help="Folder of the run's data, if it was moved.")] = None,
) -> None:
    """Write the model as a file for other programs. With its graph, a bundle answers without PyTorch, and at once."""
    check_run(run)
    from fieldmark.commands.export import export as export_run

    found = export_run(run, to, out=out, precision=precision, allow_loss=allow_loss, root=root, listener=terminal())
    typer.echo(shown(found.said))
