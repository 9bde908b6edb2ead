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
from fieldmark.data.remote import is_remote

__all__ = ["columns_of", "write_catalog"]


def write_catalog(file: Path, catalog: Catalog) -> None:
    """Write all that the catalogue holds as a CSV file, in one step.

    Paths are relative to the table where the images lie below its folder, and absolute elsewhere.
    """
    folder = file.resolve().parent
    columns = columns_of(catalog, _placed(folder, catalog, catalog.paths), _placed(folder, catalog, catalog.masks))
    write_rows(file, columns, zip(*columns.values(), strict=True))


def columns_of(catalog: Catalog, paths: list[str], masks: list[str]) -> dict[str, list[str]]:
    """All that a catalogue holds as columns (N) of text, by their names in a table, where pictures and masks have these
    paths there."""
    columns: dict[str, list[str]] = {
        "path": paths,
        "label": [catalog.classes[label] for label in catalog.labels],
        "split": catalog.splits.tolist(),
        "group": catalog.groups.tolist(),
    }
    if catalog.boxes is not None:
        columns |= {name: _numbers(catalog.boxes[:, k]) for k, name in enumerate(("x", "y", "width", "height"))}
    if catalog.keypoints is not None:
        for p, name in enumerate(catalog.keypoint_names):
            x, y, visible = catalog.keypoints[:, p].T
            columns |= {f"keypoint.{name}.x": _numbers(x), f"keypoint.{name}.y": _numbers(y)}
            columns[f"keypoint.{name}.visible"] = _numbers(visible)
    if catalog.masks:
        columns["mask"] = masks
    for level, names in catalog.taxonomy.items():
        columns[f"level.{level}"] = [names[label] for label in catalog.labels]
    return columns | {f"attribute.{name}": values.tolist() for name, values in catalog.attributes.items()}


def _placed(folder: Path, catalog: Catalog, paths: Sequence[str]) -> list[str]:
    """Paths below the catalogue's root as a table in `folder` names them; "" stays."""
    near = catalog.root.is_relative_to(folder)
    root = catalog.root.relative_to(folder) if near else catalog.root
    return [path if is_remote(path) else (root / path).as_posix() if path else "" for path in paths]


def _numbers(values: Iterable[np.float32]) -> list[str]:
    """As they read back; empty for NaN."""
    return ["" if math.isnan(value) else np.format_float_positional(value, trim="-") for value in values]
