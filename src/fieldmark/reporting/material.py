"""What a report is made from, read from a run on disk."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast, final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fieldmark.answering.explaining.explanation import Explanation
from fieldmark.core.errors import ImageError, RunError
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import read_rows
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import decode
from fieldmark.data.shards import is_there
from fieldmark.evaluation.metrics import ConfusedPair, Score, ScoreValues
from fieldmark.pages import picture
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.facts import DetectionValues, Environment, Facts, VerdictValues
from fieldmark.runs.record import ANSWER_COLUMNS, CLASS_COLUMNS, read_scores
from fieldmark.runs.run import Run

__all__ = ["TITLES", "Answer", "Material", "Pictures", "Split", "gather"]

TITLES = {"test": "test split", "val": "validation split", "crossfit": "out-of-fold answers", "all": "all splits"}
"""What can be shown, with a title for each. The first one that has been evaluated is shown by default."""
SHARES = ("top1", "top5", "mean_class_accuracy", "majority", "calibration_error")
FURTHER = ("quadratic_kappa", "grade_error", "tree_distance", "mistake_severity")
SCORES = (*SHARES[:4], "nll", *SHARES[4:], *FURTHER)


@final
@dataclass(frozen=True)
class Answer:
    """The answer of the model for one image: a row of predictions.csv."""

    path: str
    label: str
    predicted: str
    probability: float
    """The probability of `predicted`."""
    label_probability: float
    name: str = ""
    """The name that the verdict gives; "" if it gives none, or if there is no verdict."""
    level: str = ""
    """The level of `name`, "none" if there is no name; "" if there is no verdict."""
    familiar: bool = True
    """Whether the picture looks like those of the known classes."""
    promised: float | None = None
    """The accuracy that the answer is promised to have; None if nobody vouches for it."""

    @property
    def right(self) -> bool:
        return self.label == self.predicted

    @property
    def backed_off(self) -> bool:
        """Whether the verdict says less than the most likely class."""
        return bool(self.level) and self.name != self.predicted


@final
@dataclass(frozen=True)
class Split:
    """The evaluation of one split."""

    name: str
    scores: Mapping[str, Score]
    confused: Sequence[ConfusedPair]
    looks: int | None
    unreadable: Sequence[str]
    answers: Sequence[Answer]
    verdicts: VerdictValues | None = None
    """What verdicts promise and what was measured (`evaluation.verdict_scores`); None if that was not measured."""
    of_classes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The row of classes.csv of each class; {} where an earlier version evaluated."""
    of_interest: Sequence[DetectionValues] = ()
    """How well the classes of interest are found, as scores.json has it."""
    attributes: Mapping[str, tuple[Score, int]] = field(default_factory=dict)
    """The balanced accuracy of each attribute that was learnt, and the number of images whose value is known."""
    enrolment: str = ""
    """Which classes were enrolled when it was made; "" if none were."""

    @property
    def title(self) -> str:
        return TITLES.get(self.name, f"{self.name} split")

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,)"""
        return np.array([answer.right for answer in self.answers], bool)

    @cached_property
    def mistakes(self) -> list[Answer]:
        """The wrong answers, the most confident first."""
        return sorted((a for a in self.answers if not a.right), key=lambda a: (-a.probability, a.path))

    def sample(self, count: int, seed: int = 0) -> list[Answer]:
        """Answers drawn at random, the same ones for the same seed, in their original order."""
        drawn = np.random.default_rng(seed).permutation(len(self.answers))[:count]
        return [self.answers[at] for at in sorted(drawn)]


class Pictures:
    """The pictures of a page, decoded as they are asked for."""

    def __init__(self, roots: Sequence[Path], *, grey_bits: int | None = None) -> None:
        self._roots = roots
        self._grey_bits = grey_bits
        self._seen: dict[tuple[str, int], Markup | None] = {}

    def __call__(self, path: str, *, side: int = 160) -> Markup | None:
        """The picture for `<img src>`, or None if the file is gone or cannot be read."""
        if (path, side) not in self._seen:
            pixels = self.pixels(path, side=side)
            self._seen[path, side] = None if pixels is None else picture(pixels, side=side, quality=75)
        return self._seen[path, side]

    def pixels(self, path: str, *, side: int) -> NDArray[np.uint8] | None:
        """The pixels (H, W, 3), with a shorter side of at most `side`; None if the file cannot be read."""
        for root in self._roots:
            try:
                return decode(root / path, short_side=side, grey_bits=self._grey_bits).pixels
            except ImageError:
                continue
        return None

    def file(self, path: str) -> Path | None:
        """The file of a picture, or None if it is gone."""
        return next((root / path for root in self._roots if is_there(root / path)), None)

    @property
    def missing(self) -> list[str]:
        """The pictures that were asked for and could not be read."""
        return sorted({path for (path, _), image in self._seen.items() if image is None})

    @property
    def count(self) -> int:
        """The number of different pictures that were asked for."""
        return len({path for path, _ in self._seen})


@final
@dataclass(frozen=True)
class Material:
    """Everything that a report needs. The labels of test images come from predictions.csv alone."""

    run: Run
    recipe: Recipe
    data: Facts
    """The contents of data.json; {} if training stopped before the data was read."""
    environment: Environment
    provenance: Mapping[str, Any]
    """The provenance of the bundle; {} if training is not finished."""
    enrolment: str
    """Which classes are enrolled now; "" if none are."""
    splits: Sequence[Split]
    """The splits that were evaluated, in the order of TITLES."""
    shown: Split | None
    """The split that most of the page is about; None if nothing was evaluated."""
    catalog: Catalog | None
    """The data, for attributes, boxes, key points and groups; None if it can no longer be read."""
    lost: str
    """The reason why there is no catalogue, or ""."""
    pictures: Pictures
    explained: Mapping[tuple[str, str], Sequence[Explanation]] = field(default_factory=dict)
    """For each confused pair, correct answers of either class, explained against the other."""

    @property
    def classes(self) -> list[str]:
        return list(self.data.get("classes", ()))

    @cached_property
    def images(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """The images (path, label) of each split; of the test split, those that were evaluated."""
        found: dict[str, list[tuple[str, str]]] = {"train": [], "val": []}
        for row in self.run.images():
            if row["split"] in found:
                found[row["split"]].append((row["path"], row.get("label", "")))
        test = next((split for split in self.splits if split.name == "test"), None)
        return found | {"test": [(answer.path, answer.label) for answer in test.answers] if test else []}

    @cached_property
    def learnt(self) -> Mapping[str, Sequence[str]]:
        """The training images of each class."""
        found: dict[str, list[str]] = {}
        for path, label in self.images["train"]:
            found.setdefault(label, []).append(path)
        return found

    def counts(self, split: str) -> Counter[str]:
        """The number of images of each class in a split."""
        return Counter(label for _, label in self.images[split])


def gather(
    run: Run, catalog: Catalog | None, *, lost: str = "", split: str | None = None, other: Path | None = None
) -> Material:
    """Read a run. `split` is the split to show; `other` is a further folder in which pictures are looked for.

    Raises RunError if there is no run, or if `split` has not been evaluated.
    """
    environment = Run.open(run.folder).environment()
    bundle = Bundle.load(run.bundle) if run.is_finished else None
    data = run.data()
    splits = _splits(run)
    roots = [Path(data["root"])] if data else []
    recipe = run.recipe()
    grey_bits = recipe.images.grey_depth or (run.decided("grey_bits") or {}).get("bits")
    return Material(
        run=run,
        recipe=recipe,
        data=data,
        environment=environment,
        provenance=bundle.provenance if bundle else {},
        enrolment=bundle.enrolled_as if bundle else "",
        splits=splits,
        shown=_shown(run, splits, split),
        catalog=catalog,
        lost=lost,
        pictures=Pictures([*([other] if other else []), *roots], grey_bits=grey_bits),
    )


def _shown(run: Run, splits: Sequence[Split], split: str | None) -> Split | None:
    names = [one.name for one in splits]
    if split is None:
        return splits[0] if splits else None
    if split not in names:
        known = f" Evaluated so far: {', '.join(names)}." if names else ""
        raise RunError(
            f"{run.folder} has no predictions for the split {split!r}",
            f"Run `fieldmark evaluate {run.folder} --split {split}` first.{known}",
        )
    return splits[names.index(split)]


def _splits(run: Run) -> list[Split]:
    """The splits that were evaluated, in the order of TITLES."""
    folders = [file.parent for file in run.evaluation("*").parent.glob("*/predictions.csv")]
    order = [*TITLES, *sorted(folder.name for folder in folders)]
    return [_split(folder) for folder in sorted(folders, key=lambda folder: order.index(folder.name))]


def _split(folder: Path) -> Split:
    hint = f"Evaluate again: fieldmark evaluate {folder.parent.parent} --split {folder.name}"
    try:
        written = read_scores(folder)
        figures = cast("Mapping[str, ScoreValues]", written)
        return Split(
            folder.name,
            {name: Score.of(found, percent=name in SHARES) for name in SCORES if (found := figures.get(name))},
            [ConfusedPair(**pair) for pair in written["confused"]],
            written["looks"],
            written["unreadable"],
            [
                Answer(
                    row["path"],
                    row["label"],
                    row["predicted"],
                    _number(row["probability"]),
                    _number(row["label_probability"]),
                    row.get("name", ""),
                    row.get("level", ""),
                    row.get("familiar", "1") == "1",
                    float(row["promised"]) if row.get("promised") else None,
                )
                for row in read_rows(folder / "predictions.csv", ANSWER_COLUMNS, hint=hint)
            ],
            written.get("verdicts"),
            _of_classes(folder / "classes.csv", hint),
            written.get("of_interest", ()),
            {name: (Score.of(found), found["num_images"]) for name, found in written.get("attributes", {}).items()},
            written.get("enrolment", ""),
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"The evaluation in {folder} cannot be read ({type(error).__name__}: {error})", hint) from None


def _of_classes(table: Path, hint: str) -> Mapping[str, Mapping[str, str]]:
    """The rows of classes.csv, by class; {} where there is none. All but the name is a number or empty."""
    if not table.exists():
        return {}
    rows = read_rows(table, CLASS_COLUMNS, hint=hint)
    for row in rows:
        for name in CLASS_COLUMNS[1:]:
            if row[name]:
                _number(row[name])
    return {row["class"]: row for row in rows}


def _number(text: str) -> float:
    """The number that a cell holds. Raises ValueError if it is none, or is not finite."""
    if not math.isfinite(number := float(text)):
        raise ValueError(f"{text!r} is not a finite number")
    return number
