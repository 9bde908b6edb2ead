"""What a model can be asked about: `named` turns whatever a user has into things with names.

It accepts paths, folders, globs, tables with a column `path`, bytes, file objects, PIL images and NumPy arrays, each
alone or in any iterable, and data frames with a column `path`.
"""

from __future__ import annotations

import glob
import itertools
import os
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.decode import Decoded, Kept, decode, decode_image, reduced
from fieldmark.data.readers.columns import Columns
from fieldmark.data.readers.read import catalog_table
from fieldmark.data.readers.shards import SHARD_SUFFIX, holds_shards, shards_listed
from fieldmark.data.readers.sheet import TABLE_SUFFIXES
from fieldmark.data.readers.table import listed_paths
from fieldmark.data.remote import is_remote
from fieldmark.data.scan import matching, scan
from fieldmark.data.shards import member_of

if TYPE_CHECKING:
    from typing import BinaryIO

__all__ = ["Skipped", "Tell", "Thing", "Things", "looked_ahead", "named", "warn_of_left_out"]

Pixels = NDArray[np.uint8]
Source: TypeAlias = "Path | bytes | Image.Image | Pixels"
Things: TypeAlias = "str | Path | bytes | BinaryIO | Image.Image | NDArray[Any] | Iterable[Any]"
Tell: TypeAlias = "Callable[[str], None]"
"""Gets a line about what was left out."""

_ACCEPTED = (
    "Give a path, a folder, a glob, a table with a column 'path', bytes, an open file, a PIL image, a uint8 array of "
    "shape (H, W, 3) or (H, W), a list or another iterable of these, or a data frame with a column 'path'."
)


@dataclass(frozen=True)
class Skipped:
    """An image without an answer, and the reason."""

    path: str
    reason: str


_LOADING = threading.Lock()
"""Pillow's images load their pixels when they are first needed, which two threads must not do to one of them."""


class Thing(NamedTuple):
    """A picture and its name."""

    name: str
    """The picture's path if it has one, else "image 1", "image 2", … by its position."""
    source: Source

    def decode(self, *, short_side: int, grey_bits: int | None, kept: Kept | None = None) -> Decoded:
        """Return the pixels, reduced to this short side. Raises ImageError if the picture cannot be read.

        `kept` is as for `fieldmark.data.decode.decode`.
        """
        if isinstance(self.source, Image.Image):
            with _LOADING:
                return decode_image(self.source, self.name, short_side=short_side, grey_bits=grey_bits, kept=kept)
        if isinstance(self.source, np.ndarray):
            return reduced(self.source, short_side=short_side)
        return decode(self.source, short_side=short_side, grey_bits=grey_bits, kept=kept)


def warn_of_left_out(text: str) -> None:
    """Tell of it by a DataWarning."""
    warnings.warn(f"Left out: {text}", DataWarning, stacklevel=2)


def named(things: Things, tell: Tell = warn_of_left_out, columns: Columns | None = None) -> Iterator[Thing]:
    """The pictures in whatever a user has. Each iterable is read once, and no further than asked.

    `columns` says which column of a table or data frame holds the paths, if it is not "path".

    A path to a missing file is passed on: it becomes an ImageError when it is decoded. What `scan` leaves out of a
    folder is told, by a DataWarning if nothing else is given. Raises DataError for anything that is not a picture, for
    an array of another shape or type, for a folder, glob or table without images, and if there is nothing at all.
    """
    found = _named(things, tell, columns or {})
    first = next(found, None)
    if first is None:
        raise DataError("No images were given", _ACCEPTED)
    return itertools.chain([first], found)


def looked_ahead(things: Things, tell: Tell, columns: Columns | None) -> tuple[Sequence[Thing], Iterator[Thing]]:
    """What `named` gives, with a list of it if these are paths; of anything else nothing is taken before its turn.

    If only a later path is wrong, its DataError is raised when those before it have had their turn.
    """
    asked = named(things, tell, columns)
    several = things if isinstance(things, list | tuple) else [things]
    if not all(isinstance(one, str | Path) for one in several):
        return (), asked
    found: list[Thing] = []
    try:
        found.extend(asked)
    except DataError as error:
        return found, _and_then(found, error)
    return found, iter(found)


def _and_then(things: Iterable[Thing], error: DataError) -> Iterator[Thing]:
    yield from things
    raise error


def _named(things: Things, tell: Tell, columns: Columns) -> Iterator[Thing]:
    counter = itertools.count(1)
    for one in _several(things, columns.get("path", "path")):
        if isinstance(one, Thing):
            yield one
        elif isinstance(one, (str, Path)):
            yield from (Thing(path, Path(path)) for path in _paths(str(one), tell, columns))
        else:
            yield _thing(one, f"image {next(counter)}")


def _several(things: Things, path: str) -> Iterable[Any]:
    """One thing is an iterable of one; a string would be one of letters, and an image one of rows."""
    if isinstance(things, (Thing, str, Path, bytes, bytearray, memoryview, Image.Image)) or hasattr(things, "read"):
        return [things]
    if isinstance(things, np.ndarray):
        pictures = things.dtype.kind not in "OUS"
        return [things] if pictures and things.ndim != 4 else things
    if (columns := getattr(things, "columns", None)) is not None:  # of pandas, or a library with the same interface
        if path not in columns:
            found = ", ".join(str(name) for name in columns) or "none"
            raise DataError(
                f"The data frame has no column {path!r}; its columns are: {found}",
                "Rename the column that holds the paths.",
            )
        return [str(one) for one in things[path]]  # type: ignore[index, call-overload]  # whatever has the manners of a data frame
    if isinstance(things, dict) or not isinstance(things, Iterable):
        raise DataError(f"Expected images but got {_kind(things)}", _ACCEPTED)
    return things


def _thing(one: Any, name: str) -> Thing:
    if isinstance(one, (bytes, bytearray, memoryview)):
        return Thing(name, bytes(one))
    if isinstance(one, Image.Image):
        return Thing(str(getattr(one, "filename", "") or name), one)
    if isinstance(one, np.ndarray):
        return Thing(name, _pixels(one, name))
    if hasattr(one, "read"):
        if isinstance(data := one.read(), str):
            raise DataError(f"The file of {name} was opened in text mode", "Open it in binary mode: open(path, 'rb').")
        own = getattr(one, "name", None)
        return Thing(own if isinstance(own, str) else name, bytes(data))
    raise DataError(f"Expected {name} to be a picture but got {_kind(one)}", _ACCEPTED)


def _pixels(array: NDArray[Any], name: str) -> Pixels:
    """(H, W, 3) uint8."""
    grey = array.ndim == 2
    if array.dtype != np.uint8 or not (grey or (array.ndim == 3 and array.shape[2] == 3)) or 0 in array.shape:
        hint = "Expected uint8 of shape (H, W, 3) in RGB order, or (H, W)."
        if array.ndim == 3 and array.shape[2] == 4:
            hint += " Drop the alpha channel: array[..., :3]."
        elif array.dtype.kind == "f":
            hint += " Convert values from 0 to 1 with (255 * array).round().astype('uint8')."
        elif array.ndim == 3 and array.shape[0] == 3:
            hint += " Move the channels to the end: array.transpose(1, 2, 0)."
        raise DataError(f"{name} is an array of {array.dtype} of shape {array.shape}", hint)
    return np.ascontiguousarray(np.repeat(array[:, :, None], 3, axis=2) if grey else array)


def _paths(pattern: str, tell: Tell, columns: Columns) -> Iterator[str]:
    """Files, folders (their images, nested too), globs and tables → files. Names of absent files are passed on."""
    path = Path(pattern)
    if (is_remote(path) and member_of(path) is None) or (path.suffix.lower() == SHARD_SUFFIX and os.path.isfile(path)):
        yield from shards_listed(path)
    elif os.path.isdir(path):
        yield from _in_folder(path, tell, columns)
    elif path.suffix.lower() in TABLE_SUFFIXES and os.path.isfile(path):
        yield from _some(listed_paths(path, columns), f"The table {pattern} lists no images")
    elif not os.path.lexists(path) and glob.has_magic(pattern):
        for match in _some(matching(pattern), f"No file matches {pattern!r}"):
            yield from _in_folder(Path(match), tell, columns) if os.path.isdir(match) else [match]
    else:
        yield pattern


def _in_folder(folder: Path, tell: Tell, columns: Columns) -> Iterator[str]:
    """The images of a folder: those that its catalog.csv lists, as for training, or all that lie there."""
    if (table := catalog_table(folder)) is not None:
        yield from _some(listed_paths(table, columns), f"The table {table} lists no images")
        return
    found = scan(folder)
    if not found.images and holds_shards(folder):
        yield from shards_listed(folder)
        return
    reasons = found.reasons(str(folder))
    only = f", only {'; '.join(reasons)}" if reasons else ""
    paths = _some([str(folder / path) for path in found.paths], f"The folder {folder} contains no images{only}")
    for reason in reasons:
        tell(reason)
    yield from paths


def _some(found: list[str], problem: str) -> list[str]:
    if not found:
        raise DataError(problem, "Give image files, folders of images, globs, or a table with a column 'path'.")
    return found


def _kind(one: Any) -> str:
    return "None" if one is None else f"an object of type {type(one).__name__}"
