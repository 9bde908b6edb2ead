"""Every way to divide the answered images that the data knows of: attributes, groups, sizes, poses, the taxonomy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import measure
from fieldmark.reporting.material import Material, Part
from fieldmark.reporting.slices import Grouping, category, quarters

__all__ = ["groupings"]

MOST_MEASURED = 20_000
"""Images whose headers are read; of more, those drawn by chance."""


def groupings(material: Material, part: Part) -> list[Grouping]:
    """All of them, over the answers of a part."""
    return [*_by_class(material, part), *_by_catalog(material, part), *_by_size(material, part)]


def _by_class(material: Material, part: Part) -> Iterator[Grouping]:
    index = {name: k for k, name in enumerate(material.classes)}
    for level, names in material.data.get("taxonomy", {}).items():
        if len(set(names)) < len(names):
            of = [names[index[answer.label]] if answer.label in index else "" for answer in part.answers]
            yield category(level, of)
    learnt = material.counts("train")
    numbers = np.array([learnt[answer.label] for answer in part.answers], float)
    yield quarters("training images of the class", numbers, "{:,.0f}".format)


def _by_catalog(material: Material, part: Part) -> Iterator[Grouping]:
    if (catalog := material.catalog) is None:
        return
    rows = _rows(catalog, part)
    for name, values in catalog.attributes.items():
        yield category(name, _of(values, rows))
    if (catalog.groups != "").any():
        yield category("group", _of(catalog.groups, rows))
    if catalog.keypoints is not None:
        visible = (catalog.keypoints[:, :, 2] == 1).sum(1).astype(float)
        yield quarters("key points visible", np.where(rows < 0, np.nan, visible[rows]), "{:,.0f}".format)


def _by_size(material: Material, part: Part) -> Iterator[Grouping]:
    sizes = _sizes(material, part)
    yield quarters("short side of the image in pixels", sizes.min(1), "{:,.0f}".format)
    catalog = material.catalog
    if catalog is not None and catalog.boxes is not None:
        rows = _rows(catalog, part)
        boxes = np.where(rows[:, None] < 0, np.nan, catalog.boxes[rows])
        share = boxes[:, 2] * boxes[:, 3] / sizes.prod(1)
        yield quarters("the box's share of the image", share, lambda value: f"{100 * value:.0f} %")


def _sizes(material: Material, part: Part) -> NDArray[np.float64]:
    """(N, 2) from the headers; NaN where the file cannot be read."""
    sizes = np.full((len(part.answers), 2), np.nan)
    for at in np.random.default_rng(0).permutation(len(part.answers))[:MOST_MEASURED]:
        file = material.pictures.file(part.answers[at].path)
        sizes[at] = (file and measure(file)) or np.nan
    return sizes


def _rows(catalog: Catalog, part: Part) -> NDArray[np.int64]:
    """(N,) where each answered image stands in the catalogue, −1 where it does not."""
    row_of = {path: row for row, path in enumerate(catalog.paths)}
    return np.array([row_of.get(answer.path, -1) for answer in part.answers], np.int64)


def _of(values: NDArray[np.str_], rows: NDArray[np.int64]) -> Sequence[str]:
    return [str(values[row]) if row >= 0 else "" for row in rows]
