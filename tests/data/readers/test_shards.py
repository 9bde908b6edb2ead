"""Shards: what reading them does where the cache, or a shard, is out of reach."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path
from typing import Any

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
