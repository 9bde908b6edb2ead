"""The command line. It parses first and imports torch afterwards, so that help is instant."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fieldmark.errors import FieldmarkError

if TYPE_CHECKING:
    from rich.console import Console

    from fieldmark.commands.evaluate import Evaluation
    from fieldmark.commands.listener import Listener, Tick
    from fieldmark.commands.predict import Skipped
    from fieldmark.evaluation.verdict import Verdict

app = typer.Typer(
    name="fieldmark",
    help="Fine-grained image classification: telling apart things that look alike.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Format = Literal["table", "csv", "json"]
_BAD_INPUT, _SOME_SKIPPED, _INTERRUPTED = 2, 1, 130
# typer brings its own copy of click and exports but one of its errors: these are that one and its parents
_MISUSE = tuple(kind for kind in typer.BadParameter.__mro__ if issubclass(kind, Exception) and kind is not Exception)


def main() -> None:
    """Run the command line; a user's error is one line and exit status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names and terminals are not always UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        status = app(prog_name="fieldmark", standalone_mode=False)
    except FieldmarkError as error:
        raise SystemExit(_complain(str(error))) from None
    except _MISUSE as error:
        raise SystemExit(_complain(_misuse(error))) from None
    except (KeyboardInterrupt, typer.Abort):
        status = _INTERRUPTED
    if status == _INTERRUPTED:
        _complain("interrupted")
    raise SystemExit(status)


def _complain(text: str) -> int:
    if text:
        typer.echo(f"fieldmark: {' '.join(line.strip() for line in text.splitlines())}", err=True)
    return _BAD_INPUT


def _misuse(error: Exception) -> str:
    """What is wrong with the arguments; nothing where help was printed instead."""
    message = str(getattr(error, "format_message", lambda: error)()).strip().rstrip(".")
    command = getattr(getattr(error, "ctx", None), "command_path", "fieldmark")
    if option := getattr(error, "option_name", None):
        from fieldmark.recipe import Recipe

        key = option.lstrip("-").replace("-", "_")
        for section, field in Recipe.model_fields.items():
            if key in getattr(field.annotation, "model_fields", ()):
                return f"{message}. It is a key of the recipe: --set {section}.{key}=…"
            if key == section:
                return f"{message}. It is a key of the recipe: --set {key}=…"
    return message and f"{message}{'' if message.endswith('?') else '.'} See {command} --help."


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False) -> None:
    if version:
        from importlib.metadata import version as version_of

        typer.echo(f"fieldmark {version_of('fieldmark')}")
        raise typer.Exit


@app.command()
def draw(
    dest: Annotated[Path, typer.Argument(help="Folder to draw into.")],
    species: Annotated[int, typer.Option(help="How many species.")] = 12,
    images: Annotated[int, typer.Option(help="Images of each.")] = 60,
    size: Annotated[int, typer.Option(help="Side in pixels.")] = 160,
    seed: Annotated[int, typer.Option(help="Another seed draws other species.")] = 0,
    habitat: Annotated[
        Literal["free", "tied"],
        typer.Option(help="tied: each species keeps to one habitat, except in the test part."),
    ] = "free",
) -> None:
    """Draw a field guide: pictures of invented birds, with all that is true of them in a table."""
    from fieldmark.fieldguide import draw as draw_guide

    listener = _listener()
    with listener.progress("Drawing") as tick:
        folder = draw_guide(
            dest, species=species, images_per_species=images, size=size, seed=seed, habitat=habitat, progress=tick
        )
    listener.note(f"Drew {species} species into {folder}; its page is {folder / 'guide.png'}")


@app.command()
def train(
    data: Annotated[Path, typer.Argument(help="Class folders, a table (CSV, TSV, Parquet) or a CUB-200-2011 folder.")],
    recipe: Annotated[
        str | None,
        typer.Option(help="finetune (the default), probe (minutes), walkthrough (a tutorial's), or a TOML file."),
    ] = None,
    backbone: Annotated[str | None, typer.Option(help="Any timm model, such as mobilenetv2_100.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="hub (download), none (start from scratch) or a .safetensors file.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder; runs/<name of the data> if not given.")] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change the recipe, such as train.epochs=3.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped, or begin it.")] = False,
) -> None:
    """Train a classifier. The test part is left alone."""
    from fieldmark.commands.fit import Stopped
    from fieldmark.commands.train import train as train_run

    place = data.resolve()
    out = out or Path("runs") / (place.name if place.is_dir() else place.stem)
    listener = _listener()
    try:
        run = train_run(
            data,
            recipe,
            out=out,
            backbone=backbone,
            weights=weights,
            overrides=overrides or [],
            resume=resume,
            listener=listener,
        )
    except Stopped as stopped:
        command = shlex.join(["fieldmark", "train", str(data), "--out", str(out), "--resume"])
        typer.echo(f"fieldmark: {stopped}. To go on: {command}", err=True)
        raise SystemExit(_INTERRUPTED) from None
    _print_validation(run.folder, listener)
    listener.note(f"Next: fieldmark evaluate {run.folder}")


@app.command()
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    data: Annotated[Path | None, typer.Argument(help="Other data; the run's own if not given.")] = None,
    split: Annotated[str | None, typer.Option(help="train, val, test or all; test if not given.")] = None,
) -> None:
    """Score a classifier, each figure with its 95 % interval."""
    from fieldmark.commands.evaluate import evaluate as evaluate_run

    _print_evaluation(evaluate_run(run, data, split=split, listener=_listener()))


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    paths: Annotated[
        list[str] | None, typer.Argument(help="Files, folders, globs; or - for a list on standard input.")
    ] = None,
    format: Annotated[Format, typer.Option(help="How answers are printed.")] = "table",
    among: Annotated[Path | None, typer.Option(help="Checklist: a file of class names, one a line.")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="How many classes to list for each image.")] = 5,
) -> None:
    """Answer for photographs. Exit status 1 says that some files were skipped."""
    from fieldmark.commands.predict import Skipped, read_checklist
    from fieldmark.commands.predict import predict as predict_paths

    names = read_checklist(among) if among else None
    results = predict_paths(run, _asked_for(paths or []), among=names, candidates=candidates)
    skipped = 0
    for result in _printed(results, format):
        if isinstance(result, Skipped):
            typer.echo(f"skipped: {result.reason}", err=True)
            skipped += 1
    if skipped:
        raise SystemExit(_SOME_SKIPPED)


def _asked_for(paths: list[str]) -> list[str]:
    """The arguments, or the lines of standard input."""
    if paths == ["-"] or (not paths and not sys.stdin.isatty()):
        paths = [line.strip() for line in sys.stdin if line.strip()]
    if not paths:
        raise FieldmarkError("No images were named", "Give files, folders or globs, or a list on standard input.")
    return paths


# Printing -------------------------------------------------------------------------------------------------------------


def _printed(results: Iterator[Verdict | Skipped], format: Format) -> Iterator[Verdict | Skipped]:
    """Print verdicts to standard output as they come; pass everything on."""
    from fieldmark.evaluation.verdict import Verdict

    show = {"table": _table_printer, "csv": _csv_printer, "json": _json_printer}[format]()
    for result in results:
        if isinstance(result, Verdict):
            show(result)
        yield result


def _json_printer() -> Callable[[Verdict], None]:
    return lambda verdict: print(json.dumps(verdict.as_dict(), ensure_ascii=False), flush=True)


def _csv_printer() -> Callable[[Verdict], None]:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    header: list[str] = []

    def show(verdict: Verdict) -> None:
        values = verdict.as_dict()
        values["candidates"] = "; ".join(f"{c.label} {c.probability:.4f}" for c in verdict.candidates)
        if not header:
            header.extend(values)
            writer.writerow(header)
        writer.writerow(values.values())

    return show


def _table_printer() -> Callable[[Verdict], None]:
    """Lines as they come, file names cut at the left: their ends tell them apart."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    width = max(20, min(48, console.width // 3))

    def show(verdict: Verdict) -> None:
        path = verdict.path if len(verdict.path) <= width else "…" + verdict.path[-width + 1 :]
        line = f"{path:<{width}}  {_percent(verdict.probability):>7}  {verdict.label}"
        outside = "" if verdict.outside is None else f"  [{_percent(verdict.outside)} outside the checklist]"
        others = [f"{c.label} {_percent(c.probability)}" for c in verdict.candidates[1:3] if c.probability > 0.01]
        while others and len(line) + len(outside) + len(", ".join(others)) + 4 > console.width:
            others.pop()
        rest = f"  ({', '.join(others)})" if others else ""
        console.print(f"{escape(line)}[dim]{escape(rest)}{escape(outside)}[/dim]", soft_wrap=True)

    return show


def _print_validation(folder: Path, listener: Listener) -> None:
    from fieldmark.storage import read_json

    for part in ("val", "crossfit"):
        path = folder / "evaluation" / part / "scores.json"
        if path.is_file():
            top1 = read_json(path)["top1"]
            where = "Validation" if part == "val" else "Out-of-fold"
            interval = f"{100 * top1['low']:.1f}–{100 * top1['high']:.1f}"
            listener.note(f"{where} top-1: {_percent(top1['value'])} (95 % interval {interval})")


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


_TITLES = {
    "top1": "top-1",
    "top5": "top-5",
    "mean_class_accuracy": "mean per-class accuracy",
    "nll": "negative log-likelihood",
    "calibration_error": "calibration error",
}


def _print_evaluation(result: Evaluation) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(highlight=False)
    where = "All parts" if result.part == "all" else f"The {result.part} part"
    table = Table("score", "value", "95 % interval", title=f"{where}, {result.num_images:,} images")
    for name, score in result.scores.items():
        text = str(score)
        value, _, interval = text.partition(" (")
        table.add_row(_TITLES.get(name, name), value, interval.removesuffix(")"))
    console.print(table)
    if result.confused:
        pairs = Table("most confused", "mistakes")
        for pair in result.confused[:5]:
            names = f"{escape(pair.first)} ↔ {escape(pair.second)}"
            pairs.add_row(names, f"{pair.mistakes:,} of {pair.num_first + pair.num_second:,}")
        console.print(pairs)
    if result.looks is not None:
        times = "once" if result.looks == 1 else f"{result.looks} times"
        console.print(f"This test part has now been scored {times} on this machine.")
    console.print(f"Written to {result.folder}", soft_wrap=True)


# Listening ------------------------------------------------------------------------------------------------------------


def _listener() -> Listener:
    """Lines and a progress bar on standard error. Defined here, since the base class comes with torch."""
    from rich.console import Console

    from fieldmark.commands.listener import Listener

    logging.getLogger("timm").setLevel(logging.ERROR)

    class Terminal(Listener):
        def __init__(self, console: Console) -> None:
            self.console = console

        def note(self, text: str) -> None:
            self.console.print(text, markup=False, soft_wrap=True)

        def warn(self, text: str) -> None:
            self.console.print(f"[yellow]warning:[/yellow] {_escaped(text)}.", soft_wrap=True)

        @contextmanager
        def progress(self, title: str) -> Iterator[Tick]:
            with _bar(self.console, title) as tick:
                yield tick

        @contextmanager
        def stoppable(self) -> Iterator[Callable[[], bool]]:
            with _interrupt_flag(self.note) as asked:
                yield asked

    return Terminal(Console(stderr=True, highlight=False))


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text.rstrip("."))


@contextmanager
def _bar(console: Console, title: str) -> Iterator[Tick]:
    """A bar with the time left; nothing where standard error is no terminal."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(bar_width=max(3, min(40, console.width - 58))),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        TextColumn("left"),
    ]
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None, note="")

        def tick(done: int, total: int, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=note)

        yield tick


@contextmanager
def _interrupt_flag(say: Callable[[str], None]) -> Iterator[Callable[[], bool]]:
    """The first Ctrl-C is a request that is granted after the running step; a second one ends at once."""
    asked: list[bool] = []
    process = os.getpid()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        if os.getpid() != process:  # a loader's worker: it goes on until the step is done
            return
        if asked:
            raise KeyboardInterrupt
        asked.append(True)
        say("Stopping after this step; press Ctrl-C again to end at once.")

    before = signal.signal(signal.SIGINT, on_interrupt)
    try:
        yield lambda: bool(asked)
    finally:
        signal.signal(signal.SIGINT, before)
