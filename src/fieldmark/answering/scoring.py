"""`score_split`: answers for one split of a run's data, scored and compared with what its verdicts promise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.reliance import check_reliance, measure_reliance
from fieldmark.answering.rows import answer_rows
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.listener import Listener
from fieldmark.data.attributes import unscored
from fieldmark.data.catalog import Catalog
from fieldmark.data.splits import units
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.evaluation.scaling import calibrate
from fieldmark.evaluation.unknown import nearness
from fieldmark.evaluation.verdict_scores import VerdictScores, score_verdicts
from fieldmark.runs.opening import rows_of, with_classes_of
from fieldmark.runs.record import Answers, Evaluation, count_look, score_answers, write_evaluation
from fieldmark.runs.run import Run

__all__ = ["score_split"]


def score_split(
    run: Run,
    predictor: Predictor,
    catalog: Catalog,
    split: str,
    *,
    speaker: Speaker,
    own: bool,
    background: bool = False,
    listener: Listener,
) -> Evaluation:
    """Score one split of a catalogue and write the scores into the run; see `fieldmark.evaluate`.

    `own`: whether these are the data that the run was trained on. Raises DataError.
    """
    rows = rows_of(catalog, split)
    catalog = with_classes_of(predictor.bundle, catalog, rows)
    if background:
        check_reliance(predictor, catalog, rows)  # before the test split is looked at
    with run.timed("evaluating"):
        found = answer_rows(predictor, catalog, rows, predictor.engine, listener, stage="Answering")
    for problem in unscored(catalog, predictor.bundle.attributes, found.rows):
        listener.warn(problem)
    outputs = joined(found.outputs)
    answers = Answers(
        catalog,
        found.rows,
        _log_probabilities(predictor, catalog, found.rows, outputs, fitted=own and split == "val"),
        outputs.attributes,
        speaker.verdicts([catalog.paths[row] for row in found.rows], outputs) if speaker.thresholds else (),
    )
    task = predictor.bundle.task
    result = replace(
        score_answers(split, answers, task),
        looks=count_look(catalog.digest("test"), listener) if split == "test" else None,
        unreadable=found.unreadable,
        # on images that it has learnt from, the scores would be too good
        verdicts=_held_to(speaker, outputs, answers, listener) if split == "test" or not catalog.splits.any() else None,
    )
    result = write_evaluation(run, result, answers, task)
    if background:
        with run.timed("exchanging backgrounds"):
            gap = measure_reliance(predictor, catalog, found.rows, run.evaluation(split), listener)
        result = replace(result, reliance=gap)
    return result


def _log_probabilities(
    predictor: Predictor, catalog: Catalog, rows: NDArray[np.int64], outputs: Outputs, *, fitted: bool
) -> NDArray[np.float64]:
    """(N, K). Images that the scaling was `fitted` to are each scaled by the others."""
    bundle = predictor.bundle
    if not (fitted and bundle.calibration):
        return bundle.log_probabilities(outputs.logits)
    seed = int(bundle.provenance.get("seed", 0))
    return calibrate(outputs.logits, catalog.labels[rows], units(catalog)[rows], seed=seed).held_out


def _held_to(speaker: Speaker, outputs: Outputs, answers: Answers, listener: Listener) -> VerdictScores | None:
    """The verdicts, checked against their promises; None if nothing is calibrated."""
    if speaker.thresholds is None:
        return None
    for note in speaker.thresholds.notes:
        listener.note(note + ".")
    near = nearness(outputs.embedding, speaker.thresholds.calibration.means)
    return score_verdicts(speaker.thresholds, outputs.logits, near, answers.labels, answers.units)
