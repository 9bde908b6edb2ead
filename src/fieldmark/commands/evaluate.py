"""Evaluate: how good is it, and how sure is that?"""

from __future__ import annotations

from pathlib import Path

from fieldmark.answering.scoring import score_run
from fieldmark.core.listener import Done, Listener
from fieldmark.core.machine import AUTO
from fieldmark.data.catalog import Catalog
from fieldmark.runs.record import Evaluation

__all__ = ["evaluate"]


def evaluate(
    run: Path | str,
    data: Path | str | Catalog | None = None,
    *,
    root: Path | str | None = None,
    split: str | None = None,
    accuracy: float | None = None,
    coverage: float | None = None,
    background: bool = False,
    device: str = AUTO,
    listener: Listener | None = None,
) -> Evaluation:
    """Score a run on its own data or on other; the test split unless told otherwise.

    `data` is what `fieldmark.train` takes. Other data that is not split is scored whole, as "all". A calibrated run is
    held to an accuracy of given answers and a coverage of sets, 95 % and 90 % unless given. The run's own validation
    images are calibrated without their own labels, as in training. With `background` it is also measured how much the
    answers lean on the background, for which the data needs boxes or masks. Raises RunError and DataError.
    """
    listener = listener or Listener()
    result = score_run(
        run,
        data,
        root=root,
        split=split,
        accuracy=accuracy,
        coverage=coverage,
        background=background,
        device=device,
        listener=listener,
    )
    listener.hear(Done("evaluate", result.folder))
    return result
