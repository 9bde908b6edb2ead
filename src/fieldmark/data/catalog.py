"""`Catalog`: the table of samples that every reader produces and every later stage consumes.

Shapes: N samples, K classes, P key points.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError
from fieldmark.core.listener import DataRead
from fieldmark.core.wording import counted
from fieldmark.data.names import normal
from fieldmark.data.remote import below
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.data.texts import chosen

__all__ = ["SPLITS", "Catalog", "Split", "called_in", "data_read"]

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, eq=False, repr=False)
class Catalog:
    """Samples, the names of their classes and the taxonomy above them.

    All per-sample fields have length N and stand in the same order. Coordinates are pixels of the upright
    original image (EXIF orientation applied).
    """

    name: str
    root: Path
    """Absolute folder, or the address of one, that `paths` are relative to."""
    paths: Sequence[str]
    """(N) with forward slashes, relative to `root`, absolute or addresses; of pictures in shards, see `shards.py`."""
    labels: NDArray[np.int64]
    """(N,) index into `classes`."""
    classes: tuple[str, ...]
    """(K) in official order where there is one, else sorted naturally; `normal` names, whatever was given."""
    splits: NDArray[np.str_]
    """(N,) "train", "val", "test", or "" if the data does not say."""
    groups: NDArray[np.str_]
    """(N,) what must stay together (burst, patient, individual); "" where a sample stands alone."""
    boxes: NDArray[np.float32] | None = None
    """(N, 4) x, y, width, height; NaN where a sample has none."""
    keypoint_names: tuple[str, ...] = ()
    keypoints: NDArray[np.float32] | None = None
    """(N, P, 3) x, y, visible (0 or 1); NaN coordinates where there is none."""
    taxonomy: Taxonomy = None  # type: ignore[assignment]  # set below: it needs the classes
    """The classes and the levels above them; no levels by default."""
    attributes: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    """Attribute name → its value for each sample (N,), "" where unknown."""
    masks: Sequence[str] = ()
    """(N) pictures, relative to `root`, whose pixels above 0 are the object; "" where there is none. () if nowhere."""

    def __post_init__(self) -> None:
        if self.taxonomy is None:
            object.__setattr__(self, "taxonomy", Taxonomy(self.classes))
        self._name_normally()
        n = len(self.paths)
        assert len(self.labels) == len(self.splits) == len(self.groups) == n
        assert self.boxes is None or self.boxes.shape == (n, 4)
        assert len(self.masks) in (0, n)
        assert self.keypoints is None or self.keypoints.shape == (n, len(self.keypoint_names), 3)
        assert self.taxonomy.classes == self.classes
        assert all(len(values) == n for values in self.attributes.values())

    def _name_normally(self) -> None:
        """Raises DataError for two classes of one name."""
        classes = tuple(map(normal, self.classes))
        if len(named := set(classes)) < len(classes):
            twice = next(name for name in named if classes.count(name) > 1)
            raise DataError(f"{self.name} has two classes called {twice!r}", "Make them one class, or rename one.")
        if classes != self.classes:
            object.__setattr__(self, "classes", classes)
            object.__setattr__(self, "taxonomy", Taxonomy(classes, self.taxonomy.above))

    def __len__(self) -> int:
        return len(self.paths)

    def __repr__(self) -> str:
        parts = [counted(len(self), "image"), f"{len(self.classes):,} classes"]
        counts = [f"{int((self.splits == split).sum()):,} {split}" for split in SPLITS if (self.splits == split).any()]
        if counts and (rest := int((self.splits == "").sum())):
            counts.append(f"{rest:,} not split yet")
        parts.append(" / ".join(counts) if counts else "not split")
        if self.taxonomy:
            parts.append("taxonomy " + " < ".join(self.taxonomy))
        if self.boxes is not None:
            parts.append("boxes")
        if self.masks:
            parts.append("masks")
        if self.keypoints is not None:
            parts.append(counted(len(self.keypoint_names), "key point"))
        if self.attributes:
            parts.append(counted(len(self.attributes), "attribute"))
        return f"Catalog({self.name!r}: {', '.join(parts)})"

    @property
    def is_split(self) -> bool:
        """Whether every sample belongs to a split."""
        return bool((self.splits != "").all())

    def file(self, row: int) -> Path:
        """The file of sample `row`."""
        return self.file_at(self.paths[row])

    def place(self, row: int) -> str:
        """The file of sample `row` as text, which is much quicker than a Path where all are asked for."""
        return below(self.root, self.paths[row])

    def file_at(self, path: str) -> Path:
        """The file of one of the paths, which may be the address of a picture that came later."""
        return Path(below(self.root, path))

    def rows(self, split: str) -> NDArray[np.int64]:
        """The rows of one split, in catalogue order."""
        return np.flatnonzero(self.splits == split)

    def select(self, rows: NDArray[np.int64]) -> Self:
        """A catalogue of these rows; classes and taxonomy stay as they are."""
        return replace(
            self,
            paths=chosen(self.paths, rows),
            labels=self.labels[rows],
            splits=self.splits[rows],
            groups=self.groups[rows],
            boxes=None if self.boxes is None else self.boxes[rows],
            masks=chosen(self.masks, rows) if self.masks else (),
            keypoints=None if self.keypoints is None else self.keypoints[rows],
            attributes={name: values[rows] for name, values in self.attributes.items()},
        )

    def digest(self, split: str) -> str:
        """A hash of the paths and class names of one split, in any order. It identifies a test split across runs."""
        rows = self.rows(split)
        labels = zip(rows.tolist(), self.labels[rows].tolist(), strict=True)
        lines = sorted(f"{self.paths[row]}\t{self.classes[label]}" for row, label in labels)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def data_read(catalog: Catalog) -> DataRead:
    """The event that says this catalogue was read."""
    splits: dict[str, int] = {split: len(catalog.rows(split)) for split in SPLITS if len(catalog.rows(split))}
    return DataRead(catalog.name, len(catalog), len(catalog.classes), splits, repr(catalog))


def called_in(root: Path, path: str) -> str:
    """What a catalogue with this root calls an absolute path: relative to the root where it lies below."""
    above = root.as_posix().rstrip("/") + "/"
    return path.removeprefix(above)
