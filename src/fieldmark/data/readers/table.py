"""Tables: a sheet with one row per image → `Catalog`. Its columns are listed in `columns.py`.

Shapes: N samples, P key points.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError, DataWarning, nearest
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import Catalog
from fieldmark.data.names import normal
from fieldmark.data.readers.columns import KEYPOINT, Columns, chosen_sheet, warn_of_others
from fieldmark.data.readers.folder import natural_key
from fieldmark.data.remote import below
from fieldmark.data.shards import absent, member_of
from fieldmark.data.splits import SPLIT_NAMES
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.data.texts import Texts

__all__ = ["check_images", "listed_paths", "read_table"]

_BOX = ("x", "y", "width", "height")
_VISIBLE = {"": math.nan, "1": 1.0, "1.0": 1.0, "true": 1.0, "0": 0.0, "0.0": 0.0, "false": 0.0}


@dataclass(frozen=True)
class _Fields:
    """The known columns as text: `columns[name][row]`; `lines[row]` says where the row stands in the file."""

    file: Path
    root: Path
    unit: str
    columns: Mapping[str, list[str]]
    lines: Sequence[int]

    def error(self, row: int, problem: str, hint: str) -> DataError:
        return DataError(f"{self.file}, {self.unit} {self.lines[row]}: {problem}", hint)

    def below(self, prefix: str) -> dict[str, list[str]]:
        """The columns whose names begin with `prefix`, by the rest of their names."""
        return {name.removeprefix(prefix): values for name, values in self.columns.items() if name.startswith(prefix)}


def read_table(file: Path, columns: Columns | None = None, root: Path | None = None) -> Catalog:
    """Read a table. Paths are relative to its folder, or to `root`, or absolute. `columns` says which of its columns
    holds what, where they have other names.

    If `split` is filled for only some rows, the others are train, with a DataWarning. A box with an empty field is no
    box. A key point without `.visible` is visible if it has coordinates; at 0, 0 it is not, with a DataWarning. Columns
    with other names are left out with a DataWarning. Levels are ordered by how finely they divide the classes.

    Raises DataError, with the line, for a missing column, file or label, an image listed twice, text in place of a
    number, half a key point, an unknown split, a box without area, and a level that contradicts itself.
    """
    source, places = chosen_sheet(file, columns or {}, ("path", "label"))
    if not source.lines:
        raise DataError(f"{file} has no rows", "Expected one row per image.")
    warn_of_others(source, places)
    named = file.parent.name if file.stem.lower() == "catalog" else file.stem
    sheet = _Fields(
        file,
        root or file.parent,
        source.unit,
        {name: source.column(place) for name, place in places.items()},
        source.lines,
    )
    labels, classes = _labels(sheet)
    keypoint_names, keypoints = _keypoints(sheet)
    return Catalog(
        name=root.name if root else named,
        root=sheet.root,
        paths=_paths(sheet),
        labels=labels,
        classes=classes,
        splits=_splits(sheet),
        groups=np.array(sheet.columns.get("group", [""] * len(labels)), dtype=np.str_),
        boxes=_boxes(sheet),
        masks=_masks(sheet),
        keypoint_names=keypoint_names,
        keypoints=keypoints,
        taxonomy=Taxonomy.of(classes, _taxonomy(sheet, labels, classes)),
        attributes={
            name: np.array([normal(value) for value in values], dtype=np.str_)
            for name, values in sheet.below("attribute.").items()
        },
    )


def listed_paths(file: Path, columns: Columns | None = None, root: Path | None = None) -> list[str]:
    """The images that a table lists in its column `path`, whatever else it holds; paths are relative to its folder, or
    to `root`.

    Raises DataError if it cannot be read or has no such column.
    """
    sheet, places = chosen_sheet(file, columns or {}, ("path",))
    return [below(root or file.parent, _normal_path(path)) for path in sheet.column(places["path"]) if path]


def check_images(root: Path, paths: Sequence[str], source: Path, lines: Sequence[int], unit: str = "line") -> None:
    """Raise DataError where images that `source` lists are not there, with their number and the first three, and where
    a shard that holds some is cut short."""
    if missing := absent(root, paths):
        examples = first_few(f"{paths[row]} ({unit} {lines[row]})" for row in missing)
        raise DataError(
            f"{len(missing):,} of {len(paths):,} images listed in {source} are missing: {examples}",
            f"Fieldmark looked for them in {root}: paths are absolute, or relative to that folder.",
        )


# ---- text → fields of the catalogue


def _paths(sheet: _Fields) -> Sequence[str]:
    above = sheet.root.as_posix().rstrip("/") + "/"
    paths = [_normal_path(path).removeprefix(above) for path in sheet.columns["path"]]
    seen: dict[str, int] = {}
    for row, path in enumerate(paths):
        if path == ".":
            raise sheet.error(row, "the path is empty", "Give each image its path.")
        if seen.setdefault(path, row) != row:
            twice = f"{path} is already listed in {sheet.unit} {sheet.lines[seen[path]]}"
            raise sheet.error(row, twice, "List each image once.")
    check_images(sheet.root, paths, sheet.file, sheet.lines, sheet.unit)
    return Texts(paths) if member_of(paths[0]) else tuple(paths)  # of pictures in shards there may be millions


def _normal_path(path: str) -> str:
    """Forward slashes and no "./"; ".." stays, because it need not cancel the name before it (links)."""
    return Path(path.replace("\\", "/")).as_posix()


def _labels(sheet: _Fields) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    names = [normal(name) for name in sheet.columns["label"]]
    if "" in names:
        raise sheet.error(names.index(""), "the label is empty", "Give each image a label, or leave its row out.")
    classes = sorted(set(names), key=natural_key)
    index = {name: label for label, name in enumerate(classes)}
    return np.array([index[name] for name in names], dtype=np.int64), tuple(classes)


def _splits(sheet: _Fields) -> NDArray[np.str_]:
    """(N,) the splits; rows without one are train if other rows have one."""
    names = sheet.columns.get("split", [""] * len(sheet.lines))
    splits_by_name = {"": "", **SPLIT_NAMES}
    for row, name in enumerate(names):
        if name.lower() not in splits_by_name:
            raise sheet.error(row, f"unknown split {name!r} in the column 'split'", nearest(name.lower(), SPLIT_NAMES))
    splits = np.array([splits_by_name[name.lower()] for name in names], dtype="<U5")
    blank = splits == ""
    if blank.any() and not blank.all():
        warnings.warn(
            f"{int(blank.sum()):,} of {len(splits):,} rows of {sheet.file} have no split and count as train",
            DataWarning,
            stacklevel=4,
        )
        splits[blank] = "train"
    return splits


def _numbers(sheet: _Fields, column: str) -> NDArray[np.float32]:
    """(N,) the numbers of a column, NaN where a field is empty."""
    numbers = []
    for row, text in enumerate(sheet.columns[column]):
        try:
            number = float(text or "nan")
        except ValueError:
            number = math.inf
        if math.isinf(number):
            hint = "Write it with a decimal point, as in 12.5, or leave the field empty."
            raise sheet.error(row, f"{text!r} in the column {column!r} is not a number", hint)
        numbers.append(number)
    return np.array(numbers, dtype=np.float32)


def _boxes(sheet: _Fields) -> NDArray[np.float32] | None:
    """(N, 4) x, y, width, height."""
    given = [name for name in _BOX if name in sheet.columns]
    if not given:
        return None
    if len(given) < len(_BOX):
        lacking = ", ".join(name for name in _BOX if name not in given)
        raise DataError(
            f"{sheet.file} has the box columns {', '.join(given)} but not {lacking}", "Give all four columns."
        )
    boxes = np.stack([_numbers(sheet, name) for name in _BOX], axis=1)
    boxes[np.isnan(boxes).any(axis=1)] = np.nan
    flat = np.flatnonzero((boxes[:, 2:] <= 0).any(axis=1))
    if len(flat):
        width, height = boxes[flat[0], 2:]
        raise sheet.error(
            int(flat[0]), f"the box has no area: width {width:g}, height {height:g}", "Give both in pixels, above 0."
        )
    return boxes


def _masks(sheet: _Fields) -> Sequence[str]:
    """(N) the pictures of the objects, "" where a sample has none."""
    masks = [_normal_path(path) if path else "" for path in sheet.columns.get("mask", ())]
    lines = [line for mask, line in zip(masks, sheet.lines, strict=False) if mask]
    check_images(sheet.root, [mask for mask in masks if mask], sheet.file, lines, sheet.unit)
    return tuple(masks) if any(masks) else ()


def _keypoints(sheet: _Fields) -> tuple[tuple[str, ...], NDArray[np.float32] | None]:
    """The names (P) in the order of the columns, and (N, P, 3) x, y, visible."""
    matches = [match for match in map(KEYPOINT.fullmatch, sheet.columns) if match]
    names = tuple(dict.fromkeys(match[1] for match in matches))
    return names, np.stack([_keypoint(sheet, name) for name in names], axis=1) if names else None


def _keypoint(sheet: _Fields, name: str) -> NDArray[np.float32]:
    """(N, 3) x, y, visible."""
    for axis in "xy":
        if f"keypoint.{name}.{axis}" not in sheet.columns:
            raise DataError(
                f"{sheet.file} lacks the column 'keypoint.{name}.{axis}'", "A key point needs both x and y."
            )
    place = np.stack([_numbers(sheet, f"keypoint.{name}.{axis}") for axis in "xy"], axis=1)
    blank = np.isnan(place)
    if len(half := np.flatnonzero(blank[:, 0] != blank[:, 1])):
        raise sheet.error(
            int(half[0]),
            f"the key point {name!r} has only one of x and y",
            "Give both, or neither if the point is not visible.",
        )
    visible = (~blank[:, 0]).astype(np.float32)
    if f"keypoint.{name}.visible" in sheet.columns:
        said = _visible(sheet, f"keypoint.{name}.visible")
        visible *= np.where(np.isnan(said), 1, said)
    elif len(corner := np.flatnonzero((place == 0).all(axis=1))):
        # many tools write what was not seen as 0, 0, and a mark that lies there exactly is hardly one
        visible[corner] = 0
        warnings.warn(
            f"{sheet.file}: the key point {name!r} lies at 0, 0 in {counted(len(corner), 'image')} and counts as "
            f"not visible there; if it is visible, say so in a column keypoint.{name}.visible",
            DataWarning,
            stacklevel=6,
        )
    return np.column_stack([place, visible])


def _visible(sheet: _Fields, column: str) -> NDArray[np.float32]:
    """(N,) 1, 0, or NaN where the field is empty."""
    words = [text.lower() for text in sheet.columns[column]]
    for row, word in enumerate(words):
        if word not in _VISIBLE:
            raise sheet.error(row, f"{word!r} in the column {column!r} is neither 1 nor 0", "Expected 1 or 0.")
    return np.array([_VISIBLE[word] for word in words], dtype=np.float32)


def _taxonomy(sheet: _Fields, labels: NDArray[np.int64], classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Level → the name of each class there, the level with the most names first."""
    levels = {level: _level(sheet, level, labels, classes) for level in sheet.below("level.")}
    finest_first = sorted(levels, key=lambda level: -len(set(levels[level])))
    for finer, coarser in itertools.pairwise(finest_first):
        above: dict[str, set[str]] = {}
        for name, parent in zip(levels[finer], levels[coarser], strict=True):
            above.setdefault(name, set()).add(parent)
        if several := [name for name, parents in above.items() if len(parents) > 1]:
            raise _not_nested(sheet.file, finer, coarser, several, above)
    return {level: levels[level] for level in finest_first}


def _not_nested(
    file: Path, finer: str, coarser: str, several: Sequence[str], above: Mapping[str, set[str]]
) -> DataError:
    """A mistake in a row or two levels that have nothing to do with each other: only the user knows."""
    first, second = sorted(above[several[0]])[:2]
    return DataError(
        f"{file}: {len(several)} of {counted(len(above), 'name')} of level.{finer} lie under more than one name of "
        f"level.{coarser}, such as {several[0]!r} under {first!r} and {second!r}",
        f"If this is a mistake, correct the rows. If {finer} and {coarser} are independent, they are no levels of one "
        f"tree: make one an attribute (attribute.{coarser} in place of level.{coarser}), or join both in one level "
        f"({several[0] + ' ' + first!r}).",
    )


def _level(sheet: _Fields, level: str, labels: NDArray[np.int64], classes: Sequence[str]) -> tuple[str, ...]:
    """The name of each class (K) at a level; a class needs it in one of its rows only."""
    first: dict[int, int] = {}
    values = [normal(value) for value in sheet.columns[f"level.{level}"]]
    for row, (label, value) in enumerate(zip(labels.tolist(), values, strict=True)):
        if value and values[first.setdefault(label, row)] != value:
            earlier = f"{values[first[label]]!r} in {sheet.unit} {sheet.lines[first[label]]}"
            raise sheet.error(
                row,
                f"class {classes[label]!r} has {level} {value!r}, but {earlier}",
                f"A class has one name at each level; what differs within a class is an attribute (attribute.{level}).",
            )
    for label, name in enumerate(classes):
        if label not in first:
            raise DataError(f"{sheet.file}: class {name!r} has no {level}", f"Fill in 'level.{level}' for every class.")
    return tuple(values[first[label]] for label in range(len(classes)))
