"""A compiled network learns what the plain one learns, and nobody but the steps knows of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fieldmark.commands.train import train
from fieldmark.core import ranks
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Backbone, Images, Recipe
from fieldmark.data.loader import Samples, Schedule
from fieldmark.learning.training import loop
from fieldmark.learning.training.compiling import Compiled, has_compiler
from fieldmark.learning.training.loop import train_steps
from fieldmark.learning.training.optimizer import build_optimizer
from fieldmark.learning.training.setting import Setting
from fieldmark.learning.training.state import TrainingState
from fieldmark.model.model import Model
from support.commands import settings

Make = Callable[..., Model]


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """torch.compile without a compiler: what was traced is computed as it is. The graphs come into the list."""
    graphs: list[str] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append("graph")
        return graph.forward

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    yield graphs
    torch._dynamo.reset()  # type: ignore[no-untyped-call]  # torch's own


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def backend(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no g++ here\nand much more")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    yield
    torch._dynamo.reset()  # type: ignore[no-untyped-call]  # torch's own


def recipe(**train: Any) -> Recipe:
    about = {"epochs": 2, "batch_size": 6, "lr": 1e-3, "head_lr": 1e-2, "warmup": 0.0, "precision": "fp32"} | train
    return Recipe(images=Images(size=32), backbone=Backbone(name="test_resnet", weights="none"), train=about)  # type: ignore[arg-type]  # pydantic makes a Train of it


def learnt(model: Model, samples: Samples, told: list[str], *, steps: int = 8, **train: Any) -> TrainingState:
    chosen = recipe(**train)
    state = TrainingState.begin(model, build_optimizer(model, chosen.train), ema=chosen.train.ema, num_steps=8)
    schedule = Schedule(np.arange(24), 6, 2, 0)
    taken = train_steps(
        state, samples, schedule, Setting(chosen, Machine("cpu", 1, 0, "fp32", compiled=True), tell=told.append)
    )
    for _ in zip(range(steps), taken, strict=False):
        pass
    taken.close()
    return state


def test_steps_are_compiled_and_nothing_else_is(make: Make, samples: Samples, traced: list[str]) -> None:
    model, told = make(), list[str]()
    names = model.state_dict().keys()
    state = learnt(model, samples, told, ema=True, head_epochs=1)
    assert told == []
    assert traced
    assert "forward_features" not in vars(model.backbone.model)
    assert model.state_dict().keys() == names == state.shipped.state_dict().keys()
    make(seed=1).load_state_dict(model.state_dict())
    count = len(traced)
    with torch.no_grad():
        copy.deepcopy(model).eval()(torch.zeros(2, 3, 32, 32))
        state.shipped.eval()(torch.zeros(5, 3, 32, 32))
    assert len(traced) == count


def test_a_hook_sees_what_it_would_see(make: Make, traced: list[str]) -> None:
    model, seen = make().eval(), list[torch.Tensor]()
    model.backbone.last.register_forward_hook(lambda module, inputs, found: seen.append(found))
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad(), Compiled(model.backbone.model, print).applied():
        model(images)
    with torch.no_grad():
        model(images)
    torch.testing.assert_close(seen[0], seen[1])


def test_what_cannot_be_compiled_is_said_once_and_learns_all_the_same(
    make: Make, samples: Samples, broken: None
) -> None:
    told = list[str]()
    state = learnt(make(), samples, told)
    assert state.step == 8
    (said,) = told
    assert said.startswith("The network could not be compiled, so it computes as it is (")
    assert "\n" not in said
    assert "no g++ here" in said


def test_memory_that_does_not_suffice_is_no_failure_to_compile(make: Make, traced: list[str]) -> None:
    model, told = make(), list[str]()

    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    compiled = Compiled(model.backbone.model, told.append)
    model.backbone.model.conv1 = torch.nn.Identity()
    model.backbone.model.conv1.forward = torch.compiler.disable(full)  # type: ignore[method-assign]  # as a user may
    with compiled.applied(), pytest.raises(torch.OutOfMemoryError):
        model.backbone.model.forward_features(torch.zeros(2, 3, 32, 32))
    assert told == []


def test_batchnorm_of_several_processes_is_not_compiled(
    make: Make, samples: Samples, traced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "size", lambda: 2)
    told = list[str]()
    learnt(make(), samples, told, steps=1)
    assert traced == []
    assert len(told) == 1
    assert "BatchNorm" in told[0]
    assert ranks.size() == 1


def test_a_recipe_can_ask_for_it_and_a_run_that_is_resumed_ends_alike(
    pictures: Path, tmp_path: Path, traced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = settings(train__compile="true", train__epochs="2")
    whole = train(pictures, "walkthrough", out=tmp_path / "whole", overrides=overrides)
    assert traced
    assert whole.machine().compiled
    again = tmp_path / "again"
    with monkeypatch.context() as patch:
        patch.setattr("fieldmark.learning.fitting.fit.Fit._report", lambda *_: 1 / 0)  # after the first epoch is saved
        with pytest.raises(ZeroDivisionError):
            train(pictures, "walkthrough", out=again, overrides=overrides)
    torch._dynamo.reset()  # type: ignore[no-untyped-call]  # torch's own
    run = train(pictures, out=again, resume=True)
    assert (run.bundle / "model.safetensors").read_bytes() == (whole.bundle / "model.safetensors").read_bytes()


def test_a_compiler_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: name if name == "clang++" else None)
    assert has_compiler("cpu")
    monkeypatch.setattr("shutil.which", lambda name: None)
    assert not has_compiler("cpu")
    assert not has_compiler("cuda")


@pytest.mark.slow
@pytest.mark.skipif(not has_compiler("cpu"), reason="there is no C++ compiler")
def test_compiled_code_learns_the_same(make: Make, samples: Samples) -> None:
    told = list[str]()
    compiled, plain = make(), make()
    learnt(compiled, samples, told, batchnorm="frozen")
    for parameter in plain.parameters():
        parameter.requires_grad_(True)
    chosen = recipe(batchnorm="frozen")
    state = TrainingState.begin(plain, build_optimizer(plain, chosen.train), ema=False, num_steps=8)
    list(train_steps(state, samples, Schedule(np.arange(24), 6, 2, 0), Setting(chosen, Machine("cpu", 1, 0, "fp32"))))
    assert told == []
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(compiled.state_dict()[key], value, rtol=1e-2, atol=1e-4)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_a_gpu_compiles_in_bf16(make: Make, samples: Samples) -> None:
    told = list[str]()
    state = learnt(make().cuda(), samples, told, batchnorm="frozen")
    assert told == []
    assert state.step == 8
