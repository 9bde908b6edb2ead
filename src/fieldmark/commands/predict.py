"""Predict: verdicts on photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Skipped, Things, named
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.errors import DataError
from fieldmark.core.machine import AUTO
from fieldmark.core.reading import read_regular
from fieldmark.data.bursts import check_grouping, grouped, taken
from fieldmark.data.names import lookup, normal
from fieldmark.data.readers.columns import Columns
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.evaluation.verdict import Verdict

__all__ = ["predict", "read_checklist"]


def read_checklist(path: Path, classes: Sequence[str]) -> list[str]:
    """Read names of `classes`, one per line. Blank lines are ignored, and lines that start with # and are no class."""
    try:
        lines = read_regular(path).decode("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read the checklist {path}: {error}", "Expected class names, one per line.") from None
    find = lookup(classes)
    names = [name for line in lines if (name := normal(line)) and (find(name) or not name.startswith("#"))]
    if not names:
        raise DataError(f"The checklist {path} is empty", "Expected class names, one per line.")
    return names


def predict(
    run: Path | str | Predictor,
    things: Things,
    *,
    columns: Columns | None = None,
    among: Sequence[str] | None = None,
    candidates: int = 5,
    accuracy: float | None = None,
    coverage: float | None = None,
    bursts: bool = False,
    gap: float | None = None,
    device: str = AUTO,
) -> Iterator[Verdict | Skipped]:
    """One verdict for each image, in order and as soon as its batch is answered; unreadable images give `Skipped`.

    `things` and the options are those of `Predictor.predict`; `columns` says which column of a table holds the paths,
    such as {"path": "filename"}. With `bursts`, a further verdict for each folder follows at the end, and with `gap`
    one for each burst of several photographs: those of a folder that follow each other within so many seconds. There, a
    photograph that is named twice counts once.
    """
    check_grouping(bursts, gap)
    predictor = run if isinstance(run, Predictor) else Predictor.load(run, device=device)
    speaker = Speaker.of(predictor.bundle, among=among, candidates=candidates, accuracy=accuracy, coverage=coverage)
    names: dict[str, int] = {}
    kept: list[Outputs] = []
    pooling = bursts or gap is not None
    for answered in predictor.stream(named(things, columns=columns)):
        readable = [thing.name for thing in answered.readable]
        verdicts = iter(speaker.verdicts(readable, answered.output) if answered.output else ())
        for thing, error in zip(answered.things, answered.errors, strict=True):
            if error is not None:
                yield Skipped(thing.name, str(error))
            else:
                yield replace(next(verdicts), frames=1) if pooling else next(verdicts)
        if pooling and answered.output:
            new = {name: at for at, name in enumerate(readable) if name not in names}
            names |= new
            kept.append(answered.output.at(list(new.values())))
    if kept:
        times = None if bursts else [taken(Path(name)) for name in names]
        pooled = speaker.pooled(*grouped(list(names), times, None if bursts else gap), joined(kept))
        yield from (one for one in pooled if bursts or one.frames != 1)
