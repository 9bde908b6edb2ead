"""The outcome of a trial of engines, kept for the next command: damaged, full, shared by processes."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from conftest import paint
from fieldmark.answering.onnx import OnnxEngine
from fieldmark.answering.things import named
from fieldmark.commands.enrol import enrol
from fieldmark.commands.predict import predict
from fieldmark.exporting.fastest import fastest
from fieldmark.runs import engines
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.engines import Choice, Entry, circumstances
from fieldmark.runs.run import Run
from support.hearing import Heard
from support.trials import by_onnx, choices, times

Cli = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.mark.usefixtures("long_jobs")
@pytest.mark.parametrize("name", ["model.onnx", "choice.json"])
def test_what_is_damaged_is_made_again(
    name: str, trained: Run, pictures: Path, empty_cache: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=0.03, onnx=0.02)
    list(predict(trained.folder, pictures, device="cpu"))
    (file,) = (empty_cache / "engines").glob(f"*/{name}")
    good = file.read_bytes()
    for bad in (good[:-1] + bytes([good[-1] ^ 1]), good[:-9], b""):
        file.write_bytes(bad)
        assert not by_onnx(trained)
        made.clear()
        list(predict(trained.folder, pictures, device="cpu"))
        assert len(made) == 1
        assert by_onnx(trained)


@pytest.mark.usefixtures("long_jobs")
def test_other_classes_are_another_entry(
    trained: Run, pictures: Path, tmp_path: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=0.03, onnx=0.02)
    list(predict(trained.folder, pictures, device="cpu"))
    before = Entry.of(Bundle.load(trained.folder))
    (tmp_path / "teal").mkdir()
    for i in range(5):
        paint((0, 250, 250), 900 + i).save(tmp_path / "teal" / f"{i}.png")
    enrol(trained.folder, "teal", tmp_path / "teal", device="cpu")
    assert Entry.of(Bundle.load(trained.folder)) != before
    assert not by_onnx(trained)
    enrol(trained.folder, "teal", remove=True)
    assert by_onnx(trained)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(engines, "num_threads", lambda: 64)
    assert not by_onnx(trained), "with other threads, another engine may be faster"


@pytest.mark.usefixtures("long_jobs")
@pytest.mark.parametrize("fault", ["no folder", "full"])
def test_where_nothing_can_be_kept(
    fault: str, trained: Run, pictures: Path, empty_cache: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=0.03, onnx=0.02)
    if fault == "no folder":
        empty_cache.write_text("a file in its place")
    else:
        usage = shutil.disk_usage(trained.folder)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    heard = Heard()
    assert len(list(predict(trained.folder, pictures, device="cpu", listener=heard))) == 42
    assert (made, heard.notes) == ([], []), "what cannot be kept is not tried"
    assert not by_onnx(trained)
    assert len(list(predict(trained.folder, pictures, engine="onnx", listener=heard))) == 42, "but it is a wish"
    assert heard.notes[0].startswith("Tried ONNX Runtime, for this job only (")
    assert heard.notes[0].endswith("it gives the same answers 1.5 times as fast as PyTorch")
    assert len(made) == 1
    assert not (empty_cache / "engines").is_dir() or choices(empty_cache) == []


def test_old_entries_make_room(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_MOST_BYTES", 10_000)
    choice = Choice(
        engine="onnx", why="", sha256=None, seconds_per_image={}, checked={}, took=1.0, circumstances=circumstances()
    )
    (empty_cache / "engines" / "mine").mkdir(parents=True)
    (empty_cache / "engines" / "mine" / "choice.json").write_text("no entry")
    for i in range(12):
        entry = Entry(empty_cache / "engines" / f"{i:032x}")
        entry.keep(choice, bytes(2_000))
        os.utime(entry.folder / "choice.json", (i, i))
    left = sorted(path.name for path in (empty_cache / "engines").iterdir())
    assert left == [*(f"{i:032x}" for i in (8, 9, 10, 11)), "mine"]
    (killed := empty_cache / "engines" / f"{99:032x}").mkdir()
    (killed / "model.onnx").write_bytes(bytes(2_000))
    unfinished = (killed / ".model.onnx.abcd1234.part", entry.folder / ".model.onnx.abcd1234.part")
    for part in unfinished:
        part.write_bytes(bytes(2_000))
    entry.keep(choice, None)
    assert not killed.exists()
    assert [path.name for path in entry.folder.iterdir()] == ["choice.json"]
    assert len(list((empty_cache / "engines").iterdir())) == 5, "what was killed made room"
    killed.mkdir()
    (killed / ".model.onnx.abcd1234.part").write_bytes(b"a little")
    entry.keep(choice, None)
    assert not killed.exists(), "even where there is room"


@pytest.mark.usefixtures("long_jobs")
def test_two_at_once_try_once(
    trained: Run, pictures: Path, empty_cache: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=0.03, onnx=0.02)
    bundle, things = Bundle.load(trained.folder), list(named(pictures))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fastest(bundle, things, device="cpu"), range(4)))
    assert len(made) == len(choices(empty_cache)) == 1
    assert any(isinstance(one.engine, OnnxEngine) for one in found)
    assert by_onnx(trained)


@pytest.mark.usefixtures("long_jobs")
def test_only_a_wish_waits_for_another_process_and_says_so(trained: Run, pictures: Path, made: list[Bundle]) -> None:
    bundle, things, heard = Bundle.load(trained.folder), list(named(pictures)), Heard()
    entry = Entry.of(bundle)
    assert entry is not None
    with ThreadPoolExecutor(1) as pool:
        with entry.lock(wait=True):
            assert not isinstance(fastest(bundle, things, device="cpu", listener=heard).engine, OnnxEngine)
            assert (made, heard.notes) == ([], [])
            wish = pool.submit(fastest, bundle, things, engine="onnx", listener=heard)
            while not heard.notes and not wish.done():
                time.sleep(0.01)
            assert heard.notes == ["Another process is trying ONNX Runtime: waiting for it"]
            assert (made, wish.done()) == ([], False)
        assert isinstance(wish.result().engine, OnnxEngine)
