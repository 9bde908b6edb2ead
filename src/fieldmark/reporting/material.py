"""What a report is made from, read from a run as it lies on disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, final

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fieldmark.answering.explaining.explanation import Explanation
from fieldmark.core.errors import ImageError, RunError
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import read_json, read_rows
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import decode
from fieldmark.evaluation.metrics import ConfusedPair, Score
from fieldmark.pages import picture
from fieldmark.runs.run import Run

__all__ = ["PARTS", "Answer", "Material", "Part", "Pictures", "gather"]

PARTS = {"test": "test part", "val": "validation part", "crossfit": "out-of-fold answers", "all": "all parts"}
"""What is shown, the first of these that has been evaluated, and what it is called."""
SHARES = ("top1", "top5", "mean_class_accuracy", "calibration_error")
FURTHER = ("quadratic_kappa", "grade_error", "tree_distance", "mistake_severity")
SCORES = (*SHARES[:3], "nll", *SHARES[3:], *FURTHER)


@final
@dataclass(frozen=True)
class Answer:
    """What the model said of one image; a row of predictions.csv."""

    path: str
    label: str
    predicted: str
    probability: float
    """Of `predicted`."""
    label_probability: float
    name: str = ""
    """What the verdict vouches for; "" for nothing, and where there is no verdict."""
    level: str = ""
    """Of `name`, "none" for nothing; "" where there is no verdict."""

    @property
    def right(self) -> bool:
        return self.label == self.predicted

    @property
    def backed_off(self) -> bool:
        """Whether the verdict vouches for less than the likeliest class."""
        return bool(self.level) and self.name != self.predicted


@final
@dataclass(frozen=True)
class Part:
    """The evaluation of one part."""

    name: str
    scores: Mapping[str, Score]
    confused: Sequence[ConfusedPair]
    looks: int | None
    unreadable: Sequence[str]
    answers: Sequence[Answer]
    verdicts: Mapping[str, Any] | None = None
    """What verdicts promised and what was found (`evaluation.verdict_scores`); none where that was not measured."""
    attributes: Mapping[str, tuple[Score, int]] = field(default_factory=dict)
    """Balanced accuracy of each attribute that is learnt, and the images of which it is known."""

    @property
    def title(self) -> str:
        return PARTS.get(self.name, f"{self.name} part")

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,)"""
        return np.array([answer.right for answer in self.answers], bool)

    @property
    def mistakes(self) -> list[Answer]:
        """The most confident first."""
        return sorted((a for a in self.answers if not a.right), key=lambda a: (-a.probability, a.path))

    def sample(self, count: int, seed: int = 0) -> list[Answer]:
        """Answers drawn at random, each time the same ones, in the order of the part."""
        drawn = np.random.default_rng(seed).permutation(len(self.answers))[:count]
        return [self.answers[at] for at in sorted(drawn)]


class Pictures:
    """Decodes the pictures that are shown, and no others."""

    def __init__(self, roots: Sequence[Path]) -> None:
        self._roots = roots
        self._seen: dict[tuple[str, int], Markup | None] = {}

    def __call__(self, path: str, *, side: int = 160) -> Markup | None:
        """For `<img src>`; None where the file is not there any more or cannot be read."""
        if (path, side) not in self._seen:
            pixels = self.pixels(path, side=side)
            self._seen[path, side] = None if pixels is None else picture(pixels, side=side, quality=75)
        return self._seen[path, side]

    def pixels(self, path: str, *, side: int) -> NDArray[np.uint8] | None:
        """(H, W, 3), the shorter side at most `side`."""
        for root in self._roots:
            try:
                return decode(root / path, short_side=side).pixels
            except ImageError:
                continue
        return None

    def file(self, path: str) -> Path | None:
        """Where a picture lies."""
        return next((root / path for root in self._roots if (root / path).is_file()), None)

    @property
    def missing(self) -> list[str]:
        """Those that were asked for in vain."""
        return sorted({path for (path, _), image in self._seen.items() if image is None})

    @property
    def count(self) -> int:
        """How many different ones were asked for."""
        return len({path for path, _ in self._seen})


@final
@dataclass(frozen=True)
class Material:
    """All that a report speaks of. Labels of test images are known from predictions.csv alone."""

    run: Run
    recipe: Recipe
    data: Mapping[str, Any]
    """data.json; {} where training stopped before the data was read."""
    environment: Mapping[str, Any]
    provenance: Mapping[str, Any]
    """Of the bundle; {} where training is not finished."""
    parts: Sequence[Part]
    shown: Part | None
    """The part that most of the page is about; None where nothing was evaluated."""
    catalog: Catalog | None
    """Of attributes, boxes, key points and groups; None where the data cannot be read any more."""
    lost: str
    """Why there is no catalogue."""
    pictures: Pictures
    explained: Mapping[tuple[str, str], Sequence[Explanation]] = field(default_factory=dict)
    """A confused pair → a right answer of either, explained against the other."""

    @property
    def classes(self) -> list[str]:
        return list(self.data.get("classes", ()))

    @cached_property
    def images(self) -> Mapping[str, Sequence[tuple[str, str]]]:
        """Part → (path, label) of its images; the test part's as far as it was evaluated."""
        parts: dict[str, list[tuple[str, str]]] = {"train": [], "val": []}
        for row in self.run.images():
            if row["split"] in parts:
                parts[row["split"]].append((row["path"], row.get("label", "")))
        test = next((part for part in self.parts if part.name == "test"), None)
        return parts | {"test": [(answer.path, answer.label) for answer in test.answers] if test else []}

    @cached_property
    def learnt(self) -> Mapping[str, Sequence[str]]:
        """Class → its training images."""
        found: dict[str, list[str]] = {}
        for path, label in self.images["train"]:
            found.setdefault(label, []).append(path)
        return found

    def counts(self, part: str) -> Counter[str]:
        """Class → images of a part."""
        return Counter(label for _, label in self.images[part])


def gather(
    run: Run, catalog: Catalog | None, *, lost: str = "", split: str | None = None, other: Path | None = None
) -> Material:
    """Read a run. `split` is the part to show; `other` a folder where pictures may lie besides the run's own.

    Raises RunError where there is no run, or `split` has not been evaluated.
    """
    environment = read_json(Run.open(run.folder).folder / "environment.json")
    data = run.data()
    parts = _parts(run)
    roots = [Path(data["root"])] if data else []
    return Material(
        run=run,
        recipe=run.recipe(),
        data=data,
        environment=environment,
        provenance=read_json(run.bundle / "model.json")["provenance"] if run.is_finished else {},
        parts=parts,
        shown=_shown(run, parts, split),
        catalog=catalog,
        lost=lost,
        pictures=Pictures([*([other] if other else []), *roots]),
    )


def _shown(run: Run, parts: Sequence[Part], split: str | None) -> Part | None:
    names = [part.name for part in parts]
    if split is None:
        return parts[0] if parts else None
    if split not in names:
        known = f" There is: {', '.join(names)}." if names else ""
        raise RunError(
            f"{run.folder} holds no predictions of the part {split!r}",
            f"Run `fieldmark evaluate {run.folder} --split {split}` first.{known}",
        )
    return parts[names.index(split)]


def _parts(run: Run) -> list[Part]:
    """What was evaluated, in the order of PARTS."""
    folders = [file.parent for file in run.evaluation("*").parent.glob("*/predictions.csv")]
    order = [*PARTS, *sorted(folder.name for folder in folders)]
    return [_part(folder) for folder in sorted(folders, key=lambda folder: order.index(folder.name))]


def _part(folder: Path) -> Part:
    try:
        written = read_json(folder / "scores.json")
        return Part(
            folder.name,
            {
                name: Score(found["value"], found["low"], found["high"], percent=name in SHARES)
                for name in SCORES
                if (found := written.get(name))
            },
            [ConfusedPair(**pair) for pair in written["confused"]],
            written["looks"],
            written["unreadable"],
            [
                Answer(
                    row["path"],
                    row["label"],
                    row["predicted"],
                    float(row["probability"]),
                    float(row["label_probability"]),
                    row.get("name", ""),
                    row.get("level", ""),
                )
                for row in read_rows(folder / "predictions.csv")
            ],
            written.get("verdicts"),
            {
                name: (Score(found["value"], found["low"], found["high"]), int(found["num_images"]))
                for name, found in written.get("attributes", {}).items()
            },
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"What was evaluated in {folder} cannot be read ({type(error).__name__}: {error})",
            f"Evaluate again: fieldmark evaluate {folder.parent.parent} --split {folder.name}",
        ) from None
