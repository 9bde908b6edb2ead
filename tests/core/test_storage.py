"""Nothing is ever half-written, and a full disk is one clear line."""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import save_file

from fieldmark.core.errors import StorageError
from fieldmark.core.reading import read_json
from fieldmark.core.storage import (
    append_line,
    as_json,
    cache_folder,
    check_writable,
    from_cell,
    make_folder,
    new_folder,
    read_rows,
    read_tensors,
    sha256_of,
    sweep,
    to_cell,
    write_bytes,
    write_json,
    write_rows,
    write_tensors,
)


def fails(code: int) -> Callable[..., Any]:
    def call(*arguments: object, **options: object) -> Any:
        raise OSError(code, os.strerror(code))

    return call


def test_writing_makes_the_folders_above(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "c.json"
    write_json(path, {"name": "Grünfink", "counts": [1, 2]})
    assert read_json(path, dict[str, Any]) == {"name": "Grünfink", "counts": [1, 2]}
    assert path.read_text(encoding="utf-8").endswith("}\n")
    assert "Grünfink" in path.read_text(encoding="utf-8")
    assert os.listdir(path.parent) == ["c.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize(
    ("where", "code", "reason"),
    [
        ("fsync", errno.ENOSPC, "the disk is full. Free some space or choose another folder; what was saved before is"),
        ("fsync", errno.EDQUOT, "the disk quota is used up. Free some space"),
        ("replace", errno.EACCES, "permission denied. Choose a folder that you may write to."),
        ("fsync", errno.EIO, f"{os.strerror(errno.EIO)}. Choose another folder."),
    ],
)
def test_a_failing_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: int, reason: str
) -> None:
    path = tmp_path / "model.json"
    write_bytes(path, b"old")
    monkeypatch.setattr(os, where, fails(code))
    with pytest.raises(StorageError) as caught:
        write_bytes(path, b"new and much longer")
    assert str(caught.value).startswith(f"Cannot write {path}: {reason}")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["model.json"]


def test_an_interrupt_leaves_no_temporary_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(tmp_path / "a", b"new")
    assert os.listdir(tmp_path) == []


def test_data_is_synced_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("sync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append("rename"), rename(a, b)))
    write_bytes(tmp_path / "a", b"new")
    assert calls == ["sync", "rename"]


def test_a_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.mkstemp", fails(errno.EROFS))
    with pytest.raises(StorageError, match=r"^Cannot write .*a\.json: the file system is read-only\. Choose a folder"):
        write_json(tmp_path / "a.json", {})
    monkeypatch.setattr(Path, "mkdir", fails(errno.EROFS))
    with pytest.raises(StorageError, match=r"^Cannot write .*new: the file system is read-only\."):
        make_folder(tmp_path / "new")


@pytest.mark.parametrize("path", ["file", "file/below", "file/below/deeper"])
def test_a_file_in_place_of_a_folder(tmp_path: Path, path: str) -> None:
    (tmp_path / "file").write_text("here first")
    with pytest.raises(StorageError, match=r"there is a file where a folder is needed. Choose another folder."):
        make_folder(tmp_path / path)
    with pytest.raises(StorageError, match=r"there is a file where a folder is needed. Choose another folder."):
        write_bytes(tmp_path / path / "a.json", b"")
    assert (tmp_path / "file").read_text() == "here first"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="/dev/full is a Linux device")
def test_appending_to_a_disk_that_is_full() -> None:
    with pytest.raises(StorageError, match=r"^Cannot write /dev/full: the disk is full"):
        append_line(Path("/dev/full"), {"epoch": 1})


def test_appending(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    append_line(path, {"epoch": 1})
    append_line(path, {"epoch": 2, "name": "Grünfink\nzwei"})
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"epoch": 1}, {"epoch": 2, "name": "Grünfink\nzwei"}]


def test_a_torn_line_does_not_swallow_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"epoch": 1}\n{"epo', encoding="utf-8")
    append_line(path, {"epoch": 2})
    assert path.read_text(encoding="utf-8").splitlines() == ['{"epoch": 1}', '{"epo', '{"epoch": 2}']


def test_tensors(tmp_path: Path) -> None:
    tensors = {
        "channels_last": torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last),
        "transposed": torch.randn(3, 5).t(),
        "half": torch.randn(4).half(),
        "steps": torch.tensor(7),
        "learnt": torch.nn.Parameter(torch.ones(2)),
    }
    write_tensors(tmp_path / "a.safetensors", tensors, {"format": "1"})
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        assert {key: value for key, value in file.metadata().items() if key != "sha256"} == {"format": "1"}
        assert set(file.keys()) == set(tensors)
        for name, tensor in tensors.items():
            read = file.get_tensor(name)
            assert torch.equal(read, tensor)
            assert read.dtype == tensor.dtype
    read, about = read_tensors(tmp_path / "a.safetensors")
    assert about == {"format": "1"}
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def flipped(data: bytes, bit: int) -> bytes:
    return data[: bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1 :]


def test_every_flipped_bit_of_tensors_is_noticed_or_changes_nothing(tmp_path: Path) -> None:
    tensors = {"whole": torch.arange(4), "real": torch.randn(3), "truth": torch.tensor([True, False])}
    write_tensors(tmp_path / "a", tensors, {"state": '{"step": 3}'})
    data, noticed = (tmp_path / "a").read_bytes(), 0
    for bit in range(0, 8 * len(data), 3):
        (tmp_path / "b").write_bytes(flipped(data, bit))
        try:
            read, about = read_tensors(tmp_path / "b")
        except ValueError:
            noticed += 1
        else:
            assert about == {"state": '{"step": 3}'}
            assert read.keys() == tensors.keys()
            assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())
    assert noticed > 0.95 * 8 * len(data) / 3


def test_tensors_without_a_checksum(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "a")
    with pytest.raises(ValueError, match="it has no checksum"):
        read_tensors(tmp_path / "a")


def test_the_checksum_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_of(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2


def test_sweeping_takes_only_what_was_left_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:  # a process that is killed clears nothing away
        patch.setattr(os, "fsync", fails(errno.EIO))
        patch.setattr(os, "unlink", lambda path: None)
        with pytest.raises(StorageError):
            write_bytes(tmp_path / "model.json", b"half")
    (left,) = tmp_path.iterdir()
    (tmp_path / "below").mkdir()
    mine = ["model.json", "thesis.part", ".model.json.part", ".hidden", "below/.a.abcdefgh.part"]
    for name in mine:
        (tmp_path / name).touch()
    sweep(tmp_path)
    assert not left.exists()
    assert all((tmp_path / name).exists() for name in mine)
    sweep(tmp_path / "absent")


def test_a_folder_takes_its_place_whole_and_clears_away_what_dead_ones_left(tmp_path: Path) -> None:
    dead, mine = tmp_path / ".birds.abcdefgh.part", tmp_path / ".birds.mine.part"
    for folder in (dead, mine):
        folder.mkdir()
        (folder / "a.png").touch()
        folder.with_suffix(".lock").touch()
    with new_folder(tmp_path / "birds") as other:  # of a process that lives
        with new_folder(tmp_path / "birds") as scratch:
            (scratch / "b.png").touch()
            assert not (tmp_path / "birds").exists()
        assert other.is_dir()
    assert [path.name for path in (tmp_path / "birds").iterdir()] == ["b.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [".birds.mine.lock", ".birds.mine.part", "birds"]


def test_whether_a_folder_may_be_written_is_asked_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_writable(tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []
    monkeypatch.setattr("tempfile._get_candidate_names", fails(errno.EROFS))  # what root may do is not asked
    with pytest.raises(StorageError) as caught:
        check_writable(tmp_path)
    assert str(caught.value) == (
        f"Cannot write {tmp_path}: the file system is read-only. Name another place with --out."
    )


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("FIELDMARK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "fieldmark"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "fieldmark"


def test_rows_come_back_as_they_were(tmp_path: Path) -> None:
    rows = [("b, c.jpg", 1), ('"ü".jpg', 2), ("two\nlines.jpg", 3)]
    write_rows(tmp_path / "a.csv", ["path", "n"], rows)
    text = 'path,n\n"b, c.jpg",1\n"""ü"".jpg",2\n"two\nlines.jpg",3\n'
    assert (tmp_path / "a.csv").read_bytes().decode() == text
    assert read_rows(tmp_path / "a.csv", ["path", "n"]) == [{"path": path, "n": str(n)} for path, n in rows]


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1", "-", "'=x", "''-3"])
def test_cells_that_a_spreadsheet_would_run_are_made_safe(tmp_path: Path, text: str) -> None:
    assert to_cell(text) == f"'{text}"
    write_rows(tmp_path / "a.csv", ["name", text], [[text, 1]])
    assert read_rows(tmp_path / "a.csv", ["name"]) == [{"name": text, text: "1"}]


@pytest.mark.parametrize("value", ["-3.2", "+5", "-1e-05", "-.5", -3.2, 7, None, "", "'t Veld", "a=b", "robin"])
def test_numbers_and_other_cells_stay(value: Any) -> None:
    assert to_cell(value) == value


@given(st.text("'=+-@\t\r1.e a"))
def test_any_cell_reads_back(text: str) -> None:
    written = to_cell(text)
    assert from_cell(written) == text
    assert not written.startswith(("=", "@", "\t", "\r")), "and no formula is left"


def test_json_for_a_stream_of_any_encoding() -> None:
    assert as_json({"ü": "鳥"}, ascii=True) == '{"\\u00fc": "\\u9ce5"}'
