"""Predict: verdicts on photographs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Skipped, Tell, Things, looked_ahead, warn_of_left_out
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.listener import Listener
from fieldmark.core.machine import AUTO, EngineName
from fieldmark.data.bursts import check_grouping
from fieldmark.data.readers.columns import Columns
from fieldmark.evaluation.verdict import Verdict
from fieldmark.exporting.fastest import fastest
from fieldmark.runs.bundle import Bundle

__all__ = ["predict"]


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
    engine: EngineName = "auto",
    tell: Tell | None = None,
    listener: Listener | None = None,
) -> Iterator[Verdict | Skipped]:
    """One verdict for each image, in order and as soon as its batch is answered; unreadable images give `Skipped`.

    `things` and the options are those of `Predictor.predict`; `columns` says which column of a table holds the paths,
    such as {"path": "filename"}. With `bursts`, a further verdict for each folder follows at the end, and with `gap`
    one for each burst of several photographs: those of a folder that follow each other within so many seconds. There, a
    photograph that is named twice counts once. `engine` "auto" tries once whether ONNX Runtime answers faster, if there
    are many paths; "torch" and "onnx" leave no choice. `tell` hears of files in folders that look like pictures and are
    none.
    """
    check_grouping(bursts, gap)
    ahead, asked = looked_ahead(things, tell or warn_of_left_out, columns)
    if not isinstance(run, Predictor):
        run = fastest(Bundle.load(run), ahead, device=device, engine=engine, listener=listener)
    speaker = Speaker.of(run.bundle, among=among, candidates=candidates, accuracy=accuracy, coverage=coverage)
    return speaker.as_they_come(run.stream(asked), bursts=bursts, gap=gap)
