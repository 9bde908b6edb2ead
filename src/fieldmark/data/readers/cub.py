"""The official layout of CUB-200-2011, also for a subset of it.

Wah et al., "The Caltech-UCSD Birds-200-2011 Dataset", 2011, https://www.vision.caltech.edu/datasets/cub_200_2011/

Shapes: N samples, P key points.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError
from fieldmark.core.reading import read_regular
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.table import check_images
from fieldmark.data.taxonomy import Taxonomy

__all__ = ["CUB_FILES", "read_cub"]

CUB_FILES = ("images.txt", "image_class_labels.txt", "classes.txt")
"""The files that a folder of this layout must have; boxes, parts and the split are read if they are there."""


def read_cub(root: Path) -> Catalog:
    """Read images, labels and, where there are such files, the official split, boxes, segmentations and the 15 key
    points.

    "001.Black_footed_Albatross" becomes "Black footed Albatross", in official order; the level "genus" is the last
    word of the English name, "Albatross", which is near the genus but not the same. Classes without an image are left
    out. Coordinates are kept as the files give them; those of parts marked invisible (0, 0 there) become NaN.

    Raises DataError, with file and line, for a malformed line, an unknown image or class, and a missing image.
    """
    listed = _lines(root / "images.txt", 2)
    rows = {line.fields[0]: row for row, line in enumerate(listed)}
    paths = [f"images/{line.fields[1]}" for line in listed]
    if len(rows) < len(listed):
        raise DataError(f"{root / 'images.txt'} lists an image number twice", "Expected each number once.")
    check_images(root, paths, root / "images.txt", [line.number for line in listed])
    labels, classes = _labels(root, rows)
    names, keypoints = _keypoints(root, rows)
    return Catalog(
        name=root.name,
        root=root,
        paths=tuple(paths),
        labels=labels,
        classes=classes,
        splits=_splits(root / "train_test_split.txt", rows),
        groups=np.full(len(rows), "", dtype="<U1"),
        boxes=_boxes(root / "bounding_boxes.txt", rows),
        masks=_masks(root, paths),
        keypoint_names=names,
        keypoints=keypoints,
        taxonomy=Taxonomy.of(classes, {"genus": [name.split()[-1] for name in classes]}),
    )


class _Line(NamedTuple):
    file: Path
    number: int
    fields: list[str]

    def error(self, problem: str) -> DataError:
        hint = "Expected the official CUB-200-2011 files. Unpack the data set again."
        return DataError(f"{self.file}, line {self.number}: {problem}", hint)

    def row(self, rows: Mapping[str, int]) -> int:
        """The row of the image that the line is about."""
        if self.fields[0] not in rows:
            raise self.error(f"image {self.fields[0]!r} is not in images.txt")
        return rows[self.fields[0]]

    def numbers(self) -> list[float]:
        """The fields after the image's number."""
        try:
            numbers = [float(field) for field in self.fields[1:]]
        except ValueError:
            numbers = [math.nan]
        if not all(map(math.isfinite, numbers)):
            raise self.error(f"expected numbers, got {' '.join(self.fields[1:])!r}")
        return numbers


def _lines(file: Path, num_fields: int) -> list[_Line]:
    """The lines that are not blank, each in `num_fields` fields, the last of which may hold spaces."""
    try:
        text = read_regular(file).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"Cannot read {file}: {error}", "Unpack the data set again.") from error
    split = (line.split(maxsplit=num_fields - 1) for line in text.splitlines())
    lines = [_Line(file, number, fields) for number, fields in enumerate(split, start=1) if fields]
    for line in lines:
        if len(line.fields) != num_fields:
            raise line.error(f"expected {num_fields} fields, got {' '.join(line.fields)!r}")
    return lines


def _labels(root: Path, rows: Mapping[str, int]) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(N,) the labels, and the clean names of the classes that have images."""
    official = [line.fields for line in _lines(root / "classes.txt", 2)]
    index = {number: label for label, (number, _) in enumerate(official)}
    labels = np.full(len(rows), -1, dtype=np.int64)
    for line in _lines(root / "image_class_labels.txt", 2):
        if line.fields[1] not in index:
            raise line.error(f"class {line.fields[1]!r} is not in classes.txt")
        labels[line.row(rows)] = index[line.fields[1]]
    if (labels < 0).any():
        unlabelled = list(rows)[int(np.argmin(labels))]
        raise DataError(
            f"{root / 'image_class_labels.txt'} has no line for image {unlabelled}", "Unpack the data set again."
        )
    used, labels = np.unique(labels, return_inverse=True)
    names = [official[label][1] for label in used]
    clean = [re.sub(r"^[0-9]+\.", "", name).replace("_", " ") for name in names]
    return labels.astype(np.int64), tuple(clean if len(set(clean)) == len(clean) else names)


def _splits(file: Path, rows: Mapping[str, int]) -> NDArray[np.str_]:
    """(N,) train or test; "" where there is no official split."""
    splits = np.full(len(rows), "", dtype="<U5")
    if not file.exists():
        return splits
    for line in _lines(file, 2):
        if line.fields[1] not in ("0", "1"):
            raise line.error(f"expected 1 (train) or 0 (test), got {line.fields[1]!r}")
        splits[line.row(rows)] = "train" if line.fields[1] == "1" else "test"
    if (splits == "").any():
        unlisted = list(rows)[int(np.argmax(splits == ""))]
        raise DataError(f"{file} has no line for image {unlisted}", "Unpack the data set again.")
    return splits


def _boxes(file: Path, rows: Mapping[str, int]) -> NDArray[np.float32] | None:
    """(N, 4) x, y, width, height."""
    if not file.exists():
        return None
    boxes = np.full((len(rows), 4), np.nan, dtype=np.float32)
    for line in _lines(file, 5):
        x, y, width, height = line.numbers()
        if width <= 0 or height <= 0:
            raise line.error(f"the box has no area: width {width:g}, height {height:g}")
        boxes[line.row(rows)] = x, y, width, height
    return boxes


def _masks(root: Path, paths: list[str]) -> tuple[str, ...]:
    """(N) the segmentations, which are another download; "" where one is missing."""
    if not (root / "segmentations").is_dir():
        return ()
    masks = [f"segmentations/{Path(path).relative_to('images').with_suffix('.png').as_posix()}" for path in paths]
    return tuple(mask if (root / mask).is_file() else "" for mask in masks)


def _keypoints(root: Path, rows: Mapping[str, int]) -> tuple[tuple[str, ...], NDArray[np.float32] | None]:
    """The names (P), and (N, P, 3) x, y, visible."""
    names_file, places_file = root / "parts" / "parts.txt", root / "parts" / "part_locs.txt"
    if not (names_file.exists() and places_file.exists()):
        return (), None
    parts = [line.fields for line in _lines(names_file, 2)]
    index = {number: position for position, (number, _) in enumerate(parts)}
    keypoints = np.full((len(rows), len(parts), 3), (np.nan, np.nan, 0), dtype=np.float32)
    for line in _lines(places_file, 5):
        if line.fields[1] not in index:
            raise line.error(f"part {line.fields[1]!r} is not in parts.txt")
        _, x, y, visible = line.numbers()
        if visible:
            keypoints[line.row(rows), index[line.fields[1]]] = x, y, 1
    return tuple(name for _, name in parts), keypoints
