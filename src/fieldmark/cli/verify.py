"""The command that compares: two photographs, or a photograph and what is known."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fieldmark.cli.app import SEARCH, Columns, Device, app, columns_of
from fieldmark.cli.early import check_run
from fieldmark.cli.terminal import say, terminal
from fieldmark.core.wording import shown

if TYPE_CHECKING:
    from fieldmark.gallery.judged import Identified, Measured, Verified

__all__ = ["verify"]

_SOME_SKIPPED = 1


@app.command(rich_help_panel=SEARCH)
def verify(
    run: Annotated[Path, typer.Argument(help="A run or a bundle.")],
    paths: Annotated[
        list[str] | None, typer.Argument(help="Two photographs; with --reference, any number of them.")
    ] = None,
    false_accepts: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Of different ones, the share that may pass for the same: 0.01, or the least that can be promised.",
        ),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(
            metavar="PLACE",
            help="Which of these is it, or none? Photographs of one thing, class folders, a table or a gallery.",
        ),
    ] = None,
    measure: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PHOTOS",
            help="Measure thresholds on photographs with labels, of classes that the run was not trained on.",
        ),
    ] = None,
    measured: Annotated[
        Path | None, typer.Option(metavar="PLACE", help="Where that is kept; RUN/measured if not given.")
    ] = None,
    evidence: Annotated[
        Path | None, typer.Option(metavar="PNG", help="Draw where two photographs agree and where they do not.")
    ] = None,
    columns: Columns = None,
    format: Annotated[
        Literal["table", "json"], typer.Option(help="Output format; json prints one object per line.")
    ] = "table",
    device: Device = "auto",
) -> None:
    """Say whether photographs show the same, and how sure that is. Exit status 1 means that some files were skipped."""
    given = paths or []
    check_run(run)
    _check(given, reference, measure, evidence, false_accepts)
    from fieldmark.answering.things import Skipped
    from fieldmark.commands import verify as acts

    listener, read = terminal(), columns_of(columns)
    if measure:
        found = acts.measure(run, measure, measured=measured, columns=read, device=device, listener=listener)
        _print(found, format)
        skipped = list(found.skipped)
    elif reference is not None:
        answers = acts.identify(
            run,
            given,
            reference,
            false_positives=false_accepts,
            measured=measured,
            columns=read,
            device=device,
            listener=listener,
        )
        for answer in answers:
            if not isinstance(answer, Skipped):
                _print(answer, format)
        skipped = [answer for answer in answers if isinstance(answer, Skipped)]
    else:
        verified = acts.verify(
            run,
            *given,
            false_accepts=false_accepts,
            measured=measured,
            evidence=evidence,
            device=device,
            listener=listener,
        )
        _print(verified, format)
        skipped = []
    for one in skipped:
        say(f"skipped: {one.reason}")
    if skipped:
        raise SystemExit(_SOME_SKIPPED)


def _check(
    paths: list[str],
    reference: str | None,
    measure: list[str] | None,
    evidence: Path | None,
    false_accepts: float | None,
) -> None:
    """Raise DataError for arguments that do not go together, before anything heavy is imported."""
    from fieldmark.core.errors import DataError
    from fieldmark.core.wording import counted

    if measure and (paths or reference is not None or evidence is not None):
        raise DataError(
            "--measure takes its own photographs, and answers nothing about others",
            "First: fieldmark verify RUN --measure PHOTOS. Then: fieldmark verify RUN A B.",
        )
    if reference is not None and not paths:
        raise DataError("No photograph was given to compare with the reference", "fieldmark verify RUN A --reference …")
    if reference is not None and evidence is not None:
        raise DataError(
            "--evidence is about two photographs, and a reference may be many",
            "Compare with one of them: fieldmark verify RUN A B --evidence PNG.",
        )
    if not measure and reference is None and len(paths) != 2:
        raise DataError(
            f"{counted(len(paths), 'photograph')} instead of two" if paths else "No photographs were given",
            "Expected: fieldmark verify RUN A B, or fieldmark verify RUN A --reference PLACE.",
        )
    if false_accepts is not None and not 0 < false_accepts < 1:
        raise DataError(
            f"--false-accepts {false_accepts:g} is no share", "Expected one between 0 and 1, such as 0.01 for 1 %."
        )


def _print(found: Identified | Measured | Verified, format: str) -> None:
    """An object on a line of its own, or the answer with what it rests on below it."""
    if format == "json":
        from fieldmark.core.storage import as_json

        typer.echo(as_json(found.as_dict(), ascii=True))
        return
    first, *rest = found.said
    typer.echo(shown(first))
    for line in rest:
        typer.echo(shown(f"  {line}"))
