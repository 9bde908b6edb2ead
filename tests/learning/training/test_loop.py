"""The loop: what a step sees, what it changes, and how it stops."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, final

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fieldmark.core.errors import TrainingError
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Recipe
from fieldmark.data.loader import Samples, Schedule
from fieldmark.learning.training.loop import Progress, train_steps
from fieldmark.learning.training.optimizer import build_optimizer
from fieldmark.learning.training.setting import Setting
from fieldmark.learning.training.state import TrainingState
from fieldmark.model.backbone import Backbone
from fieldmark.model.batch import Batch
from fieldmark.model.method import Losses, Method, Prediction
from fieldmark.model.model import Model

Make = Callable[..., Model]
EPOCHS, BATCH, PER_EPOCH = 2, 6, 4  # 24 images
MACHINE = Machine("cpu", 1, 0, "fp32")


def loss_of(logits: Tensor, batch: Batch) -> Tensor:
    """Weighted cross-entropy, target by target."""
    each = [F.cross_entropy(logits.float(), labels, reduction="none") for labels in batch.labels.T]
    return (torch.stack(each, dim=1) * batch.weights).sum() / len(logits)


@final
class Witness(Method):
    """Writes down what it is given; its losses can be told to go wrong."""

    steps_per_batch: ClassVar[int] = 2

    def __init__(self, backbone: Backbone, spoil: Callable[[int], float] = lambda call: 0.0) -> None:
        super().__init__(backbone)
        self.head = nn.Linear(backbone.width, 3)
        self.spoil = spoil
        self.seen: list[tuple[int, Batch]] = []
        self.logits: list[Tensor] = []

    def forward(self, images: Tensor) -> Prediction:
        embedding = self.backbone(images).pooled
        return Prediction(self.head(embedding), embedding, embedding)

    def losses(self, batch: Batch, step: int) -> Losses:
        self.seen.append((step, batch))
        logits = self(batch.images).logits
        self.logits.append(logits.detach())
        loss = loss_of(logits, batch)
        return Losses({"steady": loss, "shaky": loss * 0 + self.spoil(len(self.seen))})


def recipe(**changes: Any) -> Recipe:
    train = {"epochs": EPOCHS, "batch_size": BATCH, "warmup": 0.0, "lr": 1e-2, "head_lr": 1e-2, "precision": "fp32"}
    return Recipe.parse(
        {
            "train": train | changes.get("train", {}),
            "augment": changes.get("augment", {}),
            "seed": changes.get("seed", 0),
        },
        source="test",
    )


def begin(learner: Model | Method, chosen: Recipe) -> TrainingState:
    model = learner if isinstance(learner, Model) else Model(learner)
    optimizer = build_optimizer(model, chosen.train)
    return TrainingState.begin(model, optimizer, ema=chosen.train.ema, num_steps=EPOCHS * PER_EPOCH)


def steps(
    state: TrainingState, samples: Samples, chosen: Recipe, *, precision: str = "fp32", workers: int = 0
) -> list[Progress]:
    return list(_steps(state, samples, chosen, precision, workers))


def _steps(state: TrainingState, samples: Samples, chosen: Recipe, precision: str = "fp32", workers: int = 0) -> Any:
    schedule = Schedule(np.arange(len(samples.catalog)), BATCH, EPOCHS, chosen.seed)
    return train_steps(state, samples, schedule, Setting(chosen, Machine("cpu", 1, workers, precision)))


def weights(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> set[str]:
    return {key for key in a if not torch.equal(a[key], b[key])}


def test_progress(make: Make, samples: Samples) -> None:
    state = begin(make(), recipe())
    seen = steps(state, samples, recipe())
    assert [p.step for p in seen] == list(range(1, 9))
    assert [p.epoch for p in seen] == [0] * 4 + [1] * 4
    assert [p.ends_epoch for p in seen] == [False, False, False, True] * 2
    assert {p.num_steps for p in seen} == {8}
    assert all(p.images_per_second > 0 for p in seen)
    assert state.step == 8
    assert seen[-1].loss < seen[0].loss  # brightness is easily learnt
    assert list(_steps(state, samples, recipe())) == []  # nothing is left


def test_the_loss_is_the_mean_since_the_epoch_began(make: Make, samples: Samples) -> None:
    method = Witness(make().backbone)
    seen = steps(begin(method, recipe()), samples, recipe())
    each = [
        sum(float(loss_of(method.logits[i], method.seen[i][1])) for i in pair)
        for pair in ((2 * k, 2 * k + 1) for k in range(8))
    ]
    expected = [np.mean(each[:k]) for k in range(1, 5)] + [np.mean(each[4:k]) for k in range(5, 9)]
    assert [p.loss for p in seen] == pytest.approx(expected, rel=1e-5)


def test_an_image_counts_as_much_as_its_weight_says(make: Make, samples: Samples) -> None:
    method = Witness(make().backbone)
    weights = torch.linspace(0, 1, 24)
    chosen = recipe(augment={"mix": "mixup"})
    schedule = Schedule(np.arange(24), BATCH, EPOCHS, chosen.seed)
    state = begin(method, chosen)
    for _ in train_steps(state, samples, schedule, Setting(chosen, MACHINE, weights=weights)):
        batch = method.seen[-1][1]
        torch.testing.assert_close(batch.weights.sum(), weights[batch.rows].sum())
        own = weights[batch.rows]
        share = batch.weights[:, 0] / own.clip(1e-9)
        assert (share[own > 0] - share[own > 0][0]).abs().max() < 1e-5, "one share for the whole batch"


def test_what_a_step_is_given(make: Make, samples: Samples) -> None:
    method = Witness(make().backbone)
    steps(begin(method, recipe()), samples, recipe())
    assert [index for index, _ in method.seen] == [0, 1] * 8  # a batch deserves two steps
    batches = [batch for _, batch in method.seen]
    assert all(a is b for a, b in zip(batches[::2], batches[1::2], strict=True))
    schedule = Schedule(np.arange(24), BATCH, EPOCHS, seed=0)
    for step, batch in enumerate(batches[::2]):
        rows = [row for _, row in schedule.batch(step)]
        assert batch.rows.tolist() == rows
        assert batch.labels.tolist() == [[row % 3] for row in rows]
        assert (batch.weights == 1).all()
        pixels = torch.stack([samples[key][0] for key in schedule.batch(step)])
        torch.testing.assert_close(batch.images, method.backbone.normalization(pixels))
        assert batch.images.is_contiguous(memory_format=torch.channels_last)
        assert (batch.boxes, batch.keypoints) == (None, None)


def test_each_of_two_steps_moves_the_weights(make: Make, samples: Samples) -> None:
    method = Witness(make().backbone)
    heads: list[Tensor] = []
    method.spoil = lambda call: heads.append(method.head.weight.detach().clone()) or 0.0
    next(_steps(begin(method, recipe()), samples, recipe()))
    assert len(heads) == 2
    assert not torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[1], method.head.weight)


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "both"])
def test_mixed_batches(make: Make, samples: Samples, kind: str) -> None:
    chosen = recipe(augment={"mix": kind})
    method = Witness(make().backbone)
    steps(begin(method, chosen), samples, chosen)
    plain = Witness(make().backbone)
    steps(begin(plain, recipe()), samples, recipe())
    shares = set()
    for (_, batch), (_, unmixed) in zip(method.seen, plain.seen, strict=True):
        assert batch.labels.shape == batch.weights.shape == (BATCH, 2)
        torch.testing.assert_close(batch.weights.sum(1), torch.ones(BATCH))
        assert torch.equal(batch.labels[:, :1], unmixed.labels)
        assert sorted(batch.labels[:, 1].tolist()) == sorted(unmixed.labels.flatten().tolist())
        shares.add(float(batch.weights[0, 0]))
    assert len(shares) == 8 if kind == "mixup" else len(shares) >= 7  # boxes of whole pixels may be equally large


def test_snapmix_asks_the_method_as_it_answers(make: Make, samples: Samples) -> None:
    chosen = recipe(augment={"mix": "snapmix", "mix_alpha": 5.0}, train={"epochs": 1, "lr": 1e-9, "head_lr": 1e-9})
    method = Witness(make().backbone)
    asked: list[tuple[bool, Tensor, Tensor]] = []

    def class_maps(images: Tensor, labels: Tensor) -> Tensor:
        asked.append((method.training or method.backbone.training, images, labels))
        return method.backbone.shares(images, lambda pooled: pooled.sum(1))

    method.class_maps = class_maps
    before = copy.deepcopy(method.backbone.state_dict())
    running = _steps(begin(method, chosen), samples, chosen)
    next(running)
    assert method.training
    assert method.backbone.training
    (training, images, labels), (_, batch) = asked[0], method.seen[0]
    assert not training
    assert torch.equal(labels, batch.labels[:, 0])
    assert images.shape == batch.images.shape
    assert not torch.equal(images, batch.images)  # they are asked before they are mixed
    counted = {key: value for key, value in method.backbone.state_dict().items() if key.endswith("num_batches_tracked")}
    assert counted
    assert all(int(value) == int(before[key]) + 2 for key, value in counted.items())  # the two steps, not the maps
    assert not torch.allclose(batch.weights.sum(1), torch.ones(BATCH))


def test_some_batches_are_mixed(make: Make, samples: Samples) -> None:
    chosen = recipe(augment={"mix": "mixup", "mix_probability": 0.5})
    method = Witness(make().backbone)
    steps(begin(method, chosen), samples, chosen)
    assert {batch.labels.shape[1] for _, batch in method.seen} == {1, 2}


@pytest.mark.parametrize(("value", "text"), [(float("nan"), "nan"), (float("inf"), "inf")])
def test_a_loss_that_is_not_a_number(make: Make, samples: Samples, tmp_path: Path, value: float, text: str) -> None:
    method = Witness(make().backbone, lambda call: value if call == 7 else 0.0)  # the first half of the fourth step
    state = begin(method, recipe(train={"ema": True}))
    saved = tmp_path / "last.safetensors"
    running = _steps(state, samples, recipe())
    list(islice(running, 3))
    state.save(saved)
    before = weights(method)
    with pytest.raises(TrainingError) as caught:
        next(running)
    assert str(caught.value) == (
        f"The loss became {text} at step 4 (shaky). "
        "Checkpoints saved before are intact. Lower train.lr and train.head_lr, or set train.clip_norm=1."
    )
    assert state.step == 3
    statistics = {key for key in before if key.endswith(("running_mean", "running_var", "num_batches_tracked"))}
    assert differing(before, method.state_dict()) <= statistics  # the bad loss has moved no weight
    again = begin(Witness(make(seed=5).backbone), recipe(train={"ema": True}))
    again.restore(saved)
    assert again.step == 3
    assert differing(before, again.model.method.state_dict()) == set()


def test_the_sum_of_losses_may_be_too_large(make: Make, samples: Samples) -> None:
    method = Witness(make().backbone, lambda call: 3e38)
    kept = method.losses
    method.losses = lambda batch, step: Losses(kept(batch, step).terms | {"also": torch.tensor(3e38)})
    with pytest.raises(TrainingError, match=r"^The loss became inf at step 1 \(their sum\)\."):
        steps(begin(method, recipe()), samples, recipe())


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", torch.bfloat16), ("fp32", torch.float32)])
@pytest.mark.parametrize("backbone", ["test_resnet", "vit_tiny_patch16_224"])
def test_precision(make: Make, samples: Samples, backbone: str, precision: str, dtype: torch.dtype) -> None:
    method = Witness(make(backbone).backbone)
    seen = steps(begin(method, recipe()), samples, recipe(), precision=precision)
    assert {logits.dtype for logits in method.logits} == {dtype}
    assert {p.dtype for p in method.parameters()} == {torch.float32}
    assert all(np.isfinite(p.loss) for p in seen)


def test_the_head_learns_first(make: Make, samples: Samples) -> None:
    chosen = recipe(train={"head_epochs": 1, "weight_decay": 0.1})
    model = make()
    before = weights(model)
    running = _steps(begin(model, chosen), samples, chosen)
    list(islice(running, PER_EPOCH))
    assert differing(before, model.state_dict()) == {
        "method.head.classifier.linear.weight",
        "method.head.classifier.linear.bias",
    }
    middle = weights(model)
    list(islice(running, 3))  # a residual branch that begins at zero lets gradients in after the first
    moved = differing(middle, model.state_dict())
    assert {key for key, _ in model.named_parameters()} <= moved
    assert any("running_mean" in key for key in moved)


def test_the_head_never_takes_more_than_half_of_the_epochs(make: Make, samples: Samples) -> None:
    """A recipe that gives two epochs to the head can be tried for two."""
    chosen = recipe(train={"head_epochs": EPOCHS})
    model = make()
    running = _steps(begin(model, chosen), samples, chosen)
    list(islice(running, EPOCHS // 2 * PER_EPOCH))
    middle = weights(model)
    list(islice(running, 3))
    assert "method.backbone.model.conv1.0.weight" in differing(middle, model.state_dict())


@pytest.mark.parametrize("batchnorm", ["plain", "frozen"])
def test_statistics_of_batchnorm(make: Make, samples: Samples, batchnorm: str) -> None:
    model = make()
    before = weights(model)
    steps(begin(model, recipe()), samples, recipe(train={"batchnorm": batchnorm}))
    statistics = {key for key in before if "running" in key or "num_batches" in key}
    moved = differing(before, model.state_dict()) & statistics
    assert moved == (set() if batchnorm == "frozen" else statistics)


def test_a_gradient_is_cut_to_its_longest_length(make: Make, samples: Samples) -> None:
    lr, longest = 0.5, 1e-3
    for clip, bound in ((longest, lr * longest * 1.001), (0.0, float("inf"))):
        settings = {"optimizer": "sgd", "momentum": 0.0, "lr": lr, "head_lr": lr, "clip_norm": clip}
        chosen = recipe(train=settings)
        model = make()
        before = weights(model)
        next(_steps(begin(model, chosen), samples, chosen))
        moves = [(p - before[key]).detach().flatten() for key, p in model.named_parameters()]
        length = float(torch.cat(moves).norm())
        assert (length <= bound) == (clip > 0 or bound == float("inf"))
        assert length == pytest.approx(lr * longest, rel=1e-2) if clip else length > 10 * lr * longest


def test_a_step_is_a_function_of_state_and_number(make: Make, samples: Samples, tmp_path: Path) -> None:
    """Whatever the global generator holds, and wherever the training was interrupted."""
    chosen = recipe(train={"ema": True}, augment={"mix": "both"})
    whole = begin(make(dropout=0.5), chosen)
    losses = [p.loss for p in _steps(whole, samples, chosen)]
    broken = begin(make(dropout=0.5), chosen)
    torch.manual_seed(123)
    first = [p.loss for p in islice(_steps(broken, samples, chosen), 5)]
    broken.save(tmp_path / "last.safetensors")
    torch.rand(7)
    taken_up = begin(make(seed=4, dropout=0.5), chosen)
    taken_up.restore(tmp_path / "last.safetensors")
    rest = [p.loss for p in _steps(taken_up, samples, chosen)]
    assert first + rest == losses
    assert differing(weights(whole.model), weights(taken_up.model)) == set()
    assert differing(weights(whole.shipped), weights(taken_up.shipped)) == set()


def test_another_seed_is_another_training(make: Make, samples: Samples) -> None:
    losses = [[p.loss for p in steps(begin(make(), r), samples, r)] for r in (recipe(), recipe(seed=1))]
    assert losses[0] != losses[1]


def test_the_average_follows_the_weights(make: Make, samples: Samples) -> None:
    chosen = recipe(train={"ema": True})
    state = begin(make(), chosen)
    steps(state, samples, chosen)
    # 8 steps: decay 0, so the average is the last weights
    assert differing(weights(state.shipped), weights(state.model)) == set()
    assert state.shipped is not state.model


def test_each_stage_of_a_step_is_told_in_order(make: Make, samples: Samples) -> None:
    told: list[str] = []
    schedule = Schedule(np.arange(24), BATCH, EPOCHS, seed=0)
    state = begin(Witness(make().backbone), recipe())
    next(train_steps(state, samples, schedule, Setting(recipe(), MACHINE, lap=told.append)))
    assert told == ["images", "batch", *["forward", "backward", "optimiser"] * 2, "rest"]
