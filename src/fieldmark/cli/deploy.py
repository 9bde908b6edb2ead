"""Commands that take a model to where it is needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from fieldmark.cli.app import DEPLOY, Device, app
from fieldmark.cli.early import check_run
from fieldmark.cli.terminal import terminal
from fieldmark.core.wording import shown

__all__ = ["bundle", "export", "serve"]


@app.command(rich_help_panel=DEPLOY)
def export(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    to: Annotated[
        Literal["onnx", "web", "triton"],
        typer.Option(
            help="onnx: a graph for ONNX Runtime. web: a page that answers in a browser, also off line. "
            "triton: a model repository for Triton Inference Server."
        ),
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


@app.command(rich_help_panel=DEPLOY)
def serve(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where it listens; 0: any that is free.")] = 8000,
    host: Annotated[
        str, typer.Option(help="Address to listen at. Others than the loopback ask visitors for a token.")
    ] = "127.0.0.1",
    token_file: Annotated[
        Path | None, typer.Option(help="File with the token; if not given, a new one is printed where one is needed.")
    ] = None,
    name: Annotated[
        list[str] | None, typer.Option(help="Further name by which it is asked for, as behind a proxy. Repeatable.")
    ] = None,
    accuracy: Annotated[float | None, typer.Option(help="Share of the names given that should be right.")] = None,
    coverage: Annotated[
        float | None, typer.Option(help="Share of the sets of possible classes that should have the right one.")
    ] = None,
    gallery: Annotated[str | None, typer.Option(help="Gallery to search; the run's own if not given.")] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Folder for what people say is wrong; RUN/corrections if not given.")
    ] = None,
    keep_pictures: Annotated[
        bool, typer.Option("--keep-pictures", help="Keep the pictures of wrong answers, too, to train on.")
    ] = False,
    examples: Annotated[bool, typer.Option(help="Show training images beside answers.")] = True,
    root: Annotated[Path | None, typer.Option(help="Folder of the run's data, if it was moved.")] = None,
    deadline: Annotated[float, typer.Option(min=0.1, help="Seconds that an answer may take.")] = 10.0,
    queue: Annotated[int, typer.Option(min=1, help="Pictures that may wait; more are refused.")] = 64,
    largest: Annotated[int, typer.Option(min=1, max=384, help="Megabytes of a picture; larger ones are refused.")] = 32,
    device: Device = "auto",
) -> None:
    """Answer over HTTP: a page for people and an API for programs."""
    check_run(run)
    from fieldmark.commands.serve import serve as serve_run
    from fieldmark.serving.limits import Limits

    serve_run(
        run,
        host=host,
        port=port,
        token_file=token_file,
        names=name or (),
        accuracy=accuracy,
        coverage=coverage,
        gallery=gallery,
        keep=keep,
        keep_pictures=keep_pictures,
        examples=examples,
        root=root,
        limits=Limits(seconds=deadline, most_waiting=queue, body=largest * 2**20),
        device=device,
        listener=terminal(),
    )
