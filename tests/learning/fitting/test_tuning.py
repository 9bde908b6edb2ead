"""How this machine computes a recipe fastest: tried where that pays, kept, said, and not changed by a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from fieldmark.commands.train import train
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Recipe
from fieldmark.data.task import Task
from fieldmark.learning.fitting import learn, tuning
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.training.bare import Duel, Job, Way, duels_of
from fieldmark.runs.run import Run
from support.commands import settings
from support.hearing import Heard
from support.tuning import Trial

Tried = list[Trial]
_ESTIMATED = tuning._estimated
_LAYOUT = {"layout": "contiguous"}


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
    ((job, _),) = tried
    assert (job.begin, job.changes) == (Way("bf16", 1), [{"precision": "fp32"}, _LAYOUT])
    assert said == [
        "This machine computes test_resnet 3.0 times as fast in fp32 as in bf16, so that is used; "
        "train.precision=bf16 decides otherwise"
    ]
    assert run.machine() == Machine("cpu", 1, 0, "fp32")
    assert run.decided("tuned")["images_per_second"] == {
        "bf16, 1 thread": 3.33,
        "fp32, 1 thread": 9.99,
        "fp32, contiguous, 1 thread": 9.99,
    }


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


def test_the_trial_of_a_soup_does_not_begin_the_run(
    tried: Tried, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle = learn.settle_solver

    def after_a_trial(fit: Fit, rows: NDArray[np.int64]) -> Fit:
        for name in ("trial", "trial, member 2"):
            file = fit.run.checkpoint(name)
            file.parent.mkdir(exist_ok=True)
            file.touch()
        return settle(fit, rows)

    monkeypatch.setattr(learn, "settle_solver", after_a_trial)
    run, _ = trained(pictures, tmp_path / "run", "train.members=2")
    assert len(tried) == 1
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
    monkeypatch.setattr(tuning, "duels_of", lambda *_: [Duel(0.1, 0.9, 0.0)])
    run = train(pictures, out=tmp_path / "run", resume=True)
    assert run.machine().precision == "fp32"


@pytest.mark.parametrize(
    ("seconds", "precision"), [((0.1, 0.095), "bf16"), (None, "bf16"), ((0.1, 0.09), "fp32"), ((0.1, 0.2), "bf16")]
)
def test_what_is_hardly_faster_or_not_known_changes_nothing(
    tried: Tried,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: tuple[float, float] | None,
    precision: str,
) -> None:
    monkeypatch.setattr(tuning, "duels_of", lambda *_: [Duel(*seconds, 0.0)] if seconds else [])
    run, said = trained(pictures, tmp_path / "run")
    assert run.machine().precision == precision
    assert len(said) == (precision == "fp32")


@pytest.mark.parametrize(("setting", "left"), [("train.precision=bf16", [[_LAYOUT]]), ("train.solver=logistic", [])])
def test_what_the_recipe_says_is_not_tried(
    setting: str, left: list[Any], tried: Tried, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "duels_of", lambda job, most: tried.append(Trial(job, most)) or [])
    trained(pictures, tmp_path / "run", setting, "train.batchnorm=plain", "head.unit=true")
    assert [trial.job.changes for trial in tried] == left


def test_steps_on_a_backbone_that_is_computed_once_are_not_tried(
    tried: Tried, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("_estimated", _ESTIMATED), ("_FEW", 1), ("_PAYS", 1e-9)):
        monkeypatch.setattr(tuning, name, value)
    kept = ["train.freeze_stages=all", "augment.views=2", "augment.flip=true", "train.batchnorm=plain"]
    run, _ = trained(pictures, tmp_path / "run", *kept)
    assert tried == []
    assert run.decided("tuned") is None
    trained(pictures, tmp_path / "other", *kept, "train.freeze_stages=0")
    assert tried


def test_a_short_training_tries_nothing(
    tried: Tried, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "_estimated", _ESTIMATED)
    run, _ = trained(pictures, tmp_path / "run")
    assert tried == []
    assert run.decided("tuned") is None


@pytest.mark.parametrize(
    ("device", "seconds", "setting", "compiler", "changes"),
    [
        ("cpu", 200.0, {}, True, [{"threads": 4}, _LAYOUT]),
        ("cpu", 4e3, {}, True, [{"threads": 4}, _LAYOUT, {"compiled": True}]),
        ("cpu", 4e3, {}, False, [{"threads": 4}, _LAYOUT]),
        ("cpu", 4e3, {"compile": False}, True, [{"threads": 4}, _LAYOUT]),
        ("cuda:1", 200.0, {}, True, [{"precision": "fp32"}, _LAYOUT]),
        ("cuda", 700.0, {}, True, [{"precision": "fp32"}, _LAYOUT, {"compiled": True}]),
        ("cuda", 700.0, {"precision": "bf16"}, True, [_LAYOUT, {"compiled": True}]),
    ],
)
def test_only_what_may_pay_on_such_a_machine_is_tried(
    device: str,
    seconds: float,
    setting: dict[str, Any],
    compiler: bool,
    changes: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(tuning, "computes_bf16", lambda device: device != "cpu")
    monkeypatch.setattr(tuning, "has_compiler", lambda device: compiler)
    recipe = Recipe.parse({"train": setting}, source="test")
    machine = Machine(device, 8, 0, "bf16" if device != "cpu" else "fp32")
    assert tuning._changes(recipe, machine, seconds) == changes


def test_threads_that_somebody_chose_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "computes_bf16", lambda device: False)
    monkeypatch.setenv("OMP_NUM_THREADS", "8")
    assert tuning._changes(Recipe(), Machine("cpu", 8, 0, "fp32"), 200.0) == [_LAYOUT]


def test_one_change_is_tried_after_the_other() -> None:
    """Each against the best so far, and what did not come out does not stand in the way."""
    begin, changes = Way("bf16", 2), [{"precision": "fp32"}, {"threads": 1}, _LAYOUT, {"compiled": True}]
    duels = [Duel(0.2, 0.1, 0.0), None, Duel(0.1, 0.2, 0.0), Duel(0.1, 0.05, 30.0)]
    found = tuning._tuned(begin, changes, duels, took=45.04)
    assert found == {
        "images_per_second": {
            "bf16, 2 threads": 5.0,
            "fp32, 2 threads": 10.0,
            "fp32, contiguous, 2 threads": 5.0,
            "fp32, compiled, 2 threads": 20.0,
        },
        "took": 45.0,
        "compiling": 30.0,
    }
    assert tuning._fastest(found, begin, changes, 10_000) == Way("fp32", 2, compiled=True)


@pytest.mark.parametrize(("images", "compiled"), [(600, False), (730, False), (740, True), (10_000, True)])
def test_compiling_counts_against_what_it_saves(images: int, compiled: bool) -> None:
    """At 10 images a second, and 20 once thirty seconds are spent: 1.1 times as fast from 734 images on."""
    found = tuning._tuned(Way("fp32", 1), changes := [{"compiled": True}], [Duel(0.1, 0.05, 30.0)], took=40.0)
    expected = images / 10 >= 1.1 * (30 + images / 20)
    assert tuning._fastest(found, Way("fp32", 1), changes, images).compiled == expected == compiled


@pytest.mark.parametrize(
    ("busy", "cores", "gpu", "workers"),
    [
        (0.1, 16, True, 0),
        (0.3, 16, True, 1),
        (0.3, 16, False, 0),
        (5.0, 16, True, 7),
        (40.0, 16, True, 15),
        (9, 2, True, 0),
    ],
)
def test_as_many_processes_prepare_images_as_keep_up(busy: float, cores: int, gpu: bool, workers: int) -> None:
    assert tuning.num_workers(busy, cores, gpu=gpu) == workers


def test_workers_are_settled_by_measurement(
    tried: Tried, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ten_a_second = tuning._Estimate(6_000, 0.1, 0.1)
    monkeypatch.setattr(tuning, "_estimated", lambda *_: ten_a_second)
    monkeypatch.setattr(tuning, "num_cores", lambda: 3)
    run, _ = trained(pictures, tmp_path / "run")
    assert run.machine().workers == 2


@pytest.mark.parametrize("backbone", ["test_resnet", "no_such_network"])
def test_a_process_of_its_own_times_bare_steps(backbone: str) -> None:
    recipe = Recipe.parse(
        {"backbone": {"name": backbone, "weights": "none"}, "images": {"size": 32}, "train": {"ema": True}},
        source="test",
    )
    changes = [{"precision": "bf16"}, _LAYOUT]
    found = duels_of(Job(recipe, Task(num_classes=3, unlearnt=(1,)), "cpu", Way("fp32", 1), changes))
    assert len(found) == (2 if backbone == "test_resnet" else 0)
    assert all(duel and 0 < duel.best < 10 and 0 < duel.other < 10 for duel in found)
