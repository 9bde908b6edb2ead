"""Official files → Python values, or a DataError that says what is wrong with which file.

Shapes: N samples, K classes.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.core.reading import read_json, read_regular, reason
from fieldmark.core.wording import first_few
from fieldmark.data.catalog import Catalog
from fieldmark.data.taxonomy import Taxonomy

__all__ = ["assemble", "box", "json_file", "lines", "mat_file", "whole"]

T = TypeVar("T")

_AGAIN = "Download it or unpack its archive again."
_MOST = 4 * 2**30
"""The published files have less than a gigabyte."""


def mat_file(path: Path, *names: str) -> list[NDArray[Any]]:
    """The variables of a MATLAB file, each at least one-dimensional."""
    from scipy.io import loadmat

    try:
        variables = loadmat(io.BytesIO(read_regular(path)), squeeze_me=True)
    # damage shows as OSError, ValueError, TypeError, zlib.error, struct.error and more
    except Exception as error:
        raise DataError(f"{path} cannot be read as a MATLAB file: {reason(error)}", _AGAIN) from error
    if lacking := [name for name in names if name not in variables]:
        raise DataError(f"{path} has no variable {lacking[0]!r}", "Expected the official file. " + _AGAIN)
    return [np.atleast_1d(variables[name]) for name in names]


def json_file(path: Path, shape: type[T]) -> T:
    """What a JSON file holds, which must be of this type."""
    try:
        return read_json(path, shape, error=DataError, hint=_AGAIN, most=_MOST)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {reason(error)}", _AGAIN) from error


def lines(path: Path, num_fields: int) -> Iterator[list[str]]:
    """The fields of each line that is neither blank nor a comment; the last of them may hold spaces."""
    try:
        text = read_regular(path).decode("utf-8-sig")
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read: {reason(error)}", _AGAIN) from error
    for number, line in enumerate(text.splitlines(), start=1):
        fields = line.strip().split(maxsplit=num_fields - 1)
        if not fields or fields[0].startswith("#"):
            continue
        if len(fields) < num_fields:
            raise DataError(f"{path}, line {number}: expected {num_fields} fields, got {line.strip()!r}", _AGAIN)
        yield fields


def box(left: float, top: float, right: float, bottom: float) -> tuple[float, float, float, float]:
    """Corner pixels, both inside the box and counted from one as in MATLAB → x, y, width, height."""
    return left - 1, top - 1, right - left + 1, bottom - top + 1


def assemble(
    root: Path,
    source: str,
    samples: Sequence[tuple[str, int, str]],
    classes: Sequence[str],
    *,
    boxes: Sequence[Sequence[float]] | None = None,
    taxonomy: Mapping[str, Sequence[str]] | None = None,
) -> Catalog:
    """A catalogue of (path, label, split); `source` is the file that lists them.

    `boxes` are x, y, width, height. Raises DataError if listed images are missing or no class has such a number.
    """
    paths = [path for path, _, _ in samples]
    if wrong := [path for path, label, _ in samples if not 0 <= label < len(classes)]:
        problem = f"{root / source} gives {wrong[0]} a class that is not one of the {len(classes)} named classes"
        raise DataError(problem, _AGAIN)
    missing = [path for path in paths if not os.path.isfile(os.path.join(root, path))]
    if missing:
        problem = f"{len(missing):,} of the {len(paths):,} images that {root / source} lists are missing in {root}"
        raise DataError(f"{problem}: {first_few(missing)}", "Finish the download, or unpack its archive again.")
    n = len(samples)
    return Catalog(
        name=root.name,
        root=root,
        paths=tuple(paths),
        labels=np.array([label for _, label, _ in samples], dtype=np.int64),
        classes=tuple(classes),
        splits=np.array([split for _, _, split in samples], dtype="<U5"),
        groups=np.full(n, "", dtype="<U1"),
        boxes=None if boxes is None else np.array(boxes, dtype=np.float32).reshape(n, 4),
        taxonomy=Taxonomy.of(classes, taxonomy),
    )


def whole(catalog: Catalog, why: str) -> Catalog:
    """`catalog` without its split, if there is only one; with a DataWarning that begins with `why`."""
    follows = "the splits are cut from it, and scores are not comparable with published ones"
    warnings.warn(f"{why}: {follows}", DataWarning, stacklevel=4)
    return replace(catalog, splits=np.full(len(catalog), "", dtype="<U5"))
