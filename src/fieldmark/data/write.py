"""`write_catalog`: a catalogue → a table that `read_table` reads.

Shapes: N samples, P key points.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from fieldmark.core.storage import write_rows
from fieldmark.data.catalog import Catalog

__all__ = ["write_catalog"]


def write_catalog(file: Path, catalog: Catalog) -> None:
    """Write all that the catalogue holds as a CSV file, in one step.

    Paths are relative to the table where the images lie below its folder, and absolute elsewhere.
    """
    columns: dict[str, Iterable[object]] = {
        "path": _placed(file.resolve().parent, catalog, catalog.paths),
        "label": [catalog.classes[label] for label in catalog.labels],
        "split": catalog.splits.tolist(),
        "group": catalog.groups.tolist(),
    }
    if catalog.boxes is not None:
        columns |= {name: map(_number, catalog.boxes[:, k]) for k, name in enumerate(("x", "y", "width", "height"))}
    if catalog.keypoints is not None:
        for p, name in enumerate(catalog.keypoint_names):
            x, y, visible = catalog.keypoints[:, p].T
            columns |= {f"keypoint.{name}.x": map(_number, x), f"keypoint.{name}.y": map(_number, y)}
            columns[f"keypoint.{name}.visible"] = map(_number, visible)
    if catalog.masks:
        columns["mask"] = _placed(file.resolve().parent, catalog, catalog.masks)
    for level, names in catalog.taxonomy.items():
        columns[f"level.{level}"] = [names[label] for label in catalog.labels]
    columns |= {f"attribute.{name}": values.tolist() for name, values in catalog.attributes.items()}
    write_rows(file, columns, zip(*columns.values(), strict=True))


def _placed(folder: Path, catalog: Catalog, paths: Sequence[str]) -> list[str]:
    """Paths below the catalogue's root as a table in `folder` names them; "" stays."""
    near = catalog.root.is_relative_to(folder)
    root = catalog.root.relative_to(folder) if near else catalog.root
    return [(root / path).as_posix() if path else "" for path in paths]


def _number(value: np.float32) -> str:
    """As it reads back; empty for NaN."""
    return "" if math.isnan(value) else np.format_float_positional(value, trim="-")
