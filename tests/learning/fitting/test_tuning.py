"""How this machine computes a recipe fastest: tried where that pays, kept, said, and not changed by a resume."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fieldmark.commands.train import train
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Recipe
from fieldmark.data.task import Task
from fieldmark.learning.fitting import tuning
from fieldmark.learning.training.bare import Job, Way, seconds_of
from fieldmark.runs.run import Run
from support.commands import settings
from support.hearing import Heard

Tried = list[Sequence[Way]]
_PAYS = tuning._pays


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tried:
    """What was tried, on a machine of four threads with bf16 that is three times as slow as fp32."""
    found: Tried = []

    def seconds(job: Job) -> list[float]:
        found.append(job.ways)
        return [0.3 if way.precision == "bf16" else 0.1 for way in job.ways]

    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(tuning, "seconds_of", seconds)
    monkeypatch.setattr(tuning, "computes_bf16", lambda device: True)
    monkeypatch.setattr(tuning, "_pays", lambda fit, rows: True)
    monkeypatch.setattr(tuning, "_is_busy", lambda: False)
    monkeypatch.setattr(Machine, "decide", lambda *_: Machine("cpu", 1, 0, "bf16"))
    return found


def trained(pictures: Path, out: Path, *overrides: str, **more: Any) -> tuple[Run, list[str]]:
    heard = Heard()
    run = train(
        pictures,
        "walkthrough",
        out=out,
        overrides=[*settings(train__precision="auto"), *overrides],
        listener=heard,
        **more,
    )
    return run, [text for text in heard.notes if "times as fast" in text]


def test_a_precision_that_is_clearly_faster_is_used_said_and_recorded(
    tried: Tried, pictures: Path, tmp_path: Path
) -> None:
    run, said = trained(pictures, tmp_path / "run")
    assert tried == [[Way("bf16", 1), Way("fp32", 1)]]
    assert said == [
        "This machine computes test_resnet 3.0 times as fast in fp32 as in bf16, so that is used; "
        "train.precision=bf16 decides otherwise"
    ]
    assert run.machine() == Machine("cpu", 1, 0, "fp32")
    assert run.decided("tuned")["images_per_second"] == {"bf16, 1 thread": 3.33, "fp32, 1 thread": 10.0}


def test_it_is_tried_once_for_a_network_and_a_machine(tried: Tried, pictures: Path, tmp_path: Path) -> None:
    for number in range(2):
        run, said = trained(pictures, tmp_path / str(number), "train.lr=0.001", f"seed={number}")
        assert (run.machine().precision, len(said)) == ("fp32", 1)
    assert len(tried) == 1
    trained(pictures, tmp_path / "other", "train.batch_size=8")
    assert len(tried) == 2


def test_nothing_is_settled_while_other_work_keeps_the_machine_busy(
    tried: Tried, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(tuning, "_is_busy", lambda: True)
        run, said = trained(pictures, tmp_path / "busy")
    assert not tried
    assert not said
    assert run.machine().precision == "bf16"
    run, said = trained(pictures, tmp_path / "quiet")
    assert len(tried) == len(said) == 1
    assert run.machine().precision == "fp32"


@pytest.mark.parametrize(("load", "busy"), [(9.0, True), (4.9, False)])
def test_a_machine_is_busy_where_more_wants_to_compute_than_there_are_cores(
    load: float, busy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning.os, "cpu_count", lambda: 4)
    monkeypatch.setattr(tuning.os, "getloadavg", lambda: (load, 0.0, 0.0), raising=False)
    assert tuning._is_busy() == busy


def test_a_run_goes_on_as_it_began(
    tried: Tried, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("fieldmark.commands.train.fit_calibration", lambda *_: 1 / 0)  # stopped after all is learnt
        with pytest.raises(ZeroDivisionError):
            trained(pictures, tmp_path / "run")
    monkeypatch.setattr(tuning, "seconds_of", lambda job: [0.1, 0.9])
    run = train(pictures, out=tmp_path / "run", resume=True)
    assert run.machine().precision == "fp32"


@pytest.mark.parametrize(
    ("seconds", "precision"), [([0.1, 0.095], "bf16"), ([], "bf16"), ([0.1, 0.09], "fp32"), ([0.1, 0.2], "bf16")]
)
def test_what_is_hardly_faster_or_not_known_changes_nothing(
    tried: Tried,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: list[float],
    precision: str,
) -> None:
    monkeypatch.setattr(tuning, "seconds_of", lambda job: seconds)
    run, said = trained(pictures, tmp_path / "run")
    assert run.machine().precision == precision
    assert len(said) == (precision == "fp32")


@pytest.mark.parametrize("setting", ["train.precision=bf16", "train.solver=logistic"])
def test_what_the_recipe_says_is_not_tried(setting: str, tried: Tried, pictures: Path, tmp_path: Path) -> None:
    trained(pictures, tmp_path / "run", setting, "train.batchnorm=plain", "head.unit=true")
    assert tried == []


def test_a_short_training_tries_nothing(
    tried: Tried, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_pays", _PAYS)
    run, _ = trained(pictures, tmp_path / "run")
    assert tried == []
    assert run.decided("tuned") is None


def test_threads_are_tried_where_nobody_chose_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "computes_bf16", lambda device: False)
    machine = Machine("cpu", 8, 0, "fp32")
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert tuning._ways(Recipe(), machine) == []
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert tuning._ways(Recipe(), machine) == [Way("fp32", 8), Way("fp32", 4)]


@pytest.mark.parametrize("backbone", ["test_resnet", "no_such_network"])
def test_a_process_of_its_own_times_bare_steps(backbone: str) -> None:
    recipe = Recipe.parse(
        {"backbone": {"name": backbone, "weights": "none"}, "images": {"size": 32}, "train": {"ema": True}},
        source="test",
    )
    ways = [Way("fp32", 1), Way("bf16", 1)]
    found = seconds_of(Job(recipe, Task(num_classes=3, unlearnt=(1,)), "cpu", ways))
    assert len(found) == (2 if backbone == "test_resnet" else 0)
    assert all(0 < each < 10 for each in found)
