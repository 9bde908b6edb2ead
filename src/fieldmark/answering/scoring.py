"""`score_run`: a run answers the images of a split, is scored, and has its verdicts checked against their promises."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.reliance import check_reliance, measure_reliance
from fieldmark.answering.things import Thing
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.errors import DataError
from fieldmark.core.listener import Listener, relayed_warnings
from fieldmark.core.machine import AUTO
from fieldmark.core.wording import counted, first_few
from fieldmark.data.attributes import unscored
from fieldmark.data.catalog import Catalog
from fieldmark.data.splits import units
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.evaluation.scaling import calibrate
from fieldmark.evaluation.unknown import nearness
from fieldmark.evaluation.verdict_scores import VerdictScores, score_verdicts
from fieldmark.runs.opening import catalog_of, default_split, opened_run, rows_of, with_classes_of
from fieldmark.runs.record import Answers, Evaluation, count_look, score_answers, write_evaluation

__all__ = ["score_run"]


def score_run(
    run: Path | str,
    data: Path | str | Catalog | None = None,
    *,
    root: Path | str | None = None,
    split: str | None = None,
    accuracy: float | None = None,
    coverage: float | None = None,
    background: bool = False,
    device: str = AUTO,
    listener: Listener,
) -> Evaluation:
    """See `fieldmark.evaluate`."""
    opened, predictor = opened_run(Path(run)), Predictor.load(run, device=device)
    speaker = Speaker.of(predictor.bundle, accuracy=accuracy, coverage=coverage)
    with relayed_warnings(listener):
        catalog = catalog_of(opened, data, root, listener)
    chosen = split or default_split(catalog)
    rows = rows_of(catalog, chosen)
    catalog = with_classes_of(predictor.bundle, catalog, rows)
    if background:
        check_reliance(predictor, catalog, rows)  # before the test split is looked at
    with opened.timed("evaluating"):
        found = _answered(predictor, catalog, rows, listener)
    for problem in unscored(catalog, predictor.bundle.attributes, found.rows):
        listener.warn(problem)
    own = data is None and chosen == "val"
    answers = Answers(
        catalog,
        found.rows,
        _log_probabilities(predictor, catalog, found, own=own),
        found.outputs.attributes,
        speaker.verdicts([catalog.paths[row] for row in found.rows], found.outputs) if speaker.thresholds else (),
    )
    task = predictor.bundle.task
    result = replace(
        score_answers(chosen, answers, task),
        looks=count_look(catalog.digest("test"), listener) if chosen == "test" else None,
        unreadable=found.unreadable,
        # on images that it has learnt from, the scores would be too good
        verdicts=_held_to(speaker, found, answers, listener) if chosen == "test" or not catalog.splits.any() else None,
    )
    result = write_evaluation(opened, result, answers, task)
    if background:
        with opened.timed("exchanging backgrounds"):
            gap = measure_reliance(predictor, catalog, found.rows, opened.evaluation(chosen), listener)
        result = replace(result, reliance=gap)
    return result


class _Found(NamedTuple):
    """Outputs for the images that could be read."""

    outputs: Outputs
    rows: NDArray[np.int64]
    """The rows that could be read."""
    unreadable: tuple[str, ...]
    """The paths of the other rows."""


def _answered(predictor: Predictor, catalog: Catalog, rows: NDArray[np.int64], listener: Listener) -> _Found:
    """Outputs for the rows that can be read."""
    things = [Thing(catalog.paths[row], catalog.file(int(row))) for row in rows]
    outputs, readable, unreadable = [], [], []
    with listener.progress("Answering") as tick:
        for answered in predictor.stream(things):
            outputs += [] if answered.output is None else [answered.output]
            readable += [error is None for error in answered.errors]
            unreadable += [thing.name for thing, _ in answered.skipped]
            tick(len(readable), len(rows))
    if unreadable:
        names = first_few(unreadable)
        listener.warn(
            f"{len(unreadable):,} of {counted(len(rows), 'image')} could not be read and were skipped: {names}"
        )
    if not outputs:
        raise DataError(
            f"None of {counted(len(rows), 'image')} could be read",
            f"Check the files, such as {catalog.file(int(rows[0]))}.",
        )
    return _Found(joined(outputs), rows[np.array(readable)], tuple(unreadable))


def _log_probabilities(predictor: Predictor, catalog: Catalog, found: _Found, *, own: bool) -> NDArray[np.float64]:
    """(N, K). The run's `own` validation images determined its scaling, so each is scaled by the others."""
    bundle = predictor.bundle
    if not (own and bundle.calibration):
        return bundle.log_probabilities(found.outputs.logits)
    seed = int(bundle.provenance.get("seed", 0))
    return calibrate(found.outputs.logits, catalog.labels[found.rows], units(catalog)[found.rows], seed=seed).held_out


def _held_to(speaker: Speaker, found: _Found, answers: Answers, listener: Listener) -> VerdictScores | None:
    """The verdicts, checked against their promises; None if nothing is calibrated."""
    if speaker.thresholds is None:
        return None
    for note in speaker.thresholds.notes:
        listener.note(note + ".")
    near = nearness(found.outputs.embedding, speaker.thresholds.calibration.means)
    return score_verdicts(speaker.thresholds, found.outputs.logits, near, answers.labels, answers.units)
