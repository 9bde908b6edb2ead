"""`write_catalog`: a catalogue → a table that `read_table` reads.

Shapes: N samples, P key points.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from pathlib import Path

from fieldmark.data.catalog import Catalog
from fieldmark.storage import write_bytes

__all__ = ["write_catalog"]


def write_catalog(file: Path, catalog: Catalog) -> None:
    """Write all that the catalogue holds as a CSV file, in one step.

    Paths are relative to the table where the images lie below its folder, and absolute elsewhere.
    """
    columns: dict[str, Iterable[object]] = {
        "path": _paths(file.resolve().parent, catalog),
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
            columns[f"keypoint.{name}.visible"] = visible.astype(int).tolist()
    for level, names in catalog.taxonomy.items():
        columns[f"level.{level}"] = [names[label] for label in catalog.labels]
    columns |= {f"attribute.{name}": values.tolist() for name, values in catalog.attributes.items()}
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([columns, *zip(*columns.values(), strict=True)])
    write_bytes(file, text.getvalue().encode())


def _paths(folder: Path, catalog: Catalog) -> list[str]:
    if not catalog.root.is_relative_to(folder):
        return [(catalog.root / path).as_posix() for path in catalog.paths]
    return [(catalog.root.relative_to(folder) / path).as_posix() for path in catalog.paths]


def _number(value: float) -> str:
    """A tenth of a pixel; empty for NaN."""
    return "" if math.isnan(value) else f"{value:.1f}"
