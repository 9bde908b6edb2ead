"""The command that asks a classifier about photographs: a few, answered on the terminal, or any number, into a file."""

from __future__ import annotations

import os
import shlex
import sys
from codecs import BOM_UTF16_BE, BOM_UTF16_LE
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from fieldmark.cli.answers import Format, printed
from fieldmark.cli.app import ACCURACY, ANSWER, COVERAGE, Columns, Device, app, columns_of
from fieldmark.cli.early import check_run
from fieldmark.cli.terminal import INTERRUPTED, say, terminal
from fieldmark.core.errors import FieldmarkError
from fieldmark.core.wording import counted, shown

if TYPE_CHECKING:
    from fieldmark.commands.predict_into import Predicted

__all__ = ["predict"]

_SOME_SKIPPED = 1
_MOST_NAMED = 20
_FILE = "Into a file"


@app.command(rich_help_panel=ANSWER)
def predict(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    paths: Annotated[
        list[str] | None,
        typer.Argument(
            help="Files, folders or globs; - reads a list from standard input. Or records of answers "
            "(*.answers.jsonl), which are joined and written with --out, without computing anything."
        ),
    ] = None,
    columns: Columns = None,
    format: Annotated[
        str | None,
        typer.Option(
            metavar="FORM",
            help="table, csv or json (an object per line). With --out also page, megadetector, speciesnet, camtrap-dp "
            "or darwin-core.",
        ),
    ] = None,
    among: Annotated[Path | None, typer.Option(help="Checklist: a file of possible class names, one per line.")] = None,
    candidates: Annotated[int, typer.Option(min=1, help="Number of classes to list for each image.")] = 5,
    accuracy: Annotated[float | None, typer.Option(help=ACCURACY)] = None,
    coverage: Annotated[float | None, typer.Option(help=COVERAGE)] = None,
    bursts: Annotated[
        bool, typer.Option("--bursts", help="Each folder shows one individual: add an answer for each folder.")
    ] = False,
    gap: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="SECONDS",
            help="Photographs of a folder that follow each other within so many seconds show one individual: add an "
            "answer for each such burst.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_FILE,
            help="Write answers for any number of photographs: .csv, .jsonl, .html, or what --format says. Until "
            "the file is written, answers are kept in a record beside it.",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume", rich_help_panel=_FILE, help="Go on with the record: what has an answer is passed over."
        ),
    ] = False,
    shard: Annotated[
        str | None,
        typer.Option(
            rich_help_panel=_FILE,
            metavar="I/N",
            help="Answer for the I-th of N shards only, for job arrays. Join the records of all shards afterwards.",
        ),
    ] = None,
    boxes: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_FILE,
            help="Results of MegaDetector, or COCO Camera Traps: each animal in it is cut out and classified.",
        ),
    ] = None,
    confidence: Annotated[
        float, typer.Option(rich_help_panel=_FILE, min=0, max=1, help="How sure the detector must be of an animal.")
    ] = 0.2,
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", rich_help_panel=_FILE, help="In csv and json, the probability of each class."),
    ] = False,
    sort_into: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_FILE, help="Also link the photographs into a folder for each verdict, below this one."
        ),
    ] = None,
    copies: Annotated[
        bool, typer.Option("--copies", rich_help_panel=_FILE, help="With --sort-into, copy them instead.")
    ] = False,
    survey: Annotated[
        Path | None,
        typer.Option(
            rich_help_panel=_FILE,
            help="TOML file about the project and its deployments, for camtrap-dp and darwin-core.",
        ),
    ] = None,
    device: Device = "auto",
    engine: Annotated[
        Literal["auto", "torch", "onnx", "ray"],
        typer.Option(
            metavar="ENGINE",
            help="What computes on the processor: torch, onnx, or auto for the faster one, which a long job finds out. "
            "With --out also ray: the machines of a Ray cluster, which all see the run and the photographs.",
        ),
    ] = "auto",
) -> None:
    """Classify photographs. Exit status 1 means that some files were skipped."""
    form = _printable(format) if out is None else None
    check_run(run)
    files = _asked_for(paths or [])
    from fieldmark.core.imports import uncollected

    with uncollected():
        from fieldmark.answering.things import Skipped
        from fieldmark.commands.predict import predict as predict_paths
        from fieldmark.data.readers.checklist import read_checklist
        from fieldmark.runs.bundle import Bundle

    bundle = Bundle.load(run)
    names = read_checklist(among, bundle.classes) if among else None
    thresholds = bundle.thresholds(accuracy, coverage)
    skipped = 0

    def skip(reason: str) -> None:
        nonlocal skipped
        say(f"skipped: {reason}")
        skipped += 1

    if out is not None:
        from fieldmark.commands.predict_into import predict_into

        if format == "table":
            raise FieldmarkError("A table is for the terminal", "Leave out --out, or choose another --format.")
        _note(thresholds.notes if thresholds else None)
        done = predict_into(
            run,
            files,
            out,
            form=format,
            resume=resume,
            shard=shard,
            boxes=boxes,
            confidence=confidence,
            columns=columns_of(columns),
            among=names,
            candidates=candidates,
            accuracy=accuracy,
            coverage=coverage,
            bursts=bursts,
            gap=gap,
            probabilities=probabilities,
            survey=survey,
            sort_into=sort_into,
            copies=copies,
            tell=skip,
            device=device,
            engine=engine,
            listener=terminal(),
        )
        _tell(done, out, shard)
        raise SystemExit(_SOME_SKIPPED if skipped or done.skipped else 0)
    _refuse_without_out(
        resume=resume,
        shard=shard,
        boxes=boxes,
        probabilities=probabilities,
        survey=survey,
        sort_into=sort_into,
        engine=engine,
        paths=files,
    )
    assert engine != "ray"
    results = predict_paths(
        run,
        files,
        columns=columns_of(columns),
        among=names,
        candidates=candidates,
        accuracy=accuracy,
        coverage=coverage,
        bursts=bursts,
        gap=gap,
        device=device,
        engine=engine,
        tell=skip,
        listener=terminal(),
    )
    _note(thresholds.notes if thresholds else None)
    for result in printed(results, form or "table"):
        if isinstance(result, Skipped):
            skip(result.reason)
    if skipped:
        raise SystemExit(_SOME_SKIPPED)


def _note(notes: tuple[str, ...] | None) -> None:
    for line in ("Not calibrated: these are plain softmax probabilities",) if notes is None else notes:
        say(f"note: {line}.")


def _tell(done: Predicted, out: Path, shard: str | None) -> None:
    """What was done, what was skipped, and what comes next."""
    if not done.finished:
        resumed = [*sys.argv[1:], *(() if "--resume" in sys.argv else ("--resume",))]
        say(
            f"fieldmark: stopped after {counted(done.num_pictures, 'picture')}. To continue: "
            f"{shlex.join(['fieldmark', *resumed])}"
        )
        raise SystemExit(INTERRUPTED)
    for reason in list(done.skipped.values())[:_MOST_NAMED]:
        say(f"skipped: {reason}")
    written = done.record if shard else out
    if (more := len(done.skipped) - _MOST_NAMED) > 0:
        say(f"skipped: {more:,} more, with their reasons in {written}")
    typer.echo(shown(f"Wrote {written}: answers for {counted(done.num_pictures - len(done.skipped), 'picture')}"))
    if shard:
        records = f"{out.parent / out.stem}.*.answers.jsonl"
        say(f"Next, when all shards are there: fieldmark predict RUN {records} --out {out}")


def _printable(format: str | None) -> Format:
    known = get_args(Format)
    if format is None or format in known:
        return format or "table"  # type: ignore[return-value]  # it is one of them
    raise FieldmarkError(
        f"--format {format} is not for the terminal",
        f"Choose one of {', '.join(known)}, or name a file with --out, such as --out season.json.",
    )


def _refuse_without_out(
    *,
    resume: bool,
    shard: str | None,
    boxes: Path | None,
    probabilities: bool,
    survey: Path | None,
    sort_into: Path | None,
    engine: str,
    paths: list[str],
) -> None:
    asked = {
        "--resume": resume,
        "--shard": shard is not None,
        "--boxes": boxes is not None,
        "--probabilities": probabilities,
        "--survey": survey is not None,
        "--sort-into": sort_into is not None,
        "--engine ray": engine == "ray",
        paths[0]: paths[0].endswith(".answers.jsonl"),
    }
    if given := [name for name, yes in asked.items() if yes]:
        raise FieldmarkError(f"{given[0]} needs a file to write to", "Name it with --out, such as --out season.csv.")


def _asked_for(paths: list[str]) -> list[str]:
    """The arguments, or the lines of standard input if there are none."""
    if paths == ["-"] or (not paths and not sys.stdin.isatty()):
        from fieldmark.data.readers.sheet import text_of

        data = sys.stdin.buffer.read()
        if b"\0" in data and not data.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):  # `find -print0`
            return [os.fsdecode(name) for name in data.split(b"\0") if name]
        try:
            text = text_of(data, errors="surrogateescape")  # file names need not be UTF-8
        except UnicodeError as error:
            raise FieldmarkError(f"The list on standard input is damaged: {error}", "Write it again.") from None
        paths = [_unquoted(line.strip()) for line in text.split("\n") if line.strip()]
    if not paths:
        raise FieldmarkError("No images were given", "Name files, folders or globs, or pass a list on standard input.")
    return paths


def _unquoted(line: str) -> str:
    """A path without the quotes that shells and file managers put around it."""
    quoted = len(line) > 2 and line[0] == line[-1] and line[0] in "\"'"
    return line[1:-1] if quoted and not os.path.exists(line) else line
