"""The log of a gallery: whatever a crash or a disk does to it is noticed, and nothing acknowledged is lost."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import DataWarning, RunError, StorageError
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.log import NAME, Addition, LogReader, LogWriter, Removal, write_log
from fieldmark.gallery.maker import describe
from support.galleries import MAKER, entry, gallery_in, killed_while_adding, unit


def _names(folder: Path) -> list[str]:
    with Gallery.open(folder) as gallery:
        return [one.path.rsplit("/", 1)[-1] for one in gallery]


def test_killed_while_adding_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """A real process, killed at random moments; the next one goes on where it was stopped."""
    acknowledged: set[str] = set()
    for attempt in range(3):
        acknowledged |= killed_while_adding(tmp_path / "g", attempt)
        there = _names(tmp_path / "g")
        assert len(there) == len(set(there))
        assert acknowledged <= set(there)
    assert len(acknowledged) > 24


def _log(path: Path, additions: int = 3) -> list[int]:
    """A log of additions of two pictures each, not sealed; where each ends."""
    write_log(path, describe(MAKER, 8))
    reader = LogReader(path)
    list(reader.read())
    writer = LogWriter(reader)
    ends = [writer.end]
    for k in range(additions):
        some = [entry(f"{k}{half}", id=2 * k + at) for at, half in enumerate("ab")]
        writer.append(map(Addition, some, unit(2, seed=k)))
        ends.append(writer.end)
    writer._file.close()
    return ends


def _ids(path: Path) -> list[int]:
    return [change.entry.id for change in LogReader(path).read() if isinstance(change, Addition)]


@given(cut=st.integers(1, 400))
@settings(max_examples=60, deadline=None)
def test_a_torn_end_is_passed_over(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    """Wherever a crash cuts the last addition, the ones before it are whole."""
    path = tmp_path_factory.mktemp("torn") / NAME
    *_, last, end = _log(path)
    os.truncate(path, max(last, end - cut))
    assert _ids(path)[:4] == [0, 1, 2, 3]


@given(at=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=120, deadline=None)
def test_a_flipped_bit_is_never_read(tmp_path_factory: pytest.TempPathFactory, at: int, bit: int) -> None:
    """In what a later addition or a seal vouches for, it is an error; nothing wrong is ever read."""
    path = tmp_path_factory.mktemp("flipped") / NAME
    ends = _log(path)
    data = bytearray(path.read_bytes())
    at %= len(data)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    if at >= ends[-2]:  # only the last addition can be taken for torn
        assert _ids(path) in ([0, 1, 2, 3], [0, 1, 2, 3, 4])
    else:
        with pytest.raises(RunError, match=NAME):
            _ids(path)


def test_pages_that_came_out_of_order(tmp_path: Path) -> None:
    """A hole in an addition whose end was written was never acknowledged either."""
    ends = _log(tmp_path / NAME)
    data = bytearray((tmp_path / NAME).read_bytes())
    data[ends[-2] : ends[-2] + 40] = bytes(40)
    (tmp_path / NAME).write_bytes(data)
    assert _ids(tmp_path / NAME) == [0, 1, 2, 3]


def test_damage_names_the_file_and_the_place(tmp_path: Path) -> None:
    gallery_in(tmp_path / "g", 3).close()
    path = tmp_path / "g" / NAME
    data = bytearray(path.read_bytes())
    data[len(data) // 2 :: len(data)] = b"\xff"
    damaged = bytes(data)
    path.write_bytes(damaged)
    with pytest.raises(RunError, match=r"vectors\.log is damaged: the record at byte [\d,]+ cannot be read"):
        Gallery.open(tmp_path / "g")
    with pytest.raises(RunError, match="is damaged"):
        Gallery.open(tmp_path / "g", writing=True)
    assert path.read_bytes() == damaged, "nothing is cut off that was acknowledged"


def test_a_torn_end_is_cut_off_before_writing(tmp_path: Path) -> None:
    gallery_in(tmp_path / "g", 3).close()
    path = tmp_path / "g" / NAME
    whole = path.read_bytes()
    path.write_bytes(whole + whole[-100:-50])
    assert _names(tmp_path / "g") == ["0", "1", "2"]
    with pytest.warns(DataWarning, match="the last 50 bytes, of an addition that was cut short, are gone"):
        gallery = Gallery.open(tmp_path / "g", writing=True)
    gallery.add([entry("later")], unit(1))
    gallery.close()
    assert _names(tmp_path / "g") == ["0", "1", "2", "later"]


def test_a_full_disk_leaves_no_half_addition(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery = gallery_in(tmp_path / "g", 2)
    with monkeypatch.context() as patch:

        def full(_: int) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="the disk is full"):
            gallery.add([entry("lost")], unit(1))
    gallery.add([entry("kept")], unit(1))
    gallery.close()
    assert _names(tmp_path / "g") == ["0", "1", "kept"]


@pytest.mark.parametrize("content", [b"", b"nothing of ours", b"\xf5FMG" + bytes(60)])
def test_a_file_that_is_no_log(tmp_path: Path, content: bytes) -> None:
    (tmp_path / NAME).write_bytes(content)
    with pytest.raises(RunError, match="is not a gallery that can be read"):
        LogReader(tmp_path / NAME)


@pytest.mark.parametrize("numbers", [(3, 3), (5, 4), (2**63,)])
def test_ids_that_do_not_ascend(tmp_path: Path, numbers: tuple[int, ...]) -> None:
    some = [Addition(entry(f"{at}"), unit(1)[0]) for at, _ in enumerate(numbers)]
    some = [one._replace(entry=one.entry._replace(id=number)) for one, number in zip(some, numbers, strict=True)]
    write_log(tmp_path / NAME, describe(MAKER, 8), some)
    with pytest.raises(RunError, match=r"vectors\.log is damaged: the id \d+ comes after"):
        Gallery.open(tmp_path)


def test_everything_comes_back(tmp_path: Path) -> None:
    """Names that are not UTF-8, in any script, and what is not known."""
    some = [
        entry("caf\udce9.jpg", id=0, label="herring gull", group=None),
        entry("狐狸 🦊.jpg", id=1, label=None, group=""),
        entry("c" * 4000, id=2**40, label="é", group="camera 3"),
    ]
    write_log(tmp_path / NAME, describe(MAKER, 8, "float32"), [*map(Addition, some, unit(3)), Removal(1)])
    *added, removed = LogReader(tmp_path / NAME).read()
    assert [one.entry for one in added if isinstance(one, Addition)] == some
    np.testing.assert_array_equal([one.vector for one in added if isinstance(one, Addition)], unit(3))
    assert removed == Removal(1)
