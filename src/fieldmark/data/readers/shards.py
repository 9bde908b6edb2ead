"""Tar shards → `Catalog`: by the table beside them, or else by one pass over what they hold.

Shards that others wrote are read as WebDataset reads them: files that follow each other and have one name but for the
ending belong together, KEY.jpg with KEY.json or KEY.cls. The keys of the JSON are columns of a table (`columns.py`),
and a .cls is a label. A split is what the name of the shard says, as in birds-train-000000.tar. The pass goes over
headers and these small files only, and its table is kept in the cache for as long as the shards stay as they are, with
its SHA-256: one that is damaged is made anew. Where the cache cannot be written, the pass is made each time.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import os
import re
import tarfile
import tempfile
import warnings
from collections.abc import Container, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, cast

from fieldmark.core.errors import DataError, DataWarning, StorageError
from fieldmark.core.reading import parse_json, reason
from fieldmark.core.storage import cache_folder, explained, sha256_of, write_bytes
from fieldmark.core.wording import first_few
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.columns import Columns
from fieldmark.data.readers.table import listed_paths, read_table
from fieldmark.data.remote import Entry, below, listed, open_for_reading, place_of, with_files
from fieldmark.data.scan import is_image_name
from fieldmark.data.shards import BLOCK, INDEX, UNFINISHED, Member
from fieldmark.data.splits import split_called

__all__ = ["SHARD_SUFFIX", "check_finished", "holds_shards", "read_shards", "shards_listed"]

SHARD_SUFFIX = ".tar"
_VERSION = 1
"""Of the table that a pass makes; raised where it would become another one."""
_SUM = "sha256"
"""The file beside a table in the cache that says what it should be."""
_KEY = re.compile(r"((?:.*/)?[^/.]*)\.([^/]*)", re.DOTALL)
_LABELS = ("json", "cls")
_BOX = {"x", "y", "width", "height"}
_MOST_TEXT = 1000
"""Letters of a value that may be a label; captions are longer."""


def holds_shards(path: Path) -> bool:
    """Whether a path is a folder with tars in it, or in a folder for each split, or one tar."""
    if path.suffix.lower() == SHARD_SUFFIX:
        return path.is_file()
    if not path.is_dir():
        return False
    folders = [path, *(path / name for name in os.listdir(path) if split_called(name))]
    folders = [folder for folder in folders if folder.is_dir()]
    return any(name.lower().endswith(SHARD_SUFFIX) for folder in folders for name in os.listdir(folder))


def check_finished(place: Path | str, names: Container[str]) -> None:
    """Raise DataError if a folder with files of these names holds shards whose writing was interrupted."""
    if UNFINISHED in names:
        raise DataError(f"The shards at {place} are unfinished", f"Write them again: fieldmark shards DATA {place}")


def read_shards(path: Path, columns: Columns | None = None) -> Catalog:
    """Read the shards in a folder or at an address. `columns` says which keys of their JSON hold what.

    Raises DataError if the place cannot be reached, holds no shards, or unfinished ones, for a shard that is cut short
    or cannot be read, and as `read_table` does. Gives a DataWarning where the cache cannot be written.
    """
    with _indexed(path) as (root, index):
        return read_table(index, columns, root)


def shards_listed(path: Path) -> list[str]:
    """The addresses of all pictures in the shards of a folder or at an address; errors as of `read_shards`."""
    with _indexed(path) as (root, index):
        return listed_paths(index, root=root)


@contextmanager
def _indexed(path: Path) -> Iterator[tuple[Path, Path]]:
    """The folder of the shards, and their table on this machine."""
    root, pattern = (path.parent, path.name) if path.suffix.lower() == SHARD_SUFFIX else (path, "")
    place = place_of(root)
    found = listed(place)
    check_finished(place, found)
    table = {INDEX: found[INDEX]} if INDEX in found and not pattern else {}
    tars = {name: one for name, one in found.items() if name.lower().endswith(SHARD_SUFFIX) and pattern in ("", name)}
    if not (table or tars):
        held = f"holds {first_few(found)}" if found else "is empty, or not there"
        raise DataError(f"There are no shards at {place}, which {held}", f"Expected {INDEX} or {SHARD_SUFFIX} files.")
    home = cache_folder() / "shards" / _digest(place, table or tars) / INDEX
    with ExitStack() as stack:
        if not _is_whole(home):
            contents = _own_index(below(place, INDEX)) if table else _made_index(place, tars)
            home = stack.enter_context(_kept(home, contents, place))
        try:
            yield root, home
        except DataError as error:  # what is wrong is what the shards say, or the table beside them, and not the copy
            said = below(place, INDEX) if table else place
            raise DataError(*(text.replace(str(home), said) for text in (error.problem, error.hint))) from error


def _is_whole(home: Path) -> bool:
    """Whether a table is in the cache as it was put there."""
    try:
        return home.with_name(_SUM).read_text() == sha256_of(home)
    except (OSError, ValueError):
        return False


@contextmanager
def _kept(home: Path, index: bytes, place: str) -> Iterator[Path]:
    """A table in the cache or, where that cannot be written, in a file for this once."""
    with ExitStack() as stack:
        try:
            write_bytes(home, index)
            write_bytes(home.with_name(_SUM), hashlib.sha256(index).hexdigest().encode())
        except StorageError as error:
            why = f"What the shards at {place} hold cannot be kept, so it is looked up each time: {error.problem}"
            warnings.warn(why, DataWarning, stacklevel=2)
            with explained(home):
                home = Path(stack.enter_context(tempfile.TemporaryDirectory())) / INDEX
            write_bytes(home, index)
        yield home


@contextmanager
def _readable(place: str) -> Iterator[None]:
    """Raise DataError, which names the file, for an OSError."""
    try:
        yield
    except OSError as error:
        raise DataError(f"{place} cannot be read: {reason(error)}", "Check its permissions and the disk.") from error


def _own_index(file: str) -> bytes:
    with _readable(file):
        return with_files(file, lambda files, at: bytes(files.cat_file(at)))


def _digest(place: str, files: Mapping[str, Entry]) -> str:
    return hashlib.sha256(repr((_VERSION, place, sorted(files.items()))).encode(errors="surrogateescape")).hexdigest()[
        :32
    ]


# ---- the pass


def _made_index(place: str, tars: Mapping[str, Entry]) -> bytes:
    """Go over all shards and make their table."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    groups = [_columns(list(_rows(place, name))) for name in tars]
    tables = [
        pa.table({key: pa.array(texts, pa.string()) for key, texts in group.items()}) for group in groups if group
    ]
    expected = "Expected KEY.json or KEY.cls beside each KEY.jpg."
    if not tables:
        raise DataError(f"The shards at {place} hold no pictures", expected)
    if all(set(table.column_names) <= {"path", "split"} for table in tables):
        raise DataError(f"The shards at {place} say nothing of their pictures", expected)
    index = io.BytesIO()
    pq.write_table(pa.concat_tables(tables, promote_options="default"), index, compression="zstd")
    return index.getvalue()


def _columns(rows: list[dict[str, str]]) -> dict[str, list[str]]:
    names = dict.fromkeys(name for row in rows for name in row)
    boxed = set(names) >= _BOX  # width and height alone are those of the picture
    return {name: [row.get(name, "") for row in rows] for name in names if boxed or name not in _BOX}


def _rows(place: str, tar: str) -> Iterator[dict[str, str]]:
    """The pictures of one shard with what is said of each."""
    split = _split_of(tar)
    for _, files in itertools.groupby(_files(place, tar), key=lambda one: one.key):
        row = {"split": split} if split else {}
        for one in files:
            if one.ending == "json":
                row |= _said(one)
            elif one.ending == "cls":
                row.setdefault("label", one.data.decode(errors="replace").strip())
            elif is_image_name(f"x.{one.ending}"):
                row.setdefault("path", str(one.member))
        if "path" in row:
            yield row


def _said(one: _File) -> dict[str, str]:
    """What the JSON of a sample says, as a table would; lists, tables and long texts are passed over."""
    try:
        values = parse_json(one.data, dict[str, Any])
    except ValueError as error:
        raise DataError(f"{one.member} cannot be read: {error}", "Write the shard again.") from error
    texts = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in values.items()
        if isinstance(value, str | int | float)
    }
    return {name: text for name, text in texts.items() if name != "path" and len(text) <= _MOST_TEXT}


def _split_of(tar: str) -> str:
    """The split that the name of a shard says; "" if it says none, or several."""
    found = {split_called(word) for word in re.split(r"[^a-z]+", tar.removesuffix(SHARD_SUFFIX).lower())} - {None}
    return str(found.pop()) if len(found) == 1 else ""


class _File(NamedTuple):
    """A file in a shard."""

    key: str
    ending: str
    """In lower case; it may have dots."""
    member: Member
    data: bytes
    """The contents, if it may say a label."""


def _files(place: str, tar: str) -> Iterator[_File]:
    """The files of a shard in order. Raises DataError for a shard that cannot be read, is damaged, cut short or no tar,
    and gives a DataWarning for one that may be."""
    here = below(place, tar)
    again = f"Copy or download {here} again."
    with _readable(here), open_for_reading(here) as file:
        try:
            with tarfile.open(fileobj=file, mode="r:") as held:
                while (about := held.next()) is not None:
                    cast(Any, held).members = []  # it would keep all of them
                    found = _KEY.fullmatch(about.name.removeprefix("./"))
                    if not (about.isreg() and found) or found[1].rpartition("/")[2].startswith("."):
                        continue
                    ending = found[2].lower()
                    source = held.extractfile(about) if ending in _LABELS else None
                    member = Member(tar, about.offset_data, about.size, about.name)
                    yield _File(found[1], ending, member, source.read() if source else b"")
                end = held.offset
        except tarfile.TarError as error:
            raise DataError(f"{here} is cut short or no tar file: {error}", again) from error
        file.seek(end)  # where there was no more header; Python would take damage for the end, too
        rest = file.read(BLOCK)
    if any(rest) or 0 < len(rest) < BLOCK:
        raise DataError(f"{here} is damaged or cut short at byte {end:,}", again)
    if not rest:
        warnings.warn(f"{here} has no mark at its end, so it may be cut short", DataWarning, stacklevel=2)
