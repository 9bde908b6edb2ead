"""Evaluate: score a run, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from fieldmark.answering.rows import things_of
from fieldmark.answering.scoring import SENSITIVITY, score_split
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.machine import AUTO, EngineName
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.columns import Columns
from fieldmark.exporting.fastest import fastest
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.opening import catalog_of, default_split, opened_run, rows_of
from fieldmark.runs.record import Evaluation

__all__ = ["evaluate"]


def evaluate(
    run: Path | str,
    data: Path | str | Catalog | None = None,
    *,
    root: Path | str | None = None,
    out: Path | str | None = None,
    columns: Columns | None = None,
    split: str | None = None,
    accuracy: float | None = None,
    coverage: float | None = None,
    background: bool = False,
    of_interest: Sequence[str] = (),
    sensitivity: float = SENSITIVITY,
    device: str = AUTO,
    engine: EngineName = "auto",
    listener: Listener | None = None,
) -> Evaluation:
    """Score a run on its own data or on other data, on the test split unless `split` says otherwise.

    `data` and `columns` are what `fieldmark.train` takes. Other data without splits is scored as a whole, as "all". The
    verdicts of a calibrated run are checked against an `accuracy` of the names given (by default the highest of 0.95,
    0.9, 0.8 and 0.7 that can be promised) and a `coverage` of the sets of possible classes (0.9). The run's own
    validation images are calibrated without their own labels, as in training. `background` also measures how much the
    answers rely on the background, which needs data with boxes or masks. For each class `of_interest`, sensitivity and
    specificity are measured at the operating point that finds a share of `sensitivity` of its held-out images. The
    scores are written to `out`, a folder of their own; by default to RUN/evaluation/<split>, where `report` looks.
    `engine` is that of `fieldmark.predict`.

    Raises RunError, DataError, and StorageError if the scores cannot be written.
    """
    listener = listener or Listener()
    opened, bundle = opened_run(Path(run)), Bundle.load(run)
    speaker = Speaker.of(bundle, accuracy=accuracy, coverage=coverage)
    with relayed_warnings(listener):
        catalog = catalog_of(opened, data, root, listener, columns)
    split = split or default_split(catalog)
    things = things_of(catalog, rows_of(catalog, split))
    result = score_split(
        opened,
        partial(fastest, bundle, things, device=device, engine=engine, listener=listener),
        catalog,
        split,
        speaker=speaker,
        own=data is None,
        out=None if out is None else Path(out),
        background=background,
        of_interest=of_interest,
        sensitivity=sensitivity,
        listener=listener,
    )
    listener.hear(Done("evaluate", result.folder))
    return result
