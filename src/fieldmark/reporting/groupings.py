"""Every way to divide the evaluated images: by taxonomy, attribute, group, key points and size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import measure
from fieldmark.reporting.material import Material, Split
from fieldmark.reporting.slices import Grouping, category, quarters

__all__ = ["groupings"]

MOST_MEASURED = 20_000
"""The number of images whose headers are read; of more, a random sample is read."""


def groupings(material: Material, split: Split) -> list[Grouping]:
    """All groupings of the answers of a split."""
    return [*_by_class(material, split), *_by_catalog(material, split), *_by_size(material, split)]


def _by_class(material: Material, split: Split) -> Iterator[Grouping]:
    index = {name: k for k, name in enumerate(material.classes)}
    for level, names in material.data.get("taxonomy", {}).items():
        if len(set(names)) < len(names):
            of = [names[index[answer.label]] if answer.label in index else "" for answer in split.answers]
            yield category(level, of)
    learnt = material.counts("train")
    numbers = np.array([learnt[answer.label] for answer in split.answers], float)
    yield quarters("training images of the class", numbers, "{:,.0f}".format)


def _by_catalog(material: Material, split: Split) -> Iterator[Grouping]:
    if (catalog := material.catalog) is None:
        return
    rows = _rows(catalog, split)
    for name, values in catalog.attributes.items():
        yield category(name, _of(values, rows))
    if (catalog.groups != "").any():
        yield category("group", _of(catalog.groups, rows))
    if catalog.keypoints is not None:
        visible = (catalog.keypoints[:, :, 2] == 1).sum(1).astype(float)
        yield quarters("visible key points", np.where(rows < 0, np.nan, visible[rows]), "{:,.0f}".format)


def _by_size(material: Material, split: Split) -> Iterator[Grouping]:
    sizes = _sizes(material, split)
    yield quarters("shorter side of the image in pixels", sizes.min(1), "{:,.0f}".format)
    catalog = material.catalog
    if catalog is not None and catalog.boxes is not None:
        rows = _rows(catalog, split)
        boxes = np.where(rows[:, None] < 0, np.nan, catalog.boxes[rows])
        share = boxes[:, 2] * boxes[:, 3] / sizes.prod(1)
        yield quarters("share of the image inside the box", share, lambda value: f"{100 * value:.0f} %")


def _sizes(material: Material, split: Split) -> NDArray[np.float64]:
    """The sizes (N, 2) from the headers; NaN where a file cannot be read."""
    sizes = np.full((len(split.answers), 2), np.nan)
    for at in np.random.default_rng(0).permutation(len(split.answers))[:MOST_MEASURED]:
        file = material.pictures.file(split.answers[at].path)
        sizes[at] = (file and measure(file)) or np.nan
    return sizes


def _rows(catalog: Catalog, split: Split) -> NDArray[np.int64]:
    """The row (N,) of each evaluated image in the catalogue, or −1 where it has none."""
    row_of = {path: row for row, path in enumerate(catalog.paths)}
    return np.array([row_of.get(answer.path, -1) for answer in split.answers], np.int64)


def _of(values: NDArray[np.str_], rows: NDArray[np.int64]) -> Sequence[str]:
    return [str(values[row]) if row >= 0 else "" for row in rows]
