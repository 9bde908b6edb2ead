"""`score_split`: answers for one split of a run's data, scored and compared with what its verdicts promise."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.rows import answer_rows
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.claims import claim
from fieldmark.core.errors import RunError
from fieldmark.core.listener import Listener
from fieldmark.core.storage import check_writable
from fieldmark.core.wording import CROSSFIT
from fieldmark.data.attributes import unscored
from fieldmark.data.catalog import Catalog
from fieldmark.evaluation.blocks import by_blocks
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.evaluation.per_class import ClassScore, Detection, check_detection, class_scores, detection
from fieldmark.evaluation.scaling import calibrate
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.evaluation.unknown import nearness
from fieldmark.evaluation.verdict_scores import VerdictScores, coverage_bands, score_verdicts
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.opening import rows_of, units_of, with_classes_of
from fieldmark.runs.record import Answers, Evaluation, count_look, score_answers, write_evaluation
from fieldmark.runs.run import Run

__all__ = ["SENSITIVITY", "score_split"]

SENSITIVITY = 0.9
"""At which a class of interest is looked for, unless the user asks for another."""


def score_split(
    run: Run,
    ready: Callable[[], Predictor],
    catalog: Catalog,
    split: str,
    *,
    speaker: Speaker,
    own: bool,
    out: Path | None = None,
    background: bool = False,
    of_interest: Sequence[str] = (),
    sensitivity: float = SENSITIVITY,
    listener: Listener,
) -> Evaluation:
    """Score one split of a catalogue and write the scores into the run, or into `out`; see `fieldmark.evaluate`.

    `ready` gives the predictor of the speaker's bundle, which may take long: whatever can be refused is refused before.
    `own`: whether these are the data that the run was trained on. Raises DataError and RunError, and StorageError if
    nothing can be written.
    """
    rows, bundle = rows_of(catalog, split), speaker.bundle
    catalog = with_classes_of(bundle, catalog, rows)
    unseen = split == "test" or not catalog.splits.any()  # on images that it has learnt from, promises are kept easily
    interesting = _interesting(bundle, of_interest, sensitivity, catalog.labels[rows], unseen)
    if background:
        from fieldmark.answering.reliance import check_reliance, measure_reliance  # which imports torch

        check_reliance(Predictor(bundle), catalog, rows)  # before the test split is looked at
    if out is not None:
        claim(out, "scores")
    check_writable(folder := out or run.evaluation(split))
    predictor = ready()
    with run.timed("evaluating"):
        found = answer_rows(predictor, catalog, rows, predictor.engine, listener, stage="Answering")
    for problem in unscored(catalog, bundle.attributes, found.rows):
        listener.warn(problem)
    outputs, units = joined(found.outputs), units_of(run, catalog)
    folds = units[found.rows] if own and split == "val" else None
    answers = Answers(
        catalog,
        found.rows,
        _log_probabilities(bundle, outputs, catalog.labels[found.rows], folds),
        units[found.rows],
        outputs.attributes,
        speaker.spoken([catalog.paths[row] for row in found.rows], outputs) if speaker.thresholds else None,
        learnt=~np.isin(catalog.labels[found.rows], bundle.task.unlearnt),
    )
    task = bundle.task
    judged = speaker.thresholds if unseen else None
    result = replace(
        score_answers(split, answers, task, _by_class(answers, judged)),
        looks=count_look(catalog.digest("test"), listener) if split == "test" else None,
        unreadable=found.unreadable,
        verdicts=_held_to(judged, outputs, answers, listener) if judged else None,
        enrolment=bundle.enrolled_as,
        of_interest=[_detected(bundle, answers, label, sensitivity) for label in interesting],
    )
    result = write_evaluation(folder, result, answers, task)
    if background:
        with run.timed("exchanging backgrounds"):
            gap = measure_reliance(predictor, catalog, found.rows, units, folder, listener)
        result = replace(result, reliance=gap)
    return result


def _log_probabilities(
    bundle: Bundle, outputs: Outputs, labels: NDArray[np.int64], fitted: NDArray[np.int64] | None
) -> NDArray[np.float64]:
    """(N, K). Images of these labels (N,) that the scaling was `fitted` to are each scaled by those of other units
    (N,), as in training; None for images that it was not fitted to."""
    values = bundle.log_probabilities(outputs.logits)
    learnt = ~np.isin(labels, bundle.task.unlearnt)
    if fitted is not None and bundle.calibration and learnt.any():
        seed = int(bundle.provenance.get("seed", 0))
        values[learnt] = calibrate(outputs.logits[learnt], labels[learnt], fitted[learnt], seed=seed).held_out
    return values


def _held_to(thresholds: Thresholds, outputs: Outputs, answers: Answers, listener: Listener) -> VerdictScores:
    """The verdicts, checked against their promises."""
    for note in thresholds.notes:
        listener.note(note + ".")
    near = nearness(outputs.embedding, thresholds.calibration.means)
    return score_verdicts(thresholds, outputs.logits, near, answers.labels, answers.units, answers.learnt)


def _by_class(answers: Answers, thresholds: Thresholds | None) -> list[ClassScore]:
    """The scores of each class; with thresholds, also how often its images' sets contain it."""
    labels, units, covered, bands = answers.labels, answers.units, None, list[tuple[float, float] | None]()
    if thresholds and thresholds.gives_sets:
        covered = by_blocks(partial(_covered, thresholds), answers.logits, labels)
        bands = coverage_bands(thresholds, labels, units)
    return class_scores(answers.logits, labels, answers.catalog.classes, units=units, covered=covered, bands=bands)


def _covered(
    thresholds: Thresholds, log_probabilities: NDArray[np.floating], labels: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """(N,) whether the set of each image contains its class (N,)."""
    return thresholds.sets(np.exp(log_probabilities))[np.arange(len(labels)), labels]


def _interesting(
    bundle: Bundle, names: Sequence[str], sensitivity: float, labels: NDArray[np.int64], unseen: bool
) -> list[int]:
    """The classes of interest. Raises RunError, before any image is looked at, if they cannot be scored on images of
    these labels (N,)."""
    if not 0 < sensitivity < 1:
        raise RunError(f"The sensitivity cannot be {sensitivity:g}", "Expected a share between 0 and 1, such as 0.9.")
    calibration = bundle.calibration
    if names and (calibration is None or not len(calibration.truth)):
        raise RunError(
            "A class of interest needs an operating point, but this bundle has no held-out images to choose it from",
            f"Train again, such as: {CROSSFIT}.",
        )
    if names and not unseen:
        raise RunError(
            "A class of interest cannot be scored on the images that its operating point was chosen on, or that were "
            "learnt from",
            "Score the test split, or other data.",
        )
    found = [int(label) for label in bundle.class_rows(names)] if names else []
    for label in found:
        assert calibration
        held_out = int((calibration.truth == label).sum())
        check_detection(bundle.classes[label], held_out, labels == label, sensitivity=sensitivity)
    return found


def _detected(bundle: Bundle, answers: Answers, label: int, sensitivity: float) -> Detection:
    calibration = bundle.calibration
    assert calibration
    return detection(
        bundle.classes[label],
        np.exp(answers.logits[:, label]),
        answers.labels == label,
        calibration.own[calibration.truth == label],
        sensitivity=sensitivity,
        units=answers.units,
    )
