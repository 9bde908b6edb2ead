"""Devices: what is here, what is not, and what becomes of a run that began elsewhere."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import fieldmark
from fieldmark.core import machine
from fieldmark.core.errors import DeviceError
from fieldmark.core.machine import Machine, choose_device, devices, has_gpu, memory_size, peak_memory
from fieldmark.core.reading import read_json
from fieldmark.core.recipe import Recipe
from fieldmark.core.storage import write_json
from fieldmark.runs.run import Run


def test_devices_of_this_machine() -> None:
    assert devices()[0] == "cpu"
    assert choose_device("cpu") == "cpu"
    assert choose_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


def test_what_is_chosen_where_there_are_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "devices", lambda: ["cpu", "cuda:0", "cuda:1"])
    assert [choose_device(asked) for asked in ("auto", "cuda", "cuda:1", "cpu")] == ["cuda", "cuda", "cuda:1", "cpu"]
    monkeypatch.setattr(machine, "devices", lambda: ["cpu", "mps"])
    assert [choose_device(asked) for asked in ("auto", "mps")] == ["cpu", "mps"]


@pytest.mark.parametrize("asked", ["cuda:7", "gpu", "", "CPU", "cuda:x"])
def test_a_device_that_is_not_here(asked: str) -> None:
    with pytest.raises(DeviceError) as refused:
        choose_device(asked)
    here = ", ".join(["auto", *devices()])
    assert str(refused.value) == f"There is no device {asked!r} on this machine. Choose one of: {here}."


def test_commands_refuse_it_in_one_line(cli: Any, pictures: Path, trained: Run, tmp_path: Path) -> None:
    photograph = pictures / "jade" / "00.png"
    for arguments in (
        ["train", pictures, "--recipe", "walkthrough", "--set=backbone.weights=none", "--out", tmp_path / "run"],
        ["evaluate", trained.folder],
        ["predict", trained.folder, photograph],
        ["explain", trained.folder, photograph],
        ["parts", trained.folder],
        ["compare", pictures, "--recipes=walkthrough", "--weights=none", "--out", tmp_path / "out"],
    ):
        complaint = cli(*arguments, "--device", "cuda:7").complaint
        assert complaint.startswith("There is no device 'cuda:7' on this machine. Choose one of: auto, cpu"), arguments
    assert not (tmp_path / "run").exists()


def test_every_command_that_computes_takes_the_processor(cli: Any, pictures: Path, trained: Run) -> None:
    answer = cli("predict", trained.folder, pictures / "jade" / "00.png", "--device", "cpu")
    assert answer.status == 0
    assert fieldmark.Predictor.load(trained.folder, device="cpu").device == "cpu"


def test_a_run_stays_on_its_device_or_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    began = Machine("cuda", 2, 0, "bf16")
    monkeypatch.setattr(machine, "devices", lambda: ["cpu", "cuda:0"])
    assert began.moved("auto") == began
    assert began.moved("cpu") == Machine("cpu", 2, 0, "bf16")
    monkeypatch.setattr(machine, "devices", lambda: ["cpu"])
    assert began.moved("auto") == Machine("cpu", 2, 0, "bf16")
    with pytest.raises(DeviceError):
        began.moved("cuda")


def test_a_run_from_a_gpu_is_finished_on_a_processor(pictures: Path, tmp_path: Path, cli: Any, tiny: Any) -> None:
    """As far as a machine without a GPU can tell: what was decided on one is in environment.json."""
    options = tiny(train__epochs=3)
    started = cli("train", pictures, *options, "--out", tmp_path / "run")
    assert started.status == 0
    run = Run(tmp_path / "run")
    (run.bundle / "model.json").unlink()  # as if it had been stopped before the end
    environment = read_json(run.folder / "environment.json", dict[str, Any])
    environment["machine"] |= {"device": "cuda:5"}
    write_json(run.folder / "environment.json", environment)
    answer = cli("train", pictures, "--out", run.folder, "--resume", columns=200)
    assert answer.status == 0
    assert "started on cuda:5 and continues on cpu" in answer.err.replace("\n", " ")
    assert run.is_finished
    assert run.machine().device == "cpu"
    assert read_json(run.folder / "environment.json", dict[str, Any])["moved"][0]["device"] == "cuda:5"


def test_memory_is_told() -> None:
    assert 1e6 < peak_memory()["process"] < memory_size()


@pytest.mark.skipif(sys.platform != "linux", reason="asks for Linux's files")
@pytest.mark.parametrize(("limit", "expected"), [("268435456\n", 2**28), ("max\n", None), (None, None)])
def test_a_container_has_less_memory(limit: str | None, expected: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    def read_text(self: Path, encoding: str) -> str:
        if limit is None:
            raise FileNotFoundError
        return limit

    monkeypatch.setattr(Path, "read_text", read_text)
    assert memory_size() == (expected or whole)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such files")
@pytest.mark.parametrize("driver", ["/dev/nvidiactl", "/dev/dxg", None])
def test_a_driver_is_found_without_torch(driver: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda self: str(self) == driver)
    assert has_gpu() == (driver is not None)


def test_decided_for_a_recipe() -> None:
    decided = Machine.decide(Recipe(), "cpu")
    assert (decided.device, decided.precision in ("fp32", "bf16")) == ("cpu", True)
