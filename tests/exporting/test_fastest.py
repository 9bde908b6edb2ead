"""The faster engine that agrees: tried once where it pays, kept, and never in the way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from conftest import paint
from fieldmark.answering.onnx import OnnxEngine
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import named
from fieldmark.commands.enrol import enrol
from fieldmark.commands.evaluate import evaluate
from fieldmark.commands.index import index
from fieldmark.commands.predict import predict
from fieldmark.commands.predict_into import predict_into
from fieldmark.core.errors import DeviceError, RunError
from fieldmark.evaluation.verdict import Verdict
from fieldmark.exporting import fastest as trying
from fieldmark.exporting import graph as exporting
from fieldmark.exporting.fastest import fastest
from fieldmark.runs import engines
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.engines import Choice, Entry, Known, circumstances
from fieldmark.runs.run import Run
from support.hearing import Heard

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing is known yet."""
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def _graph(_trained: Path) -> onnx.ModelProto:
    return exporting.graph_of(Bundle.load(_trained))


@pytest.fixture
def made(_graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> list[Bundle]:
    """The bundles that a graph was made of; it is at hand, so that no test waits for it."""
    asked: list[Bundle] = []

    def at_hand(bundle: Bundle) -> onnx.ModelProto:
        asked.append(bundle)
        return _graph

    monkeypatch.setattr(exporting, "graph_of", at_hand)
    return asked


@pytest.fixture
def long_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked lasts long enough."""
    monkeypatch.setattr(trying, "_FEW", 1)
    monkeypatch.setattr(trying, "_PAYS", 0.0)


def times(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """How long the engines take for an image, whatever the clock says."""
    monkeypatch.setattr(trying, "_seconds", lambda engines, images, rounds: {name: seconds[name] for name in engines})


def by_onnx(run: Run) -> bool:
    return isinstance(Predictor.load(run.folder, device="cpu").engine, OnnxEngine)


def choices(cache: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in (cache / "engines").glob("*/choice.json")]


@pytest.mark.usefixtures("long_jobs")
def test_a_long_job_finds_out_once_and_everybody_goes_by_it(
    trained: Run, pictures: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=0.03, onnx=0.02)
    before = Predictor.load(trained.folder, device="cpu").outputs(pictures)
    heard = Heard()
    first = list(predict(trained.folder, pictures, device="cpu", listener=heard))
    assert [note.partition(" (")[0] for note in heard.notes] == ["Tried ONNX Runtime, once for this model"]
    assert heard.notes[0].endswith("it gives the same answers 1.5 times as fast as PyTorch, and is used from now on")
    (choice,) = choices(cache)
    assert choice["engine"] == "onnx"
    assert choice["seconds_per_image"] == {"torch": 0.03, "onnx": 0.02}
    assert choice["checked"]["largest_difference"] < 1e-4
    assert choice["circumstances"] == circumstances()
    again = Heard()
    second = list(predict(trained.folder, pictures, device="cpu", listener=again))
    assert again.notes == []
    assert [one.label for one in first if isinstance(one, Verdict)] == [one.label for one in second]  # type: ignore[union-attr]
    after = Predictor.load(trained.folder, device="cpu")
    assert isinstance(after.engine, OnnxEngine)
    np.testing.assert_allclose(after.outputs(pictures).logits, before.logits, atol=1e-4)
    np.testing.assert_allclose(after.outputs(pictures).embedding, before.embedding, atol=1e-4)
    run, jade = str(trained.folder), str(pictures / "jade")
    code = f"""
import sys
from fieldmark.cli import main
for command in (["predict", {run!r}, {jade!r}], ["evaluate", {run!r}]):
    sys.argv = ["fieldmark", *command, "--device", "cpu"]
    try:
        main()
    except SystemExit as ended:
        print(ended.code, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=os.environ)
    assert done.stdout.count("jade") >= 14, done.stderr
    assert done.stdout.count(" False\n") == 2, done.stdout


@pytest.mark.usefixtures("long_jobs")
@pytest.mark.parametrize("job", ["evaluate", "index", "predict_into"])
def test_every_long_job(
    job: str, trained: Run, pictures: Path, tmp_path: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=0.03, onnx=0.02)
    run, heard = trained.folder, Heard()
    if job == "evaluate":
        evaluate(run, device="cpu", listener=heard)
    elif job == "index":
        index(run, pictures, device="cpu", listener=heard)
    else:
        predict_into(run, pictures, tmp_path / "season.csv", device="cpu", listener=heard)
    assert len(made) == 1
    assert sum("Tried ONNX Runtime" in note for note in heard.notes) == 1
    assert by_onnx(trained)


def test_a_short_job_does_not_try(
    trained: Run, pictures: Path, cache: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(predict(trained.folder, pictures, device="cpu"))  # few pictures
    monkeypatch.setattr(trying, "_FEW", 1)
    list(predict(trained.folder, pictures, device="cpu"))  # more, but of a network that is quick
    monkeypatch.setattr(trying, "_PAYS", 0.0)
    list(predict(trained.folder, (path for path in [pictures]), device="cpu"))  # nobody knows how many
    list(predict(Predictor.load(trained.folder, device="cpu"), pictures))  # ready
    list(predict(trained.folder, pictures, device="cpu", engine="torch"))
    assert made == []
    assert choices(cache) == []


@pytest.mark.usefixtures("long_jobs")
def test_pytorch_goes_on_where_it_is_faster(
    trained: Run, pictures: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again, and who asks for ONNX Runtime has its graph."""
    times(monkeypatch, torch=0.02, onnx=0.03)
    heard = Heard()
    for _ in range(2):
        list(predict(trained.folder, pictures, device="cpu", listener=heard))
    assert len(made) == len(heard.notes) == 1
    assert heard.notes[0].endswith("it takes 1.5 times as long as PyTorch, which answers on")
    assert not by_onnx(trained)
    assert isinstance(Predictor.load(trained.folder, engine="onnx").engine, OnnxEngine)
    list(predict(trained.folder, pictures, engine="onnx", listener=heard))
    assert len(made) == 1


def test_an_explicit_wish_makes_the_graph(trained: Run, pictures: Path, made: list[Bundle], cli: Cli) -> None:
    one = pictures / "jade" / "00.png"
    with pytest.raises(RunError, match=r"has no model\.onnx"):
        Predictor.load(trained.folder, engine="onnx")
    answer = cli("predict", trained.folder, one, "--engine", "onnx", "--format", "json")
    assert answer.status == 0
    assert "Tried ONNX Runtime, once for this model" in answer.err
    assert len(made) == 1
    assert "Tried" not in cli("predict", trained.folder, one, "--engine", "onnx").err
    assert cli("predict", trained.folder, one, "--engine", "torch", "--format", "json").out.startswith(
        answer.out.partition(', "probability"')[0]
    )
    complaint = cli("predict", trained.folder, one, "--engine", "onnx", "--device", "cuda").complaint
    assert complaint.startswith("ONNX Runtime computes on the processor, not on cuda.")
    with pytest.raises(DeviceError):
        fastest(Bundle.load(trained.folder), [], engine="onnx", device="mps")
    with pytest.raises(RunError, match=r"no engine 'jax'\. Choose one of: auto, torch, onnx"):
        Predictor.load(trained.folder, engine="jax")  # type: ignore[arg-type]  # a user's mistake


@pytest.mark.usefixtures("long_jobs")
@pytest.mark.parametrize("fault", ["different", "impossible"])
def test_a_graph_that_will_not_do(
    fault: str, trained: Run, pictures: Path, cache: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=0.03, onnx=0.02)
    if fault == "different":
        answer = OnnxEngine.__call__
        monkeypatch.setattr(
            OnnxEngine,
            "__call__",
            lambda self, images: (found := answer(self, images))._replace(logits=found.logits + 1),
        )
    else:

        def fail(bundle: Bundle) -> onnx.ModelProto:
            raise ValueError("an operator\nthat nobody knows")

        monkeypatch.setattr(exporting, "graph_of", fail)
    why = {
        "different": r"it does not answer as PyTorch does\. On 32 images, its logits differ by at most 1 ",
        "impossible": "it cannot compute this network: an operator that nobody knows",
    }[fault]
    heard = Heard()
    assert len(list(predict(trained.folder, pictures, device="cpu", listener=heard))) == 42
    (choice,) = choices(cache)
    assert (choice["engine"], choice["sha256"]) == ("torch", None)
    assert not by_onnx(trained)
    for _ in range(2):
        with pytest.raises(RunError, match=f"ONNX Runtime cannot be used for .*: {why}"):
            predict(trained.folder, pictures, engine="onnx", listener=heard)
    assert len(heard.notes) == 1


@pytest.mark.usefixtures("long_jobs")
@pytest.mark.parametrize("name", ["model.onnx", "choice.json"])
def test_what_is_damaged_is_made_again(
    name: str, trained: Run, pictures: Path, cache: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=0.03, onnx=0.02)
    list(predict(trained.folder, pictures, device="cpu"))
    (file,) = (cache / "engines").glob(f"*/{name}")
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
    fault: str, trained: Run, pictures: Path, cache: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=0.03, onnx=0.02)
    if fault == "no folder":
        cache.write_text("a file in its place")
    else:
        usage = shutil.disk_usage(trained.folder)
        monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=2**20))
    heard = Heard()
    assert len(list(predict(trained.folder, pictures, device="cpu", listener=heard))) == 42
    assert (made, heard.notes) == ([], []), "what cannot be kept is not tried"
    assert not by_onnx(trained)
    assert len(list(predict(trained.folder, pictures, engine="onnx"))) == 42, "but it is a wish"
    assert len(made) == 1
    assert not (cache / "engines").is_dir() or choices(cache) == []


def test_old_entries_make_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_MOST_BYTES", 10_000)
    choice = Choice(
        engine="torch", why="", sha256=None, seconds_per_image={}, checked={}, took=1.0, circumstances=circumstances()
    )
    (cache / "engines" / "mine").mkdir(parents=True)
    (cache / "engines" / "mine" / "choice.json").write_text("no entry")
    for i in range(12):
        entry = Entry(cache / "engines" / f"{i:032x}")
        entry.keep(Known(choice, bytes(2_000)))
        os.utime(entry.folder / "choice.json", (i, i))
    left = sorted(path.name for path in (cache / "engines").iterdir())
    assert left == [*(f"{i:032x}" for i in (8, 9, 10, 11)), "mine"]


@pytest.mark.usefixtures("long_jobs")
def test_two_at_once_try_once(
    trained: Run, pictures: Path, cache: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=0.03, onnx=0.02)
    bundle, things = Bundle.load(trained.folder), list(named(pictures))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: fastest(bundle, things, device="cpu"), range(4)))
    assert len(made) == len(choices(cache)) == 1
    assert all(isinstance(one.engine, OnnxEngine) for one in found)


def test_a_wish_without_a_list_of_pictures(trained: Run, pictures: Path, made: list[Bundle]) -> None:
    """Nothing is taken from an iterable before its turn, so that noise is looked at."""
    assert len(list(predict(trained.folder, (path for path in [pictures]), engine="onnx"))) == 42
    assert len(made) == 1


def test_both_are_timed_in_turns_with_as_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []

    def engine(name: str) -> Callable[[Any], None]:
        return lambda images: seen.append((name, torch.get_num_threads()))

    before, both = torch.get_num_threads(), ("torch", "onnx")
    monkeypatch.setattr(trying, "num_threads", lambda: before + 2)
    found = trying._seconds({name: engine(name) for name in both}, np.zeros((4, 3, 8, 8), np.uint8), rounds=2)  # type: ignore[misc]  # they answer nothing
    assert seen == [(name, before + 2) for name in both] * 3
    assert torch.get_num_threads() == before
    assert set(found) == set(both)
