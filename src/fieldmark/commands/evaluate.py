"""Evaluate: how good is it, and how sure is that?"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax
from torch import Tensor

from fieldmark.bundle import Bundle, short_side, stacked
from fieldmark.commands.background import check_reliance, measure_reliance
from fieldmark.commands.listener import Listener, relayed_warnings
from fieldmark.data.attributes import attribute_codes, unscored
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.decode import decode
from fieldmark.data.splits import counted, first_few, units
from fieldmark.datasets import find, read
from fieldmark.errors import DataError, ImageError, RunError, StorageError, nearest
from fieldmark.evaluation.attributes import AttributeScore, attribute_score
from fieldmark.evaluation.background import Reliance
from fieldmark.evaluation.calibration import calibrate
from fieldmark.evaluation.grading import grade_scores
from fieldmark.evaluation.metrics import ConfusedPair, Score, confused_pairs, scores
from fieldmark.evaluation.severity import severity
from fieldmark.evaluation.trust import Trust, measure_trust
from fieldmark.evaluation.unknown import nearness
from fieldmark.evaluation.verdict import Verdict
from fieldmark.losses.loss import Task
from fieldmark.model.inference import Outputs, infer
from fieldmark.run import Run, write_table
from fieldmark.storage import cache_folder, make_folder, read_json, write_json

__all__ = ["Evaluation", "catalog_of", "evaluate", "opened_run", "write_evaluation"]

EVERYTHING = "all"
_COLUMNS = ("path", "label", "predicted", "probability", "correct", "label_probability")


@dataclass(frozen=True)
class Evaluation:
    """The scores of one part."""

    part: str
    scores: dict[str, Score]
    num_images: int
    confused: list[ConfusedPair]
    looks: int | None = None
    """How often this very test part has been scored on this machine, by any model; none for other parts."""
    unreadable: tuple[str, ...] = ()
    trust: Trust | None = None
    """How far its verdicts can be trusted; none where it is not calibrated, or has learnt from these images."""
    reliance: Reliance | None = None
    """How much it leans on the background; none unless asked for."""
    attributes: dict[str, AttributeScore] = field(default_factory=dict)
    """Of each attribute that is learnt and that the data knows."""
    folder: Path | None = field(default=None, compare=False)

    def as_dict(self) -> dict[str, Any]:
        """What stands in scores.json."""
        return {
            **{name: score.as_dict() for name, score in self.scores.items()},
            "num_images": self.num_images,
            "looks": self.looks,
            "unreadable": list(self.unreadable),
            "confused": [vars(pair) for pair in self.confused],
            "trust": self.trust.as_dict() if self.trust else None,
            **({"attributes": {k: one.as_dict() for k, one in self.attributes.items()}} if self.attributes else {}),
        }


def evaluate(
    run: Path | str,
    data: Path | str | Catalog | None = None,
    *,
    root: Path | str | None = None,
    split: str | None = None,
    accuracy: float | None = None,
    coverage: float | None = None,
    background: bool = False,
    listener: Listener | None = None,
) -> Evaluation:
    """Score a run on its own data or on other; the test part unless told otherwise.

    `data` is what `fieldmark.train` takes. Other data that is not split is scored whole, as "all". A calibrated run is
    held to an accuracy of given answers and a coverage of sets, 95 % and 90 % unless given. The run's own validation
    images are calibrated without their own labels, as in training. With `background` it is also measured how much the
    answers lean on the background, for which the data needs boxes or masks. Raises RunError and DataError.
    """
    listener = listener or Listener()
    opened = opened_run(Path(run))
    bundle = Bundle.load(run)
    rules = bundle.rules(accuracy, coverage)
    with relayed_warnings(listener):
        catalog = catalog_of(opened, data, root, listener)
    part = split or _default_part(catalog)
    rows = np.arange(len(catalog)) if part == EVERYTHING else catalog.rows(part)
    if not len(rows):
        found = [*(name for name in SPLITS if len(catalog.rows(name))), EVERYTHING]
        raise DataError(f"{catalog.name} has no {part} part", f"Choose one with --split: {', '.join(found)}.")
    catalog = _with_classes_of(bundle, catalog, rows)
    if background:
        check_reliance(bundle, catalog, rows)  # before the test part is looked at
    with opened.timed("evaluating"):
        outputs, readable, unreadable = _answers(bundle, catalog, rows, listener)
    if len(unreadable):
        names = first_few(unreadable)
        listener.warn(f"{len(unreadable):,} of {len(rows):,} images cannot be read and are left out: {names}")
    for problem in unscored(catalog, bundle.attributes, readable):
        listener.warn(problem)
    answers, together = bundle.log_probabilities(outputs.logits), units(catalog)[readable]
    if data is None and part == "val" and bundle.judge:  # its scaling has seen these labels
        seed = int(bundle.provenance.get("seed", 0))
        answers = calibrate(outputs.logits, catalog.labels[readable], together, seed=seed).held_out
    looks = _count_look(catalog.digest("test"), listener) if part == "test" else None
    trust = None
    if rules and (part == "test" or (catalog.splits == "").all()):  # what it has learnt from would flatter it
        for note in rules.notes:
            listener.note(note + ".")
        near = nearness(outputs.embedding, rules.judge.means)
        trust = measure_trust(rules, outputs.logits, near, catalog.labels[readable], together)
    result = write_evaluation(
        opened,
        part,
        catalog,
        readable,
        answers,
        task=bundle.task,
        attributes=outputs.attributes,
        verdicts=bundle.verdicts([catalog.paths[row] for row in readable], outputs, rules) if rules else (),
        trust=trust,
        looks=looks,
        unreadable=unreadable,
    )
    if not background:
        return result
    with opened.timed("exchanging backgrounds"):
        gap = measure_reliance(bundle, catalog, readable, opened.evaluation(part), listener)
    return replace(result, reliance=gap)


def write_evaluation(
    run: Run,
    part: str,
    catalog: Catalog,
    rows: NDArray[np.int64],
    logits: NDArray[np.floating],
    *,
    task: Task | None = None,
    attributes: Sequence[NDArray[np.floating]] = (),
    verdicts: Sequence[Verdict] = (),
    trust: Trust | None = None,
    looks: int | None = None,
    unreadable: Sequence[str] = (),
) -> Evaluation:
    """Score logits or log-probabilities (len(rows), K) and write scores.json and predictions.csv.

    `task` says which further scores make sense; `attributes` are the logits (len(rows), V) of each of its attributes.
    """
    labels, together = catalog.labels[rows], units(catalog)[rows]
    told = _told(catalog, rows, task, attributes) if task and attributes else {}
    folder = run.evaluation(part)
    result = Evaluation(
        part,
        scores(logits, labels, together) | (_further(task, logits.argmax(axis=1), labels, together) if task else {}),
        len(rows),
        confused_pairs(logits, labels, catalog.classes),
        looks,
        tuple(unreadable),
        trust,
        attributes={name: one.score for name, one in told.items() if one.score},
        folder=folder,
    )
    write_json(folder / "scores.json", result.as_dict())
    probabilities = softmax(logits.astype(np.float64), axis=1)
    best = probabilities.argmax(1)
    spoken: list[tuple[str, ...]] = [()] * len(rows)
    if verdicts:
        spoken = [(v.name or "", v.level or "", "; ".join(v.possible or ())) for v in verdicts]
    write_table(
        folder / "predictions.csv",
        [*_COLUMNS, *(("name", "level", "possible") if verdicts else ()), *(f"attribute.{name}" for name in told)],
        (
            (
                catalog.paths[row],
                catalog.classes[label],
                catalog.classes[guess],
                f"{p[guess]:.6f}",
                int(label == guess),
                f"{p[label]:.6g}",  # digits that count: its logarithm is the likelihood
                *more,
                *(one.answers[at] for one in told.values()),
            )
            for at, (row, label, guess, p, more) in enumerate(
                zip(rows, labels, best, probabilities, spoken, strict=True)
            )
        ),
    )
    return result


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


def _told(
    catalog: Catalog, rows: NDArray[np.int64], task: Task, attributes: Sequence[NDArray[np.floating]]
) -> dict[str, _Told]:
    values = {one.name: one.values for one in task.attributes}
    codes, together = attribute_codes(catalog, values)[rows], units(catalog)[rows]
    return {
        name: _Told([known[guess] for guess in logits.argmax(axis=1)], attribute_score(logits, code, together))
        for (name, known), logits, code in zip(values.items(), attributes, codes.T, strict=True)
    }


def opened_run(path: Path) -> Run:
    """The run, also where its own bundle is named: the run knows which images were learnt from."""
    parent = Run(path.resolve().parent)
    return Run(path.parent) if parent.exists and path.resolve() == parent.bundle else Run(path)


def catalog_of(run: Run, data: Path | str | Catalog | None, root: Path | str | None, listener: Listener) -> Catalog:
    """The data to look at: the run's own unless given, split as it was in training; what came to it later belongs to no
    part."""
    known = run.data()
    if data is None:
        if not known:
            raise RunError(f"{run.folder} does not say what it was trained on", "Name the data: evaluate RUN DATA.")
        data = known["source"]
    if not isinstance(data, Catalog):
        data = find(data, root, tell=listener.note)
    catalog = data if isinstance(data, Catalog) else read(data, tell=listener.note)
    if not known or str(catalog.root) != known["root"]:
        return catalog
    parts = run.splits()
    own = not isinstance(data, Catalog) and str(Path(data).resolve()) == known["source"]
    if not own and not all(path in parts for path in catalog.paths):
        return catalog
    splits = [parts.get(path, said) for path, said in zip(catalog.paths, catalog.splits, strict=True)]
    if strangers := [path for path, part in zip(catalog.paths, splits, strict=True) if not part]:
        them = f"{counted(len(strangers), 'image')} belong to no part, as they could not be read in training or are new"
        listener.warn(f"{them}: {first_few(strangers)}")
    return replace(catalog, splits=np.array(splits, "<U5"))


def _default_part(catalog: Catalog) -> str:
    return EVERYTHING if (catalog.splits == "").all() else "test"


def _with_classes_of(bundle: Bundle, catalog: Catalog, rows: NDArray[np.int64]) -> Catalog:
    """Labels renumbered as the bundle knows them."""
    used = sorted({catalog.classes[label] for label in catalog.labels[rows]})
    unknown = [name for name in used if name not in set(bundle.classes)]
    if unknown:
        raise DataError(
            f"{len(unknown)} of {len(used)} classes in {catalog.name} are unknown to the model: {first_few(unknown)}",
            nearest(unknown[0], bundle.classes),
        )
    index = {name: k for k, name in enumerate(bundle.classes)}
    renumbered = np.array([index.get(name, -1) for name in catalog.classes], np.int64)
    return replace(catalog, classes=bundle.classes, labels=renumbered[catalog.labels], taxonomy=bundle.taxonomy)


def _answers(
    bundle: Bundle, catalog: Catalog, rows: NDArray[np.int64], listener: Listener
) -> tuple[Outputs, NDArray[np.int64], list[str]]:
    """Answers for the rows that can be read, those rows, and the paths of the others."""
    view, side = bundle.view, short_side(bundle.images)
    readable: list[int] = []
    unreadable: list[str] = []

    def views() -> Iterator[Tensor]:
        with listener.progress("Answering") as tick:
            for done, row in enumerate(rows):
                try:
                    pixels = decode(catalog.file(int(row)), short_side=side).pixels
                except ImageError:
                    unreadable.append(catalog.paths[row])
                else:
                    readable.append(int(row))
                    yield view(pixels)
                tick(done + 1, len(rows))

    outputs = infer(bundle.method, stacked(views(), 32))
    if not readable:
        raise DataError(f"None of the {len(rows):,} images can be read", f"Check {catalog.file(int(rows[0]))}.")
    return outputs, np.array(readable), unreadable


def _count_look(digest: str, listener: Listener) -> int | None:
    """One more look at this test part; two processes at once do not lose one. None where it cannot be counted."""
    path = cache_folder() / "looks.json"
    try:
        make_folder(path.parent)
        with path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            counts = read_json(path) if path.is_file() else {}
            counts[digest] = int(counts.get(digest, 0)) + 1
            write_json(path, counts)
    except (StorageError, OSError, ValueError) as error:  # no reason to withhold the scores
        listener.warn(f"This look at the test part cannot be counted in {path}: {error}")
        return None
    return int(counts[digest])
