"""`joined`: what a later season brought, behind what there was before, each photograph once.

A file that both have is the same path, or the same bytes wherever it lies; it counts as the earlier data has it. Only
files of equal size are compared, so little is read where nothing is the same.

Shapes: N samples, M of them later ones, P key points.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import ImageError
from fieldmark.data.catalog import Catalog, called_in
from fieldmark.data.remote import WAITING, place_of
from fieldmark.data.shards import member_of, open_picture
from fieldmark.data.taxonomy import Taxonomy

__all__ = ["Joined", "begun_with", "joined"]

Floats = NDArray[np.float32]


class Joined(NamedTuple):
    """Two catalogues as one."""

    catalog: Catalog
    """The earlier samples, and behind them the later ones. Paths are relative to the earlier root where they can be."""
    copies: int
    """Later photographs that the earlier data has, and that were therefore left out."""
    relabelled: tuple[str, ...]
    """Paths of those among them whose later label is another one; the earlier label counts."""


def joined(first: Catalog, later: Catalog) -> Joined:
    """`later` behind `first`. Classes that begin with `later` come after the others; they have the name above them that
    `later` knows, and otherwise stand alone."""
    twins = _twins(first, later)
    labels = {row: later.classes[later.labels[row]] for row in twins}
    relabelled = [row for row, twin in twins.items() if labels[row] != first.classes[first.labels[twin]]]
    new = later.select(np.setdiff1d(np.arange(len(later)), list(twins)))
    used = {new.classes[label] for label in np.unique(new.labels)} - set(first.classes)
    classes = (*first.classes, *(name for name in new.classes if name in used))
    index = {name: k for k, name in enumerate(classes)}
    numbers = np.array([index.get(name, -1) for name in new.classes], np.int64)
    points = first.keypoint_names or new.keypoint_names
    both = replace(
        first,
        name=first.name if first.name == later.name else f"{first.name} + {later.name}",
        paths=(*first.paths, *(called_in(first.root, file.as_posix()) for file in map(new.file, range(len(new))))),
        labels=np.concatenate([first.labels, numbers[new.labels]]),
        classes=classes,
        splits=np.concatenate([first.splits, new.splits]),
        groups=np.concatenate([first.groups, new.groups]),
        boxes=_boxes(first, new),
        keypoint_names=points,
        keypoints=np.concatenate([_points(first, points), _points(new, points)]) if points else None,
        taxonomy=_grown(first.taxonomy, later.taxonomy, classes),
        attributes={
            name: np.concatenate([_values(first, name), _values(new, name)])
            for name in {**first.attributes, **new.attributes}
        },
        masks=_masks(first, new),
    )
    return Joined(both, len(twins), tuple(later.paths[row] for row in relabelled))


def begun_with(catalog: Catalog, known: Taxonomy) -> Catalog:
    """The catalogue with the classes of `known` first, in their order, whether or not it has photographs of them."""
    classes = (*known.classes, *(name for name in catalog.classes if name not in set(known.classes)))
    index = {name: k for k, name in enumerate(classes)}
    numbers = np.array([index[name] for name in catalog.classes], np.int64)
    taxonomy = _grown(catalog.taxonomy, known, classes)
    return replace(catalog, classes=classes, labels=numbers[catalog.labels], taxonomy=taxonomy)


def _grown(taxonomy: Taxonomy, later: Taxonomy, classes: tuple[str, ...]) -> Taxonomy:
    """The levels of a taxonomy for these classes: as it has them, or as a later one does, or each its own name."""

    def above(level: str) -> tuple[str, ...]:
        names: dict[str, str] = {}
        for one in (later, taxonomy):
            names |= dict(zip(one.classes, one.above.get(level, ()), strict=False))
        return tuple(names.get(name, name) for name in classes)

    return Taxonomy(classes, {level: above(level) for level in taxonomy})


def _twins(first: Catalog, later: Catalog) -> Mapping[int, int]:
    """Later rows that are the same file as an earlier one, each with the row of that. Raises DataError if a shard is at
    fault, or if a store does not answer."""
    row_of = {place_of(first.file(row)): row for row in range(len(first))}
    files = [place_of(later.file(row)) for row in range(len(later))]
    twins = {row: row_of[file] for row, file in enumerate(files) if file in row_of}
    rest = [row for row in range(len(later)) if row not in twins]
    if not rest:
        return twins
    before, new = ({file: _size(file) for file in some} for some in (row_of, (files[row] for row in rest)))
    shared = {*before.values()} & {*new.values()} - {_NOWHERE}
    compared = [file for file, size in (before | new).items() if size in shared]
    with ThreadPoolExecutor(WAITING) as pool:  # a store takes its time for each
        digests = {file: digest for file, digest in zip(compared, pool.map(_digest, compared), strict=True) if digest}
    known: dict[str, int] = {}
    for file, row in row_of.items():
        if file in digests:
            known.setdefault(digests[file], row)
    return twins | {row: known[digests[files[row]]] for row in rest if digests.get(files[row]) in known}


_NOWHERE = -1
"""The size of what is not there."""


def _size(file: str) -> int:
    if (member := member_of(file)) is not None:
        return member.size
    try:
        return os.stat(file).st_size
    except OSError:
        return _NOWHERE


def _digest(file: str) -> str:
    """Of the contents; "" where there are none to read."""
    try:
        with open_picture(Path(file)) as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()  # type: ignore[arg-type]  # it has readinto
    except (OSError, ValueError, ImageError):
        return ""


def _values(catalog: Catalog, attribute: str) -> NDArray[np.str_]:
    return catalog.attributes.get(attribute, np.full(len(catalog), ""))


def _boxes(first: Catalog, new: Catalog) -> Floats | None:
    if first.boxes is None and new.boxes is None:
        return None
    nowhere = (np.full((len(one), 4), np.nan, np.float32) if one.boxes is None else one.boxes for one in (first, new))
    return np.concatenate(list(nowhere))


def _masks(first: Catalog, new: Catalog) -> tuple[str, ...]:
    if not (first.masks or new.masks):
        return ()
    later = (called_in(first.root, (new.root / mask).as_posix()) if mask else "" for mask in new.masks)
    return (*(first.masks or ("",) * len(first)), *(later if new.masks else ("",) * len(new)))


def _points(catalog: Catalog, names: tuple[str, ...]) -> Floats:
    """(N, P, 3) the key points of these names, unseen where the catalogue has none."""
    found = np.zeros((len(catalog), len(names), 3), np.float32)
    found[..., :2] = np.nan
    if catalog.keypoints is not None:
        for place, name in enumerate(names):
            if name in catalog.keypoint_names:
                found[:, place] = catalog.keypoints[:, catalog.keypoint_names.index(name)]
    return found
