"""The faster engine that agrees: tried once where it pays, kept, and never in the way."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fieldmark.answering import onnx as answering
from fieldmark.answering.onnx import OnnxEngine
from fieldmark.answering.predictor import Predictor
from fieldmark.commands.evaluate import evaluate
from fieldmark.commands.index import index
from fieldmark.commands.predict import predict
from fieldmark.commands.predict_into import predict_into
from fieldmark.core.errors import DeviceError, FieldmarkError, RunError
from fieldmark.evaluation.verdict import Verdict
from fieldmark.exporting import fastest as trying
from fieldmark.exporting.fastest import fastest
from fieldmark.runs import engines
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.engines import Entry, circumstances
from fieldmark.runs.run import Run
from support.galleries import gallery_in
from support.hearing import Heard
from support.trials import by_onnx, choices, impossible, times

Cli = Callable[..., Any]

pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.mark.usefixtures("long_jobs")
def test_a_long_job_finds_out_once_and_everybody_goes_by_it(
    trained: Run, pictures: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=0.03, onnx=0.02)
    before = Predictor.load(trained.folder, device="cpu").outputs(pictures)
    heard = Heard()
    first = list(predict(trained.folder, pictures, device="cpu", listener=heard))
    assert [note.partition(" (")[0] for note in heard.notes] == ["Tried ONNX Runtime, once for this model"]
    assert heard.notes[0].endswith("it gives the same answers 1.5 times as fast as PyTorch, and is used from now on")
    (choice,) = choices(empty_cache)
    assert choice["engine"] == "onnx"
    assert choice["seconds_per_image"] == {"torch": 0.03, "onnx": 0.02}
    assert choice["checked"]["largest_difference"] < 1e-4
    assert choice["circumstances"] == circumstances()
    again = Heard()
    second = list(predict(trained.folder, pictures, device="cpu", listener=again))
    assert again.notes == []
    assert [one.label for one in first if isinstance(one, Verdict)] == [one.label for one in second]  # type: ignore[union-attr]  # none is skipped
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
    trained: Run, pictures: Path, empty_cache: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    list(predict(trained.folder, pictures, device="cpu"))  # few pictures
    monkeypatch.setattr(trying, "_FEW", 1)
    list(predict(trained.folder, pictures, device="cpu"))  # more, but of a network that is quick
    monkeypatch.setattr(trying, "PAYS", 0.0)
    list(predict(trained.folder, (path for path in [pictures]), device="cpu"))  # nobody knows how many
    list(predict(Predictor.load(trained.folder, device="cpu"), pictures))  # ready
    list(predict(trained.folder, pictures, device="cpu", engine="torch"))
    assert made == []
    assert choices(empty_cache) == []


@pytest.mark.usefixtures("long_jobs")
def test_pytorch_goes_on_where_it_is_faster(
    trained: Run, pictures: Path, empty_cache: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not tried again and its graph is not kept, except for who asks for ONNX Runtime."""
    times(monkeypatch, torch=0.02, onnx=0.04)
    heard = Heard()
    for _ in range(2):
        list(predict(trained.folder, pictures, device="cpu", listener=heard))
    assert len(made) == len(heard.notes) == 1
    assert heard.notes[0].endswith("it gives the same answers 0.5 times as fast as PyTorch, which stays the default")
    assert not by_onnx(trained)
    assert not list(empty_cache.glob("engines/*/model.onnx"))
    for _ in range(2):
        list(predict(trained.folder, pictures, engine="onnx", listener=heard))
    assert len(made) == 2
    assert isinstance(Predictor.load(trained.folder, engine="onnx").engine, OnnxEngine)
    hashed: list[Path] = []
    monkeypatch.setattr(engines, "known_bytes", lambda path, index: hashed.append(path))
    assert not by_onnx(trained)
    assert hashed == [], "a graph that is not used is not read"


@pytest.mark.usefixtures("long_jobs")
@pytest.mark.parametrize(("seconds", "wins"), [(0.0105, False), (0.012, True)])
def test_a_hair_is_no_reason_to_change(
    seconds: float, wins: bool, trained: Run, pictures: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=seconds, onnx=0.01)
    list(predict(trained.folder, pictures, device="cpu"))
    assert len(made) == 1
    assert by_onnx(trained) == wins


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
@pytest.mark.parametrize("fault", ["logits", "embedding", "impossible"])
def test_a_graph_that_will_not_do(
    fault: str, trained: Run, pictures: Path, empty_cache: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who asks for it has it tried again, and is told why it is not used and where that is kept."""
    times(monkeypatch, torch=0.03, onnx=0.02)
    if fault == "impossible":
        made = impossible(monkeypatch, ValueError("an operator\nthat nobody knows"))
    else:
        answer = OnnxEngine.__call__
        monkeypatch.setattr(
            OnnxEngine,
            "__call__",
            lambda self, images: (found := answer(self, images))._replace(**{fault: getattr(found, fault) + 1}),
        )
    why = {
        "logits": r"it does not answer as PyTorch does\. On 32 images, its logits differ by at most 1 ",
        "embedding": r"it does not answer as PyTorch does\. On 32 images, .*; its embeddings differ by up to ",
        "impossible": "it cannot compute this network: an operator that nobody knows",
    }[fault]
    heard = Heard()
    assert len(list(predict(trained.folder, pictures, device="cpu", listener=heard))) == 42
    (choice,) = choices(empty_cache)
    assert (choice["engine"], choice["sha256"]) == ("torch", None)
    assert not by_onnx(trained)
    list(predict(trained.folder, pictures, device="cpu", listener=heard))
    assert len(heard.notes) == len(made) == 1
    with pytest.raises(RunError, match=f"ONNX Runtime cannot be used for .*: {why}") as refused:
        predict(trained.folder, pictures, engine="onnx", listener=heard)
    assert len(heard.notes) == len(made) == 2
    entry = Entry.of(Bundle.load(trained.folder))
    assert entry is not None
    assert str(entry.folder) in refused.value.hint


def _made_of(error: Exception, cause: Exception) -> Exception:
    error.__context__ = cause
    return error


@pytest.mark.usefixtures("long_jobs")
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(errno.ENOSPC, "No space left on device"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4096 bytes."),
        _made_of(RunError("it cannot be expressed as an ONNX graph"), MemoryError()),
    ],
)
def test_what_fails_for_now_is_tried_again(
    error: Exception, trained: Run, pictures: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, heard = impossible(monkeypatch, error), Heard()
    for _ in range(2):
        assert len(list(predict(trained.folder, pictures, device="cpu", listener=heard))) == 42
    assert len(asked) == len(heard.notes) == 2
    assert all(
        note.startswith("Tried ONNX Runtime, for this job only (") and "failed for now: " in note
        for note in heard.notes
    )
    assert choices(empty_cache) == []


@pytest.mark.usefixtures("long_jobs", "made")
def test_a_graph_that_was_asked_for_is_opened_once(
    trained: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    open_graph = answering.opened_graph

    def counting(data: bytes, what: str) -> Any:
        opened.append(what)
        return open_graph(data, what)

    monkeypatch.setattr(answering, "opened_graph", counting)
    for _ in range(2):  # made, and found
        opened.clear()
        list(predict(trained.folder, pictures, engine="onnx"))
        assert len(opened) == 1


@pytest.mark.usefixtures("long_jobs")
def test_a_network_that_fills_the_memory_is_not_tried(
    trained: Run, pictures: Path, made: list[Bundle], monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = sum(one.nbytes for one in Predictor.load(trained.folder).model.parameters())
    for memory, tried in ((7 * weights, 0), (9 * weights, 1)):
        monkeypatch.setattr("fieldmark.answering.trial.memory_size", lambda memory=memory: memory)
        list(predict(trained.folder, pictures, device="cpu"))
        assert len(made) == tried


@pytest.mark.usefixtures("long_jobs", "made")
def test_a_driver_without_a_gpu_does_not_hide_the_winner(
    trained: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with a PyTorch for the processor only; the network is not even loaded."""
    times(monkeypatch, torch=0.03, onnx=0.02)
    list(predict(trained.folder, pictures, device="cpu"))
    monkeypatch.setattr("fieldmark.answering.predictor.has_gpu", lambda: True)
    monkeypatch.setattr("fieldmark.core.machine.devices", lambda: ["cpu"])
    monkeypatch.setattr("fieldmark.answering.network.load_network", lambda *_: pytest.fail("it was loaded"))
    assert isinstance(Predictor.load(trained.folder).engine, OnnxEngine)


@pytest.mark.usefixtures("made")
def test_only_what_will_be_computed_counts(
    trained: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Photographs that the gallery has do not, and of pictures that a detector has searched, the animals do."""
    monkeypatch.setattr(trying, "_FEW", 10**9)
    index(trained.folder, pictures / "jade", device="cpu")
    asked: list[int] = []

    def counting(predictor: Predictor, things: list[Any], entry: Entry) -> bool:
        asked.append(len(things))
        return False

    monkeypatch.setattr(trying, "_FEW", 1)
    monkeypatch.setattr(trying, "_pays", counting)
    index(trained.folder, pictures, device="cpu")
    animal = {"category": "1", "bbox": [0.1, 0.1, 0.8, 0.8]}
    found = {
        "jade/00.png": [animal | {"conf": 0.9}, animal | {"conf": 0.8}, animal | {"conf": 0.01}],
        "jade/01.png": [animal | {"conf": 0.9, "category": "2"}],
        "jade/02.png": [],
    }
    images = [{"file": name, "detections": detections} for name, detections in found.items()]
    images.append({"file": "jade/03.png", "detections": None, "failure": "it was busy"})
    told = {"detection_categories": {"1": "animal", "2": "person"}, "images": images}
    (tmp_path / "md.json").write_text(json.dumps(told))
    predict_into(trained.folder, pictures, tmp_path / "season.csv", boxes=tmp_path / "md.json", device="cpu")
    assert asked == [28, 2]


@pytest.mark.usefixtures("long_jobs")
def test_what_is_refused_is_refused_before_the_trial(
    trained: Run, pictures: Path, tmp_path: Path, made: list[Bundle]
) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("")
    gallery_in(tmp_path / "other", 3).close()
    jobs: list[Callable[[], object]] = [
        partial(evaluate, trained.folder, device="cpu", out=tmp_path / "file" / "scores"),
        partial(evaluate, trained.folder, device="cpu", out=tmp_path / "mine"),
        partial(evaluate, trained.folder, device="cpu", of_interest=["zebra"]),
        partial(evaluate, trained.folder, device="cpu", background=True),
        partial(index, trained.folder, pictures, device="cpu", gallery=tmp_path / "other"),
    ]
    for job in jobs:
        with pytest.raises(FieldmarkError):
            job()
    assert made == []


def test_a_wish_without_a_list_of_pictures(trained: Run, pictures: Path, made: list[Bundle]) -> None:
    """Nothing is taken from an iterable before its turn, so that noise is looked at."""
    assert len(list(predict(trained.folder, (path for path in [pictures]), engine="onnx"))) == 42
    assert len(made) == 1


def test_both_are_timed_in_turns_with_the_threads_of_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, int]] = []

    def engine(name: str) -> Callable[[Any], None]:
        return lambda images: seen.append((name, torch.get_num_threads()))

    before, both = torch.get_num_threads(), ("torch", "onnx")
    monkeypatch.setenv("OMP_NUM_THREADS", str(before + 2))  # which PyTorch read when it was loaded
    found = trying.seconds_each({name: engine(name) for name in both}, np.zeros((4, 3, 8, 8), np.uint8), rounds=2)  # type: ignore[misc]  # they answer nothing
    assert seen == [(name, before) for name in both] * 3
    assert set(found) == set(both)
