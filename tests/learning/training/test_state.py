"""Checkpoints bring back every bit, and the moving average is the formula."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from fieldmark.core.errors import RunError
from fieldmark.core.recipe import Recipe, Train
from fieldmark.core.seeds import Stream, derive_seed
from fieldmark.core.storage import read_tensors, write_tensors
from fieldmark.learning.training.identity import Identity
from fieldmark.learning.training.optimizer import build_optimizer, set_rates
from fieldmark.learning.training.state import TrainingState, ema_decay
from fieldmark.model.model import Model

Make = Callable[..., Model]


def begin(model: Model, *, optimizer: str = "adamw", num_steps: int = 40, **options: Any) -> TrainingState:
    train = Train(optimizer=optimizer, lr=1e-2, head_lr=1e-2, weight_decay=0.01)
    state = TrainingState.begin(model, build_optimizer(model, train), num_steps=num_steps, **{"ema": True} | options)
    set_rates(state.optimizer, 5, head_steps=0, num_steps=num_steps, train=train)
    return state


def advance(state: TrainingState, steps: int) -> None:
    for _ in range(steps):
        generator = torch.Generator().manual_seed(state.step)
        images = torch.randn(4, 3, 32, 32, generator=generator).contiguous(memory_format=torch.channels_last)
        state.model.train()
        state.optimizer.zero_grad()
        state.model(images).logits.square().mean().backward()
        state.optimizer.step()
        if state.ema is not None:
            state.ema.update_parameters(state.model)
        state.step += 1


def everything(state: TrainingState) -> dict[str, Tensor]:
    moments = state.optimizer.state_dict()["state"]
    return (
        {f"model.{k}": v for k, v in state.model.state_dict().items()}
        | ({f"ema.{k}": v for k, v in state.ema.state_dict().items()} if state.ema else {})
        | {f"start.{k}": v for k, v in (state.start or {}).items()}
        | {f"optimizer.{i}.{k}": v for i, entries in moments.items() for k, v in entries.items() if v is not None}
    )


def layout(tensor: Tensor) -> list[int]:
    """The strides that say where an element lies."""
    return [stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1]


@pytest.mark.parametrize(
    ("num_steps", "decay"), [(1, 0.0), (10, 0.0), (20, 0.5), (100, 0.9), (1000, 0.99), (10**5, 0.9999), (10**7, 0.9999)]
)
def test_the_decay_follows_the_length_of_the_run(num_steps: int, decay: float) -> None:
    assert ema_decay(num_steps) == pytest.approx(decay)


@given(st.integers(1, 10**7))
def test_the_decay_is_a_share(num_steps: int) -> None:
    assert 0 <= ema_decay(num_steps) <= ema_decay(num_steps + 1) <= 0.9999


@pytest.mark.parametrize("num_steps", [5, 40])
def test_the_average_is_the_recursion(make: Make, num_steps: int) -> None:
    state = begin(make(), num_steps=num_steps)
    expected: dict[str, Tensor] = {}
    decay = ema_decay(num_steps)
    for _ in range(6):
        advance(state, 1)
        now = {k: v.clone().double() for k, v in state.model.state_dict().items() if v.is_floating_point()}
        expected = {k: decay * expected[k] + (1 - decay) * v if expected else v for k, v in now.items()}
    own = state.shipped.state_dict()
    for key, value in expected.items():
        torch.testing.assert_close(own[key].double(), value, rtol=1e-5, atol=1e-6, msg=key)
    assert not any(p.requires_grad for p in state.shipped.parameters())


def test_what_ships(make: Make) -> None:
    with_average, without = begin(make()), begin(make(), ema=False)
    advance(with_average, 3)
    assert without.shipped is without.model
    assert with_average.shipped is not with_average.model
    assert not torch.equal(
        with_average.shipped.method.head.classifier.linear.weight,
        with_average.model.method.head.classifier.linear.weight,
    )


@pytest.mark.parametrize("ema", [True, False])
def test_a_share_of_the_start_ships(make: Make, ema: bool) -> None:
    """WiSE-FT's formula, of every weight and statistic; what is trained on is not touched."""
    state = begin(make(), ema=ema, keep_start=0.25)
    before = {key: value.clone() for key, value in state.model.state_dict().items()}
    advance(state, 3)
    after = (state.ema.module if state.ema else state.model).state_dict()
    trained = {key: value.clone() for key, value in after.items()}
    shipped = state.shipped.state_dict()
    for key, value in shipped.items():
        expected = 0.25 * before[key] + 0.75 * trained[key] if value.is_floating_point() else trained[key]
        torch.testing.assert_close(value, expected, msg=key)
        assert torch.equal(after[key], trained[key])
    assert any(not torch.equal(shipped[key], trained[key]) for key in shipped)


def test_what_knew_nothing_keeps_what_it_learnt(make: Make) -> None:
    state = begin(make(), keep_start=0.25, knows=lambda key: key.startswith("method.backbone."))
    assert state.ema
    advance(state, 3)
    trained, shipped = state.ema.module.state_dict(), state.shipped.state_dict()
    moved = {key for key, value in shipped.items() if not torch.equal(value, trained[key])}
    assert moved
    assert all(key.startswith("method.backbone.") for key in moved)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize(("ema", "keep_start"), [(True, 0.3), (True, 0.0), (False, 0.0)])
def test_a_checkpoint_brings_back_every_bit(
    make: Make, tmp_path: Path, optimizer: str, ema: bool, keep_start: float
) -> None:
    whole = begin(make(), optimizer=optimizer, ema=ema, keep_start=keep_start)
    advance(whole, 3)
    whole.sums, whole.seconds = {"loss": 0.1 + 0.2}, 1.5
    whole.save(tmp_path / "last.safetensors")
    taken_up = begin(make(seed=9), optimizer=optimizer, ema=ema, keep_start=keep_start)
    taken_up.restore(tmp_path / "last.safetensors")
    assert (taken_up.step, taken_up.sums, taken_up.seconds) == (3, {"loss": 0.1 + 0.2}, 1.5)
    for _ in range(3):  # as read, and after further steps
        before, after = everything(whole), everything(taken_up)
        assert before.keys() == after.keys()
        assert [key for key in before if not torch.equal(before[key], after[key])] == []
        assert [key for key in before if layout(before[key]) != layout(after[key])] == []
        assert [key for key in before if before[key].dtype != after[key].dtype] == []
        advance(whole, 1)
        advance(taken_up, 1)


def test_moments_lie_in_memory_as_their_parameters_do(make: Make, tmp_path: Path) -> None:
    state = begin(make())
    advance(state, 1)
    state.save(tmp_path / "last.safetensors")
    taken_up = begin(make(seed=9))
    taken_up.restore(tmp_path / "last.safetensors")
    spatial = [p for p in taken_up.model.parameters() if p.ndim == 4 and p.shape[1] > 1 and p.shape[2] > 1]
    assert spatial
    for p in spatial:
        assert p.is_contiguous(memory_format=torch.channels_last)
        assert taken_up.optimizer.state[p]["exp_avg"].is_contiguous(memory_format=torch.channels_last)


def test_a_checkpoint_before_the_first_step(make: Make, tmp_path: Path) -> None:
    state = begin(make())
    state.save(tmp_path / "last.safetensors")
    taken_up = begin(make(seed=9))
    advance(taken_up, 2)
    taken_up.restore(tmp_path / "last.safetensors")
    assert taken_up.step == 0
    assert len(taken_up.optimizer.state) == 0
    assert torch.equal(
        taken_up.model.method.head.classifier.linear.weight, state.model.method.head.classifier.linear.weight
    )


def test_a_failing_save_leaves_the_checkpoint_before(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.safetensors"
    state = begin(make())
    state.save(path)
    before = path.read_bytes()
    advance(state, 1)

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(Exception, match=r"the disk is full.*what was saved before"):
        state.save(path)
    assert path.read_bytes() == before


def one_line(state: TrainingState, path: Path) -> str:
    with pytest.raises(RunError) as caught:
        state.restore(path)
    text = str(caught.value)
    assert "\n" not in text
    assert str(path) in text
    assert "start a new run with --out." in text.lower()
    return text


def test_the_checkpoint_of_another_model(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    begin(make("test_byobnet")).save(path)
    assert f"The checkpoint {path} is of another model" in one_line(begin(make()), path)
    begin(make(), ema=False).save(path)
    assert f"The checkpoint {path} is of another model" in one_line(begin(make()), path)


def restored(state: TrainingState, path: Path, identity: Identity | None) -> str:
    """What a state of another training says of the checkpoint; it is as it was before."""
    state.identity = identity
    before = {key: value.clone() for key, value in everything(state).items()}
    text = one_line(state, path)
    assert "is of another training" in text
    assert all(torch.equal(value, before[key]) for key, value in everything(state).items())
    assert state.step == 0
    return text


def test_the_checkpoint_of_another_training(make: Make, tmp_path: Path) -> None:
    path, own = tmp_path / "last.safetensors", Identity("fold 1", Recipe(), "birds")
    state = begin(make())
    state.identity = replace(own, recipe=Recipe(seed=5, train=Train(lr=0.5)))
    advance(state, 1)
    state.save(path)
    assert "seed was 5, not 0, train.lr was 0.5, not " in restored(begin(make(seed=9)), path, own)
    begun = replace(state.identity, fit="fold 2", data="fish")
    found = restored(begin(make(seed=9)), path, begun)
    assert "it is of 'fold 1', not of 'fold 2', it learns from other images or classes" in found
    taken_up = begin(make(seed=9))
    elsewhere = state.identity.recipe.backbone.model_copy(update={"weights": "/mnt/weights.safetensors"})
    taken_up.identity = replace(state.identity, recipe=state.identity.recipe.model_copy(update={"backbone": elsewhere}))
    taken_up.restore(path)
    assert taken_up.step == 1


def test_a_member_of_a_soup_knows_its_checkpoint(make: Make, tmp_path: Path) -> None:
    """Its seed is longer than one that a user may choose."""
    path, state = tmp_path / "last.safetensors", begin(make())
    recipe = Recipe().model_copy(update={"seed": derive_seed(Stream.MEMBER, 0, 1)})
    state.identity = Identity("member 2", recipe, "birds")
    state.save(path)
    state.restore(path)
    assert f"seed was {recipe.seed}, not 7" in restored(state, path, Identity("member 2", Recipe(seed=7), "birds"))


def test_a_checkpoint_whose_recipe_is_of_a_later_version(make: Make, tmp_path: Path) -> None:
    path, state, own = tmp_path / "last.safetensors", begin(make()), Identity("model", Recipe(), "birds")
    state.save(path)
    tensors, about = read_tensors(path)
    kept = own.kept()
    kept["recipe"]["mood"] = "good"
    write_tensors(path, tensors, {"state": json.dumps(json.loads(about["state"]) | {"of": kept})})
    assert "its recipe is of another version: " in restored(state, path, own)
    del kept["recipe"]["mood"], kept["recipe"]["folds"]  # a key that is younger than the checkpoint has its default
    write_tensors(path, tensors, {"state": json.dumps(json.loads(about["state"]) | {"of": kept})})
    state.restore(path)


def test_a_checkpoint_that_does_not_say_of_what_it_is(make: Make, tmp_path: Path) -> None:
    """Earlier versions wrote such: it goes on, unless its tensors tell that it is of another training."""
    path, own = tmp_path / "last.safetensors", Identity("model", Recipe(), "birds")
    state = begin(make())
    advance(state, 2)
    state.save(path)
    taken_up = begin(make(seed=9))
    taken_up.identity = own
    taken_up.restore(path)
    assert taken_up.step == 2
    restored(begin(make(), optimizer="sgd"), path, own)
    restored(begin(make(), keep_start=0.3), path, own)
    mixed = begin(make(), keep_start=0.3)
    mixed.save(path)
    restored(begin(make()), path, own)
    momentum = begin(make(), optimizer="sgd")
    advance(momentum, 1)
    momentum.save(path)
    restored(begin(make()), path, own)


@pytest.mark.parametrize(
    "meta", [{}, {"step": "3", "sums": {}, "seconds": 1.0}, {"step": 3, "sums": {}, "seconds": None}]
)
def test_a_checkpoint_that_lacks_its_numbers(make: Make, tmp_path: Path, meta: dict[str, Any]) -> None:
    path, state = tmp_path / "last.safetensors", begin(make())
    state.save(path)
    tensors, _ = read_tensors(path)
    write_tensors(path, tensors, {"state": json.dumps({"format": "3"} | meta)})
    assert f"The checkpoint {path} cannot be read" in one_line(state, path)


def test_a_checkpoint_of_another_format(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    save_file({"a": torch.ones(1)}, path)
    assert "it has no checksum: it is damaged, or another version wrote it" in one_line(begin(make()), path)
    write_tensors(path, {"a": torch.ones(1)})
    assert "was written by another version of Fieldmark" in one_line(begin(make()), path)
    write_tensors(path, {"a": torch.ones(1)}, {"state": '{"format": "1"}'})
    assert "was written by another version of Fieldmark" in one_line(begin(make()), path)


def test_a_checkpoint_that_cannot_be_read(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "last.safetensors"
    state = begin(make())
    assert f"The checkpoint {path} cannot be read" in one_line(state, path)
    state.save(path)
    path.write_bytes(path.read_bytes()[:-100])
    weights = copy.deepcopy(state.model.state_dict())
    assert f"The checkpoint {path} cannot be read" in one_line(state, path)
    assert all(torch.equal(value, weights[key]) for key, value in state.model.state_dict().items())


def test_a_checkpoint_that_is_damaged(make: Make, tmp_path: Path) -> None:
    assert_flips_are_noticed(begin(make()), tmp_path / "last.safetensors", flips=10)


@pytest.mark.slow
def test_a_checkpoint_that_is_damaged_in_a_hundred_places(make: Make, tmp_path: Path) -> None:
    assert_flips_are_noticed(begin(make()), tmp_path / "last.safetensors", flips=100)


def assert_flips_are_noticed(state: TrainingState, path: Path, *, flips: int) -> None:
    """Each is refused before anything is restored; those in the head, where names and places are, among them."""
    state.save(path)
    data, random = bytearray(path.read_bytes()), np.random.default_rng(0)
    head = 8 + int.from_bytes(data[:8], "little")
    weights = copy.deepcopy(state.model.state_dict())
    for place in [*random.integers(0, head, flips // 2), *random.integers(head, len(data), flips - flips // 2)]:
        bit = 1 << int(random.integers(8))
        data[place] ^= bit
        path.write_bytes(data)
        data[place] ^= bit
        text = one_line(state, path)
        assert text.startswith(f"The checkpoint {path} cannot be read (")
        assert text.endswith(
            "Delete it, and --resume trains what it holds from the start and keeps the rest; or start a new run with "
            "--out."
        )
        assert all(torch.equal(value, weights[key]) for key, value in state.model.state_dict().items())
