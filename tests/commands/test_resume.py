"""A run that is stopped anywhere and taken up again ends with the same weights: tolerance zero."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from fieldmark.commands.train import train
from fieldmark.core.errors import RunError
from fieldmark.core.listener import Advanced, Event, StepTaken
from fieldmark.core.machine import Machine
from fieldmark.core.reading import read_json
from fieldmark.core.storage import read_tensors, write_tensors
from fieldmark.learning.fitting.fit import Fit, Stopped
from fieldmark.runs.run import Run
from support.hearing import Heard, InterruptedAt, StopsAfter

SMALL = [
    "images.size=32",
    "backbone.name=mobilenetv3_small_050",
    "backbone.weights=none",
    "protocol=refit",
    "train.head_epochs=1",
    "train.epochs=5",
    "train.batch_size=4",
    "train.precision=fp32",
    "augment.mix=both",
]  # 36 training images in batches of 4: 8 or 9 steps an epoch, a little over 40 in all


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.bundle / "model.safetensors")


def assert_identical(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys()
    assert [key for key in a if not torch.equal(a[key], b[key])] == []


def test_batches_by_class_and_an_auxiliary_resume(pictures: Path, tmp_path: Path) -> None:
    settings = [*SMALL, "augment.mix=none", "auxiliary.name=supcon", "head.name=arcface", "neck.name=isqrt_cov"]
    settings += [
        "backbone.name=test_resnet",
        "images.size=64",
        "train.batch_size=6",
        "train.sampling=class_batches",
        "train.images_per_class=2",
    ]
    settings += ["train.epochs=2"]
    whole = train(pictures, out=tmp_path / "whole", overrides=settings)
    with pytest.raises(Stopped):
        train(pictures, out=tmp_path / "parts", overrides=settings, listener=StopsAfter(8))
    parts = train(pictures, out=tmp_path / "parts", resume=True)
    assert_identical(weights(whole), weights(parts))


@pytest.mark.parametrize("head", ["logistic", pytest.param("random", marks=pytest.mark.slow)])
def test_a_share_of_the_start_resumes(pictures: Path, tmp_path: Path, head: str) -> None:
    settings = [*SMALL, "train.epochs=2", f"train.head_start={head}", "train.keep_start=0.3", "train.batchnorm=frozen"]
    whole = train(pictures, out=tmp_path / "whole", overrides=settings)
    with pytest.raises(Stopped):
        train(pictures, out=tmp_path / "broken", overrides=settings, listener=StopsAfter(11))
    assert_identical(weights(whole), weights(train(pictures, out=tmp_path / "broken", resume=True)))
    without = train(pictures, out=tmp_path / "without", overrides=[*settings, "train.keep_start=0"])
    mixed = {key for key, value in weights(without).items() if not torch.equal(weights(whole)[key], value)}
    assert any(key.startswith("backbone.") for key in mixed)
    assert any(key.startswith("head.") for key in mixed) == (head == "logistic")


SOUP = [
    *SMALL,
    "augment.mix=none",
    "train.head_epochs=0",
    "train.epochs=1",
    "train.head_start=logistic",
    "train.keep_start=0.3",
    "train.batchnorm=frozen",
    "train.ema=true",
]


def test_a_soup_is_the_mean_of_trainings_that_begin_alike(pictures: Path, tmp_path: Path) -> None:
    soup = train(pictures, out=tmp_path / "soup", overrides=[*SOUP, "train.members=3"])
    assert list(dict.fromkeys(line["fit"] for line in soup.history())) == ["member 2", "member 3", "model"]
    kept = [load_file(soup.checkpoint(name)) for name in ("model", "member 2", "member 3")]
    starts = [{key: value for key, value in state.items() if key.startswith("start.")} for state in kept]
    assert starts[0]
    assert_identical(starts[0], starts[1])
    assert_identical(starts[0], starts[2])
    averages = [state["ema.module.method.head.classifier.linear.weight"] for state in kept]
    assert not torch.equal(averages[0], averages[1])
    assert not torch.equal(averages[1], averages[2])
    mean = 0.7 * torch.stack(averages).double().mean(0) + 0.3 * starts[0]["start.method.head.classifier.linear.weight"]
    torch.testing.assert_close(weights(soup)["head.classifier.linear.weight"].double(), mean, rtol=1e-5, atol=1e-7)

    alone = train(pictures, out=tmp_path / "alone", overrides=SOUP)  # the first member is what there would be alone
    assert_identical(kept[0], load_file(alone.checkpoint("model")))


def test_each_fold_of_a_cross_fit_is_a_soup(pictures: Path, tmp_path: Path) -> None:
    settings = [*SOUP, "train.members=2", "protocol=crossfit", "folds=2", "train.batch_size=12"]
    whole = train(pictures, out=tmp_path / "whole", overrides=settings)
    fits = {line["fit"] for line in whole.history()}
    assert fits == {"model", "member 2", "fold 0", "fold 0, member 2", "fold 1", "fold 1, member 2"}
    with pytest.raises(Stopped):
        train(pictures, out=tmp_path / "broken", overrides=settings, listener=StopsAfter(3))
    broken = train(pictures, out=tmp_path / "broken", resume=True)
    assert_identical(weights(whole), weights(broken))
    assert read_json(whole.evaluation("crossfit") / "scores.json", dict[str, Any]) == read_json(
        broken.evaluation("crossfit") / "scores.json", dict[str, Any]
    )


def test_a_soup_resumes_at_every_step(pictures: Path, tmp_path: Path) -> None:
    settings = [*SOUP, "train.members=2", "train.batch_size=12"]
    whole = train(pictures, out=tmp_path / "whole", overrides=settings)
    folder, stops = tmp_path / "broken", 0
    while True:
        try:
            broken = train(pictures, out=folder, overrides=settings, resume=True, listener=StopsAfter(1))
            break
        except Stopped:
            stops += 1
    assert stops == sum(one["step"] for one in whole.history())
    assert_identical(weights(whole), weights(broken))


@pytest.mark.parametrize(
    ("optimizer", "ema", "workers", "each"),
    [
        ("adamw", "true", 0, 3),
        ("sgd", "false", 2, 7),
        *(
            pytest.param(*rest, 1, marks=pytest.mark.slow)
            for rest in itertools.product(("adamw", "sgd"), ("true", "false"), (0, 2))
        ),
    ],
)
def test_stop_and_resume_again_and_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str, ema: str, workers: int, each: int
) -> None:
    """After each step, or where that takes too long, after some."""
    decided = Machine.decide

    def decide(recipe: object, device: str) -> Machine:
        return replace(decided(recipe, device), workers=workers)

    monkeypatch.setattr(Machine, "decide", decide)
    settings = [*SMALL, f"train.optimizer={optimizer}", f"train.ema={ema}"]
    whole = train(pictures, out=tmp_path / "whole", overrides=settings)
    steps = whole.history()[-1]["step"]
    assert steps >= 40
    sittings = 0
    reached: list[int] = []
    while True:
        try:
            broken = train(
                pictures,
                out=tmp_path / "broken",
                overrides=settings if sittings == 0 else (),
                resume=sittings > 0,
                listener=StopsAfter(each),
            )
            break
        except Stopped as stopped:
            sittings += 1
            reached.append(stopped.progress.step)
    assert reached == list(range(each, steps + 1, each))
    assert_identical(weights(whole), weights(broken))
    losses = [line["loss"] for line in whole.history()]
    assert [line["loss"] for line in broken.history()] == losses


def _ends(fit: str) -> Callable[[Event], bool]:
    return lambda event: isinstance(event, StepTaken) and (event.fit, event.step) == (fit, event.num_steps)


def _validates(event: Event) -> bool:
    return isinstance(event, Advanced) and event.stage == "Validating"


HELD = [*SOUP, "protocol=holdout", "train.validate_epochs=true"]


@pytest.mark.parametrize(
    ("settings", "moment", "stopped"),
    [
        ([*SOUP, "train.members=2"], _ends("model"), "of member 1"),
        pytest.param([*SOUP, "train.members=2"], _ends("member 2"), "of member 2", marks=pytest.mark.slow),
        ([*SOUP, "protocol=crossfit", "folds=2"], _ends("fold 0"), "of fold 0"),
        pytest.param(HELD, _validates, "", marks=pytest.mark.slow),
        ([*HELD, "train.members=2"], _validates, "of member 1"),
    ],
)
def test_a_request_in_the_last_step_of_a_training_is_granted(
    pictures: Path, tmp_path: Path, settings: list[str], moment: Callable[[Event], bool], stopped: str
) -> None:
    whole = train(pictures, out=tmp_path / "whole", overrides=settings)
    stops = InterruptedAt(moment)
    with pytest.raises(Stopped, match=rf"stopped after step (\d+) of \1 ?{stopped}$"):
        train(pictures, out=tmp_path / "broken", overrides=settings, listener=stops)
    assert not stops.after
    heard = Heard()
    broken = train(pictures, out=tmp_path / "broken", resume=True, listener=heard)
    assert_identical(weights(whole), weights(broken))
    first, second = ([event for event in one.events if isinstance(event, StepTaken)] for one in (stops, heard))
    assert not {(event.fit, event.step) for event in first} & {(event.fit, event.step) for event in second}


@pytest.mark.parametrize("epoch", [1, 2])
def test_an_epoch_that_nobody_had_heard_of_is_told_later(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epoch: int
) -> None:
    """A process is killed once the epoch is saved and before it is told of."""
    settings = [*SMALL, "protocol=holdout", "train.epochs=2"]
    whole = train(pictures, out=tmp_path / "whole", overrides=settings)
    told, report = [], Fit._report

    def die(fit: Fit, *about: Any) -> None:
        told.append(about)
        if len(told) == epoch:
            raise KeyboardInterrupt
        report(fit, *about)

    monkeypatch.setattr(Fit, "_report", die)
    with pytest.raises(KeyboardInterrupt):
        train(pictures, out=tmp_path / "broken", overrides=settings)
    broken = train(pictures, out=tmp_path / "broken", resume=True)
    assert_identical(weights(whole), weights(broken))
    lines = [[{**line, "seconds": 0, "validation_seconds": 0} for line in run.history()] for run in (whole, broken)]
    assert lines[0] == lines[1]
    assert len((broken.folder / "log.jsonl").read_text().splitlines()) == 2


def test_the_checkpoint_of_another_run_is_refused(pictures: Path, tmp_path: Path) -> None:
    """The run stays as it was: without the stranger it goes on."""
    settings, mine, other = [*SMALL, "train.epochs=2"], tmp_path / "mine", tmp_path / "other"
    whole = train(pictures, out=tmp_path / "whole", overrides=settings)
    for out, own in ((mine, []), (other, ["seed=5", "train.ema=false"])):
        with pytest.raises(Stopped):
            train(pictures, out=out, overrides=[*settings, *own], listener=StopsAfter(2))
    path = Run(mine).checkpoint("model")
    kept, foreign = path.read_bytes(), Run(other).checkpoint("model").read_bytes()
    path.write_bytes(foreign)
    before = {file: file.read_bytes() for file in mine.rglob("*") if file.is_file() and file.name != "times.json"}
    with pytest.raises(RunError, match="is of another training: seed was 5, not 0, "):
        train(pictures, out=mine, resume=True)
    assert {file: file.read_bytes() for file in before} == before
    path.write_bytes(kept)
    assert_identical(weights(whole), weights(train(pictures, out=mine, resume=True)))


def test_a_checkpoint_of_an_earlier_version_goes_on(pictures: Path, tmp_path: Path) -> None:
    """It does not say of which training it is."""
    settings = [*SMALL, "train.epochs=2"]
    whole = train(pictures, out=tmp_path / "whole", overrides=settings)
    with pytest.raises(Stopped):
        train(pictures, out=tmp_path / "broken", overrides=settings, listener=StopsAfter(3))
    path = Run(tmp_path / "broken").checkpoint("model")
    tensors, about = read_tensors(path)
    state = json.loads(about["state"])
    assert state.pop("of")["fit"] == "model"
    write_tensors(path, tensors, {"state": json.dumps(state)})
    assert_identical(weights(whole), weights(train(pictures, out=tmp_path / "broken", resume=True)))


def test_workers_change_nothing(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decided = Machine.decide
    runs = []
    for workers in (0, 1, 3):
        monkeypatch.setattr(
            Machine, "decide", lambda recipe, device, w=workers: replace(decided(recipe, device), workers=w)
        )
        runs.append(weights(train(pictures, out=tmp_path / str(workers), overrides=SMALL)))
    assert_identical(runs[0], runs[1])
    assert_identical(runs[0], runs[2])


def test_crossfit_resumes_within_a_fold(pictures: Path, tmp_path: Path) -> None:
    settings = [*SMALL, "protocol=crossfit", "folds=2", "train.epochs=2"]
    whole = train(pictures, out=tmp_path / "whole", overrides=settings)
    with pytest.raises(Stopped):
        train(pictures, out=tmp_path / "broken", overrides=settings, listener=StopsAfter(11))
    broken = train(pictures, out=tmp_path / "broken", resume=True)
    assert_identical(weights(whole), weights(broken))
    for run in (whole, broken):
        assert (run.evaluation("crossfit") / "scores.json").is_file()
    predictions = [(run.evaluation("crossfit") / "predictions.csv").read_bytes() for run in (whole, broken)]
    assert predictions[0] == predictions[1]


def _start(pictures: Path, out: Path, *, resume: bool) -> subprocess.Popen[bytes]:
    options = ["--resume"] if resume else [f"--set={setting}" for setting in [*SMALL, "train.checkpoint_steps=1"]]
    command = [sys.executable, "-m", "fieldmark", "train", str(pictures), "--out", str(out), *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)


@pytest.mark.parametrize("recipe", ["progressive_jigsaw", "part_selection"])
def test_methods_with_draws_and_layers_of_their_own(pictures: Path, tmp_path: Path, recipe: str) -> None:
    settings = [*SMALL, "images.train_scale=1.0", "backbone.name=test_resnet", "train.epochs=2", "train.batch_size=12"]
    whole = train(pictures, recipe, out=tmp_path / "whole", overrides=settings)
    with pytest.raises(Stopped):
        train(pictures, recipe, out=tmp_path / "broken", overrides=settings, listener=StopsAfter(4))
    broken = train(pictures, out=tmp_path / "broken", resume=True)
    assert_identical(weights(whole), weights(broken))
    own = {key: value for key, value in weights(whole).items() if not key.startswith("backbone")}
    means = [value for key, value in own.items() if key.endswith("running_mean") and "stage_features" not in key]
    assert means
    assert all(value.any() for value in means)  # of training images; those beside the way to an answer have none


@pytest.mark.slow
def test_kill_9_at_random_moments(pictures: Path, tmp_path: Path) -> None:
    whole = _start(pictures, tmp_path / "whole", resume=False)
    started = time.monotonic()
    _, errors = whole.communicate()
    assert whole.returncode == 0, errors.decode()
    length = time.monotonic() - started
    moments, kills, out = random.Random(0), 0, tmp_path / "broken"
    while kills < 20:
        begun = (out / "recipe.toml").is_file() and (out / "environment.json").is_file()
        process = _start(pictures, out, resume=begun)
        time.sleep(moments.uniform(0.2, 1.0) * length)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.communicate()
        if Run(out).is_finished:  # it outran the moment: its weights count, and it starts afresh
            assert_identical(weights(Run(tmp_path / "whole")), weights(Run(out)))
            out = tmp_path / f"broken{kills}"
    final = _start(pictures, out, resume=(out / "environment.json").is_file())
    _, errors = final.communicate()
    assert final.returncode == 0, errors.decode()
    assert_identical(weights(Run(tmp_path / "whole")), weights(Run(out)))
