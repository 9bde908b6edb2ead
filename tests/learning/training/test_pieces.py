"""A batch that does not fit into memory is computed in pieces, and the step stays that of the whole batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fieldmark.commands.train import train
from fieldmark.core.errors import DeviceError, TrainingError
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.data.loader import Samples, Schedule
from fieldmark.data.task import Task
from fieldmark.learning.training import pieces
from fieldmark.learning.training.loop import train_steps
from fieldmark.learning.training.optimizer import build_optimizer
from fieldmark.learning.training.setting import Setting
from fieldmark.learning.training.state import TrainingState
from fieldmark.model.batch import Batch
from fieldmark.model.build import build_model
from fieldmark.model.model import Model
from support.commands import settings
from support.hearing import Heard

BATCH = 6
MACHINE = Machine("cpu", 1, 0, "fp32")


def recipe(**changes: Any) -> Recipe:
    train = {"epochs": 1, "batch_size": BATCH, "lr": 1e-3, "head_lr": 1e-2, "warmup": 0.0, "precision": "fp32"}
    named = {key: Choice.model_validate(value) for key, value in changes.items() if key in ("loss", "auxiliary")}
    return Recipe(
        images=Images(size=32),
        backbone=Backbone(name="test_resnet", weights="none", options={"drop_rate": 0.2}),
        **named,
        train=train | changes.get("train", {}),  # type: ignore[arg-type]  # pydantic makes a Train of it
    )


def gpu_is_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")


def cpu_is_full() -> None:
    """Really: there are not so many addresses."""
    torch.empty(2**58)


def python_is_full() -> None:
    np.empty(2**58)


def no_kernel() -> None:
    """As oneDNN has it where there is no room for a kernel's code."""
    raise RuntimeError("could not create a primitive")


def four_steps(
    chosen: Recipe, samples: Samples, fits: int = BATCH, full: Callable[[], None] = gpu_is_full
) -> tuple[TrainingState, list[int], float]:
    """On a machine whose memory suffices for so many images: the state, what was tried, and the mean loss."""
    torch.manual_seed(0)
    model = build_model(chosen, Task(3)).to(memory_format=torch.channels_last)
    tried = short_of_memory(model, fits, full)
    state = TrainingState.begin(model, build_optimizer(model, chosen.train), ema=False, num_steps=4)
    schedule = Schedule(np.arange(24), BATCH, 1, 0)
    *_, last = train_steps(state, samples, schedule, Setting(chosen, MACHINE))
    return state, tried, last.loss


def short_of_memory(model: Model, fits: int, full: Callable[[], None]) -> list[int]:
    """As a GPU is: it finds out when the forward pass is done. The sizes that were tried come into the list."""
    tried, losses = list[int](), model.losses

    def measured(batch: Batch, step: int) -> dict[str, Tensor]:
        found = losses(batch, step)
        tried.append(len(batch.rows))
        if len(batch.rows) > fits:
            full()
        return found

    model.losses = measured  # type: ignore[method-assign]  # of this model alone
    return tried


def without_dropout(chosen: Recipe) -> Recipe:
    return chosen.model_copy(update={"backbone": chosen.backbone.model_copy(update={"options": {}})})


@pytest.mark.parametrize(("fits", "halved", "each"), [(3, 2, [6, 3, 3]), (2, 4, [6, 3, 1, 2, 1, 2]), (5, 2, [6, 3, 3])])
def test_pieces_add_up_to_the_step_of_the_whole_batch(
    fits: int, halved: int, each: list[int], samples: Samples
) -> None:
    chosen = without_dropout(recipe(train={"batchnorm": "frozen"}))
    whole, _, loss = four_steps(chosen, samples)
    state, tried, same = four_steps(chosen, samples, fits)
    assert tried[: len(each)] == each
    assert sum(tried[len(each) :]) == 3 * BATCH, "what has been found out is not tried again"
    assert state.pieces == halved
    assert same == pytest.approx(loss, rel=1e-5)
    for key, value in whole.model.state_dict().items():
        torch.testing.assert_close(state.model.state_dict()[key], value, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("full", [cpu_is_full, python_is_full, no_kernel])
def test_a_processor_runs_out_of_memory_too(full: Callable[[], None], samples: Samples) -> None:
    state, tried, _ = four_steps(recipe(), samples, 3, full)
    assert tried[:3] == [6, 3, 3]
    assert state.pieces == 2


def test_other_errors_are_no_lack_of_memory(samples: Samples) -> None:
    def wrong() -> None:
        raise RuntimeError("The size of tensor a (3) must match the size of tensor b (4)")

    with pytest.raises(RuntimeError, match="must match"):
        four_steps(recipe(), samples, 3, wrong)


def test_an_attempt_that_failed_leaves_no_trace(samples: Samples) -> None:
    """BatchNorm and dropout then do what they would have done if the pieces had been known."""
    found, _, _ = four_steps(recipe(), samples, 3)
    torch.manual_seed(0)
    model = build_model(recipe(), Task(3)).to(memory_format=torch.channels_last)
    known = TrainingState.begin(model, build_optimizer(model, recipe().train), ema=False, num_steps=4)
    known.pieces = 2
    schedule = Schedule(np.arange(24), BATCH, 1, 0)
    assert len(list(train_steps(known, samples, schedule, Setting(recipe(), MACHINE)))) == 4
    for key, value in known.model.state_dict().items():
        assert torch.equal(found.model.state_dict()[key], value), key


@pytest.mark.parametrize("moving", [True, False])
def test_there_is_a_smallest_piece(moving: bool, samples: Samples) -> None:
    """BatchNorm that learns needs two images."""
    chosen = recipe(train={"batchnorm": "plain" if moving else "frozen"})
    with pytest.raises(TrainingError, match=f"even {'2 images' if moving else '1 image'} at a time"):
        four_steps(chosen, samples, 0)


@pytest.mark.parametrize("change", [{"loss": {"name": "proxy_anchor"}}, {"auxiliary": {"name": "supcon"}}])
def test_images_that_are_compared_must_be_there_at_once(change: dict[str, Any], samples: Samples) -> None:
    with pytest.raises(TrainingError, match="compares its images") as caught:
        four_steps(recipe(**change), samples, 3)
    assert "train.batch_size" in caught.value.hint


def test_other_processes_are_not_left_waiting(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    """They may stand where something is exchanged, so this one ends, and with it all."""
    monkeypatch.setattr(pieces, "size", lambda: 2)
    with pytest.raises(DeviceError, match="in one of 2 processes"):
        four_steps(recipe(), samples, 3)


@given(st.integers(1, 40), st.integers(1, 60))
def test_every_image_is_in_one_piece(count: int, number: int) -> None:
    found = [list(range(count))[which] for which in pieces._slices(count, number)]
    assert list(chain(*found)) == list(range(count))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert min(map(len, found)) > 0


def test_a_run_says_it_once_keeps_it_and_goes_on_so(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses: Callable[[Model, Batch, int], dict[str, Tensor]] = Model.losses
    tried: list[int] = []

    def measured(model: Model, batch: Batch, step: int) -> dict[str, Tensor]:
        tried.append(len(batch.rows))
        if len(batch.rows) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses(model, batch, step)

    monkeypatch.setattr(Model, "losses", measured)
    heard, out = Heard(), tmp_path / "run"
    overrides = settings(train__batch_size="8", train__members="2", train__batchnorm="plain")
    with monkeypatch.context() as patch:
        patch.setattr("fieldmark.commands.train.fit_calibration", lambda *_: 1 / 0)  # stopped after all is learnt
        with pytest.raises(ZeroDivisionError):
            train(pictures, "walkthrough", out=out, overrides=overrides, listener=heard)
    said = [text for text in heard.notes if "Memory" in text]
    assert said == [
        "Memory does not suffice for a batch of 8 images, so it is computed in 2 pieces from now on, and the steps "
        "stay those of the whole batch, but for BatchNorm, which sees one piece at a time"
    ]
    assert tried.count(8) == 1
    for path in (out / "checkpoints").glob("*2*"):  # the second member is trained again
        path.unlink()
    run = train(pictures, out=out, resume=True)
    assert tried.count(8) == 1
    assert run.decided("pieces") == 2


def test_what_does_not_fit_in_any_way_is_said(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place, full in (
        ("fieldmark.learning.fitting.fit.adopt_statistics", gpu_is_full),
        ("fieldmark.learning.fitting.fit.adopt_statistics", cpu_is_full),
        ("fieldmark.learning.fitting.reading.prepare", python_is_full),
    ):
        monkeypatch.setattr(place, lambda *_, full=full, **__: full())
        with pytest.raises(TrainingError, match="Memory does not suffice") as caught:
            train(pictures, "finetune", out=tmp_path / "run", overrides=settings(train__solver="gradient"))
        assert "images.size or train.batch_size" in caught.value.hint
        assert not (tmp_path / "run").exists() or not any((tmp_path / "run").iterdir())
