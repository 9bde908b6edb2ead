"""`Evaluation`: the scores of one split, and how they are written: scores.json and predictions.csv.

Shapes: N images, K classes, V values of an attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fieldmark.core.errors import FieldmarkError, RunError
from fieldmark.core.listener import Listener
from fieldmark.core.locks import lock
from fieldmark.core.reading import read_json
from fieldmark.core.storage import cache_folder, make_folder, write_json, write_rows
from fieldmark.data.attributes import attribute_codes
from fieldmark.data.catalog import Catalog
from fieldmark.data.task import Task
from fieldmark.evaluation.attributes import AttributeScore, attribute_score
from fieldmark.evaluation.background import Reliance
from fieldmark.evaluation.grading import grade_scores
from fieldmark.evaluation.metrics import ConfusedPair, Score, confused_pairs, majority, scores
from fieldmark.evaluation.per_class import ClassScore, Detection, class_scores
from fieldmark.evaluation.severity import severity
from fieldmark.evaluation.verdict import Verdict
from fieldmark.evaluation.verdict_scores import VerdictScores
from fieldmark.runs.facts import Count, Scores

__all__ = [
    "ANSWER_COLUMNS",
    "CLASS_COLUMNS",
    "Answers",
    "Evaluation",
    "count_look",
    "read_scores",
    "score_answers",
    "write_evaluation",
]

Ints = NDArray[np.int64]
Floats = NDArray[np.floating]

CLASS_COLUMNS = [
    "class",
    "images",
    *(f"recall{end}" for end in ("", ".low", ".high")),
    *(f"precision{end}" for end in ("", ".low", ".high")),
    "auroc",
    *(f"covered{end}" for end in ("", ".low", ".high")),
    "below_band",
]
"""Of classes.csv; shares with their 95 % intervals, empty where nothing can be measured."""
ANSWER_COLUMNS = ("path", "label", "predicted", "probability", "correct", "label_probability")
"""Of predictions.csv, before those that a calibration and attributes add."""


@dataclass(frozen=True)
class Evaluation:
    """The scores of one split."""

    split: str
    scores: dict[str, Score]
    num_images: int
    confused: list[ConfusedPair]
    looks: int | None = None
    """How often this very test split has been scored on this machine, by any model; None for other splits."""
    unreadable: tuple[str, ...] = ()
    verdicts: VerdictScores | None = None
    """How far the verdicts can be trusted; None if the model is not calibrated, or was trained on these images."""
    reliance: Reliance | None = None
    """How much the model relies on the background; None unless asked for."""
    attributes: dict[str, AttributeScore] = field(default_factory=dict)
    """The score of each attribute that is learnt and that the data has."""
    classes: Sequence[ClassScore] = ()
    """The scores of each class that occurs."""
    of_interest: Sequence[Detection] = ()
    """How well the classes of interest are found."""
    enrolment: str = ""
    """Which classes were enrolled when it was made (`Enrolment.digest`); "" if none were."""
    folder: Path | None = field(default=None, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """The contents of scores.json."""
        return {
            **{name: score.as_dict() for name, score in self.scores.items()},
            "num_images": self.num_images,
            "looks": self.looks,
            "unreadable": list(self.unreadable),
            "confused": [vars(pair) for pair in self.confused],
            "verdicts": self.verdicts.as_dict() if self.verdicts else None,
            **({"enrolment": self.enrolment} if self.enrolment else {}),
            **({"of_interest": [one.as_dict() for one in self.of_interest]} if self.of_interest else {}),
            **({"attributes": {k: one.as_dict() for k, one in self.attributes.items()}} if self.attributes else {}),
        }


@final
@dataclass(frozen=True, eq=False)
class Answers:
    """The answers for some rows of a catalogue, ready to be scored."""

    catalog: Catalog
    rows: Ints
    """(N,)."""
    logits: Floats
    """(N, K) logits or log-probabilities."""
    units: Ints
    """(N,) images that belong together, by group or as near-duplicates, share a number."""
    attributes: Sequence[Floats] = ()
    """Logits (N, V) of each attribute of the task."""
    verdicts: Iterable[Verdict] | None = None
    """(N), which are taken once, when they are written; None if nobody speaks."""
    learnt: NDArray[np.bool_] | None = None
    """(N,) whether the model that answered has learnt the image's class; None if all have been."""

    @property
    def labels(self) -> Ints:
        """(N,)."""
        return self.catalog.labels[self.rows]


def score_answers(
    split: str, answers: Answers, task: Task | None = None, classes: Sequence[ClassScore] | None = None
) -> Evaluation:
    """The scores of answers; `task` says which scores make sense beside those of the class. The scores of the `classes`
    are made here if they are not given."""
    labels, together = answers.labels, answers.units
    told = _told(answers, task) if task else {}
    return Evaluation(
        split,
        scores(answers.logits, labels, together, learnt=answers.learnt)
        | {"majority": majority(labels, together)}
        | (_further(task, answers.logits.argmax(axis=1), labels, together) if task else {}),
        len(answers.rows),
        confused_pairs(answers.logits, labels, answers.catalog.classes),
        attributes={name: one.score for name, one in told.items() if one.score},
        classes=class_scores(answers.logits, labels, answers.catalog.classes, units=together)
        if classes is None
        else classes,
    )


def write_evaluation(folder: Path, evaluation: Evaluation, answers: Answers, task: Task | None = None) -> Evaluation:
    """Write scores.json and predictions.csv, and say where: the evaluation with its folder."""
    write_json(folder / "scores.json", evaluation.as_dict())
    told = _told(answers, task) if task else {}
    spoken = ("name", "level", "promised", "familiar", "possible") if answers.verdicts is not None else ()
    header = [*ANSWER_COLUMNS, *spoken, *(f"attribute.{name}" for name in told)]
    write_rows(folder / "predictions.csv", header, _rows(answers, told))
    if evaluation.classes:
        write_rows(folder / "classes.csv", CLASS_COLUMNS, map(_class_row, evaluation.classes))
    return replace(evaluation, folder=folder)


def _rows(answers: Answers, told: dict[str, _Told]) -> Iterator[Sequence[object]]:
    """Of predictions.csv."""
    catalog = answers.catalog
    verdicts = repeat(None, len(answers.rows)) if answers.verdicts is None else answers.verdicts
    for at, (row, label, verdict) in enumerate(zip(answers.rows, answers.labels, verdicts, strict=True)):
        p = softmax(answers.logits[at].astype(np.float64))
        guess = int(p.argmax())
        yield (
            catalog.paths[row],
            catalog.classes[label],
            catalog.classes[guess],
            f"{p[guess]:.6f}",
            int(label == guess),
            f"{p[label]:.6g}",  # digits that count: its logarithm is the likelihood
            *(_spoken(verdict) if verdict else ()),
            *(one.answers[at] for one in told.values()),
        )


def _spoken(verdict: Verdict) -> tuple[str, ...]:
    promised = "" if verdict.promised is None else f"{verdict.promised:g}"
    return verdict.name or "", verdict.level or "", promised, str(int(bool(verdict.familiar))), verdict.listed


def _class_row(one: ClassScore) -> list[object]:
    def figures(score: Score | None) -> list[str]:
        return ["", "", ""] if score is None else [f"{value:.4f}" for value in (score.value, score.low, score.high)]

    return [
        one.name,
        one.num_images,
        *figures(one.recall),
        *figures(one.precision),
        "" if one.auroc is None else f"{one.auroc:.4f}",
        *figures(one.covered),
        "" if one.covered is None else int(one.is_below),
    ]


def _further(
    task: Task, answers: NDArray[np.int64], labels: NDArray[np.int64], together: NDArray[np.int64]
) -> dict[str, Score]:
    """The scores that grades and a taxonomy allow for."""
    found: dict[str, Score] = {}
    if task.grades:
        found |= grade_scores(np.array(task.grades), answers, labels, together)
    if task.taxonomy:
        found |= severity(task.taxonomy, answers, labels, together)
    return found


class _Told(NamedTuple):
    """What was told of an attribute."""

    answers: list[str]
    score: AttributeScore | None


def _told(answers: Answers, task: Task) -> dict[str, _Told]:
    if not answers.attributes:
        return {}
    values = {one.name: one.values for one in task.attributes}
    codes, together = attribute_codes(answers.catalog, values)[answers.rows], answers.units
    return {
        name: _Told([known[guess] for guess in logits.argmax(axis=1)], attribute_score(logits, code, together))
        for (name, known), logits, code in zip(values.items(), answers.attributes, codes.T, strict=True)
    }


def count_look(digest: str, listener: Listener) -> int | None:
    """Count one more look at this test split, also if two processes do so at once. None if it cannot be counted."""
    path = cache_folder() / "looks.json"
    try:
        make_folder(path.parent)
        with lock(path.with_suffix(".lock")):
            counts = read_json(path, dict[str, Count]) if path.is_file() else {}
            counts[digest] = counts.get(digest, 0) + 1
            write_json(path, counts)
    except (FieldmarkError, OSError) as error:  # no reason to withhold the scores
        listener.warn(f"This look at the test split cannot be counted in {path}: {error}")
        return None
    return counts[digest]


def read_scores(folder: Path) -> Scores:
    """scores.json of a split, in the folder that `Run.evaluation` names. Raises RunError if it is absent or damaged."""
    hint = f"Evaluate again: fieldmark evaluate {folder.parent.parent} --split {folder.name}"
    try:
        return read_json(folder / "scores.json", Scores, hint=hint)
    except OSError:
        raise RunError(f"There is no {folder / 'scores.json'}", hint) from None
