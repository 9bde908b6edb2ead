"""Shards: what reading them does where the cache, or a shard, is out of reach."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.readers import shards
from fieldmark.data.readers.read import read
from fieldmark.data.sharding import write_shards
from fieldmark.data.shards import INDEX


@pytest.fixture
def place(pictures: Path, tmp_path: Path) -> Path:
    """Shards with our table beside them."""
    write_shards(read(pictures), tmp_path / "birds")
    return tmp_path / "birds"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty one."""
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("own", [True, False], ids=["own", "of others"])
def test_a_cache_that_cannot_be_written_stops_nothing(
    own: bool, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not own:
        (place / INDEX).unlink()
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "file"))
    for reader in (shards.read_shards, shards.shards_listed):
        with pytest.warns(DataWarning, match=r"birds hold cannot be kept, so it is looked up each time: Cannot write "):
            assert len(reader(place)) == 42


def _flipped(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


def _with_other_columns(data: bytes) -> bytes:
    table = io.BytesIO()
    pq.write_table(pa.table({"file": ["a.jpg"], "bird": ["wren"]}), table)
    return table.getvalue()


@pytest.mark.parametrize("own", [True, False], ids=["own", "of others"])
@pytest.mark.parametrize(
    "damaged", [lambda data: data[:-100], lambda data: b"", lambda data: b"x" * 1000, _flipped, _with_other_columns]
)
def test_a_damaged_table_in_the_cache_is_made_anew(
    own: bool, damaged: Callable[[bytes], bytes], place: Path, cache: Path
) -> None:
    if not own:
        (place / INDEX).unlink()
    before = shards.read_shards(place)
    (table,) = (cache / "shards").glob(f"*/{INDEX}")
    whole = table.read_bytes()
    table.write_bytes(damaged(whole))
    assert shards.read_shards(place).digest("train") == before.digest("train")
    assert table.read_bytes() == whole
    (table.parent / "sha256").unlink()  # whoever was to write it was killed
    assert len(shards.shards_listed(place)) == 42


def test_a_table_of_another_version_is_not_read(place: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / INDEX).unlink()
    shards.read_shards(place)
    monkeypatch.setattr(shards, "_VERSION", shards._VERSION + 1)
    assert len(shards.read_shards(place)) == 42
    assert len(list((cache / "shards").iterdir())) == 2


def test_of_a_table_that_is_wrong_the_shards_are_named(place: Path, cache: Path) -> None:
    """The copy in the cache is nothing that a user has made."""
    (place / INDEX).write_bytes(b"x" * 1000)
    with pytest.raises(DataError) as caught:
        shards.read_shards(place)
    assert str(caught.value).startswith(str(place / INDEX))
    assert str(cache) not in str(caught.value)
    (place / INDEX).write_bytes(_with_other_columns(b""))
    with pytest.raises(DataError) as caught:
        shards.read_shards(place)
    assert str(place / INDEX) in str(caught.value)
    assert str(cache) not in str(caught.value)


class _Failing(io.BytesIO):
    """A file on a disk that fails."""

    def read(self, size: int | None = -1) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def _forbidden(*arguments: Any) -> Any:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def test_a_shard_that_cannot_be_read_is_named(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the cache, which is in order, is not."""
    monkeypatch.setattr(shards, "with_files", _forbidden)
    with pytest.raises(DataError, match=r"catalog\.parquet cannot be read: Permission denied\. Check its"):
        shards.shards_listed(place)
    (place / INDEX).unlink()
    monkeypatch.setattr(shards, "open_for_reading", lambda place: _Failing())
    with pytest.raises(DataError, match=r"all-000000\.tar cannot be read: Input/output error\. Check its"):
        read(place)
    monkeypatch.setattr(shards, "open_for_reading", _forbidden)
    with pytest.raises(DataError, match=r"all-000000\.tar cannot be read: Permission denied"):
        read(place)


@pytest.mark.parametrize("place", ["zip://x.zip", "zip://birds::x.zip"])
def test_an_archive_is_told_apart_from_a_store(place: str) -> None:
    with pytest.raises(DataError) as raised:
        read(place)
    assert str(raised.value) == f"{place} is in an archive, of which nothing is read. Unpack it, and name the folder."
