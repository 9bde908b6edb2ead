"""`write_shards`: a catalogue → tar files in the convention of WebDataset, and a table with each picture's address.

    OUT/train-000000.tar       wren/0001.jpg, wren/0001.cls, wren/0001.json, wren/0002.jpg, …
    OUT/train-000001.tar       …
    OUT/test-000000.tar
    OUT/catalog.parquet        the table; written last
    OUT/UNFINISHED             there as long as something is missing

The files of a picture have one name but for the ending: the picture as it was, the number of its class as text, and
what the table says of it as JSON. Each split is shuffled, so that whoever reads a shard from its beginning to its end
meets all classes.
"""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError, FieldmarkError, ImageError, StorageError
from fieldmark.core.reading import reason
from fieldmark.core.seeds import Stream, generator
from fieldmark.core.storage import as_json, explained
from fieldmark.core.wording import first_few
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.decode import read_bytes
from fieldmark.data.readers.folder import natural_key
from fieldmark.data.remote import below, is_remote, listed, open_for_writing, place_of, remove
from fieldmark.data.shards import BLOCK, INDEX, UNFINISHED, Member
from fieldmark.data.write import columns_of

__all__ = ["Sharded", "write_shards"]

_OURS = re.compile(rf"(train|val|test|all)-\d{{6}}\.tar|{INDEX}|{UNFINISHED}")
_NUMBER = re.compile(r"x|y|width|height|keypoint\..+")
"""Columns that are numbers in JSON."""
_ROWS = 256
"""Described at a time."""


class Sharded(NamedTuple):
    """What was written."""

    shards: int
    images: int
    size: int
    """Of the shards, in bytes."""
    left_out: tuple[str, ...]
    """Why pictures were left out, a sentence for each."""


def write_shards(
    catalog: Catalog,
    out: Path | str,
    *,
    size: int = 10**9,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Sharded:
    """Write shards of about `size` bytes into a folder or to an address; `progress` gets (done, total).

    Pictures that cannot be read are left out. What was interrupted is begun again by the same call. Raises StorageError
    if the place holds anything else or cannot be written, and DataError if it cannot be reached or there is no picture.
    """
    place, done = place_of(out), 0
    classes = sorted((catalog.classes[label] for label in np.unique(catalog.labels)), key=natural_key)
    numbers = {name: number for number, name in enumerate(classes)}
    found: list[_Shard] = []
    with _explained(place):
        _begin(place)
        with open_for_writing(below(place, INDEX)) as file, _table(file) as add:
            for split in (*SPLITS, ""):
                rows = generator(Stream.SHARDS).permutation(catalog.rows(split))
                number = 0
                while len(rows):
                    tar, number = f"{split or 'all'}-{number:06d}.tar", number + 1
                    shard = _write_shard(place, tar, catalog, rows, size, numbers)
                    if shard.columns["path"]:  # of a shard without a picture, other columns are missing
                        add(shard.columns)
                    found.append(shard)
                    rows, done = rows[shard.looked_at :], done + shard.looked_at
                    progress(done, len(catalog))
        images = sum(len(shard.columns["path"]) for shard in found)
        left_out = [why for shard in found for why in shard.left_out]
        if not images:
            raise DataError(f"No picture of {catalog.name} can be read. {first_few(left_out, 1)}", "Check the files.")
        remove(below(place, UNFINISHED))
    return Sharded(len(found), images, sum(shard.size for shard in found), tuple(left_out))


class _Shard(NamedTuple):
    looked_at: int
    """How many pictures were read, or could not be."""
    columns: Mapping[str, list[str]]
    """Those that were, as rows of the table."""
    size: int
    left_out: list[str]


def _begin(place: str) -> None:
    """Leave nothing at the place but the mark that it is unfinished."""
    there = listed(place)
    if UNFINISHED in there:
        for name in filter(_OURS.fullmatch, there):
            if name != UNFINISHED:
                remove(below(place, name))
    elif there:
        raise StorageError(f"{place} is not empty: it holds {first_few(there)}", "Name another place for the shards.")
    with open_for_writing(below(place, UNFINISHED)) as file:
        file.write(b"Fieldmark is writing shards here, or was interrupted: the same command begins them again.\n")


def _write_shard(
    place: str, tar: str, catalog: Catalog, rows: NDArray[np.int64], size: int, numbers: Mapping[str, int]
) -> _Shard:
    """Write a tar with the first of these rows, as many as fit; one at least."""
    kept: list[int] = []
    paths: list[str] = []
    masks: list[str] = []
    left_out: list[str] = []
    taken: set[str] = set()
    looked_at = 0
    with (
        open_for_writing(below(place, tar)) as file,
        tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as out,
    ):
        for row, said in _described(catalog, rows):
            if out.offset >= size and kept:
                break
            looked_at += 1
            try:
                data = read_bytes(catalog.file(row))
                mask = read_bytes(Path(below(catalog.root, catalog.masks[row]))) if _mask(catalog, row) else b""
            except ImageError as error:
                left_out.append(str(error))
                continue
            key = _key(catalog.paths[row], taken)
            paths.append(_add(out, tar, key + Path(catalog.paths[row]).suffix, data))
            masks.append(_add(out, tar, f"{key}.mask{Path(_mask(catalog, row)).suffix}", mask) if mask else "")
            _add(out, tar, f"{key}.cls", str(numbers[said["label"]]).encode())
            typed = {name: float(value) if _NUMBER.fullmatch(name) else value for name, value in said.items()}
            _add(out, tar, f"{key}.json", as_json(typed).encode())
            kept.append(row)
    columns = columns_of(catalog.select(np.array(kept, np.int64)), paths, masks)
    return _Shard(looked_at, columns, out.offset, left_out)


def _described(catalog: Catalog, rows: NDArray[np.int64]) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row with what a table says of it, other than where its files are."""
    for start in range(0, len(rows), _ROWS):
        some = rows[start : start + _ROWS]
        columns = columns_of(catalog.select(some), [""] * len(some), [""] * len(some))
        for row, *values in zip(some.tolist(), *columns.values(), strict=True):
            yield row, {name: value for name, value in zip(columns, values, strict=True) if value}


def _mask(catalog: Catalog, row: int) -> str:
    return catalog.masks[row] if catalog.masks else ""


def _key(path: str, taken: set[str]) -> str:
    """The name of a sample in its shard without an ending: a dot would begin one."""
    folders = [name for name in Path(path).parent.as_posix().split("/") if name not in ("", ".", "..")]
    first = key = "/".join([*folders, Path(path).stem.replace(".", "_")])
    again = 2
    while key in taken:
        key, again = f"{first}_{again}", again + 1
    taken.add(key)
    return key


def _add(out: tarfile.TarFile, tar: str, name: str, data: bytes) -> str:
    """Add a file to a tar and return its address."""
    about = tarfile.TarInfo(name)
    about.size = len(data)
    out.addfile(about, io.BytesIO(data))
    return str(Member(tar, out.offset - -(-len(data) // BLOCK) * BLOCK, len(data), name))


@contextmanager
def _table(file: IO[bytes]) -> Iterator[Callable[[Mapping[str, list[str]]], None]]:
    """What adds rows to a Parquet file, a group of them at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: pq.ParquetWriter | None = None

    def add(columns: Mapping[str, list[str]]) -> None:
        nonlocal writer
        group = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
        writer = writer or pq.ParquetWriter(file, group.schema, compression="zstd")
        writer.write_table(group)

    try:
        yield add
    finally:
        if writer is not None:
            writer.close()


@contextmanager
def _explained(place: str) -> Iterator[None]:
    try:
        with explained(Path(place)):
            yield
    except FieldmarkError:
        raise
    except Exception as error:  # packages for object stores have errors of their own
        if not is_remote(place):
            raise
        raise StorageError(f"Cannot write {place}: {reason(error)}", "Check what you may write there.") from error
