"""PMG: shuffling is a permutation, and each step learns what the paper says that it learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.data.task import Task
from fieldmark.methods import progressive_jigsaw as pmg
from fieldmark.methods.progressive_jigsaw import ProgressiveJigsaw, granularity, jigsaw
from fieldmark.model.batch import Batch
from support.models import build_method

VIT = {"depth": 6, "embed_dim": 48, "num_heads": 3}
RESNET = {"layers": (1, 1, 1, 1), "channels": (8, 16, 32, 64)}


def make(backbone: str = "resnet10t", size: int = 64, **options: Any) -> ProgressiveJigsaw:
    torch.manual_seed(0)
    recipe = Recipe(
        images=Images(size=size),
        backbone=Backbone(name=backbone, weights="none", options=VIT if backbone.startswith("vit") else RESNET),
        method=Choice(name="progressive_jigsaw", **{"width": 16} | options),
    )
    method = build_method(recipe, Task(5))
    assert isinstance(method, ProgressiveJigsaw)
    return method


def batch_of(size: int, targets: int = 1) -> Batch:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 5, (4, targets), generator=generator)
    weights = torch.rand(4, targets, generator=generator)
    return Batch(torch.randn(4, 3, size, size, generator=generator), labels, weights, torch.arange(4))


# Shuffling ------------------------------------------------------------------------------------------------------------

sides = st.integers(8, 40)
tiles_per_side = st.integers(1, 8)


def numbered(height: int, width: int) -> Tensor:
    """Two images; no two pixels are alike."""
    return torch.arange(2 * 3 * height * width, dtype=torch.float32).view(2, 3, height, width)


@given(sides, sides, tiles_per_side, st.randoms())
def test_a_jigsaw_can_be_put_together_again(height: int, width: int, n: int, random: Any) -> None:
    images = numbered(height, width)
    order = torch.tensor(random.sample(range(n * n), n * n))
    shuffled = jigsaw(images, order)
    assert torch.equal(jigsaw(shuffled, order.argsort()), images)
    assert torch.equal(shuffled.flatten(2).sort(2).values, images.flatten(2))  # every pixel is there, in its channel
    assert torch.equal(images, numbered(height, width))  # the batch itself is learnt from again


@given(sides, sides, tiles_per_side, st.randoms())
def test_tiles_move_as_a_whole(height: int, width: int, n: int, random: Any) -> None:
    """Against cutting one tile after the other."""
    images = numbered(height, width)
    order = random.sample(range(n * n), n * n)
    shuffled = jigsaw(images, torch.tensor(order))
    h, w = height // n, width // n

    def tile(picture: Tensor, place: int) -> Tensor:
        top, left = place // n * h, place % n * w
        return picture[:, :, top : top + h, left : left + w]

    for place, origin in enumerate(order):
        assert torch.equal(tile(shuffled, place), tile(images, origin))
    assert torch.equal(shuffled[:, :, n * h :], images[:, :, n * h :])  # what the grid leaves over
    assert torch.equal(shuffled[:, :, :, n * w :], images[:, :, :, n * w :])


# Steps ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "strides", "expected"),
    [
        (448, (8, 16, 32), (8, 4, 2)),  # the paper's
        (160, (8, 16, 32), (8, 4, 2)),
        (128, (8, 16, 32), (8, 4, 2)),
        (127, (8, 16, 32), (4, 2, 1)),
        (96, (8, 16, 32), (4, 2, 1)),
        (32, (8, 16, 32), (2, 1, 1)),
        (224, (16, 16, 16), (4, 4, 2)),  # of a transformer
        (518, (14, 14, 14), (8, 4, 2)),
    ],
)
def test_granularities_follow_from_size_and_stride(
    size: int, strides: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    method = make()
    method.strides = strides
    assert method.granularities(size) == expected


@given(st.integers(16, 2048), st.sampled_from([4, 8, 14, 16, 32]), st.integers(0, 5))
def test_a_tile_spans_two_cells_and_no_more_than_it_has_to(size: int, stride: int, power: int) -> None:
    n = granularity(size, stride, 2**power)
    assert n == 1 or size // n >= 2 * stride
    assert n == 2**power or size // (2 * n) < 2 * stride


def test_each_step_sees_its_tiles_and_the_last_the_images(monkeypatch: pytest.MonkeyPatch) -> None:
    method, batch, seen = make(size=128).train(), batch_of(128), []
    monkeypatch.setattr(pmg, "jigsaw", lambda images, order: seen.append(len(order)) or jigsaw(images, order))
    entered: list[Tensor] = []
    method.backbone.model.conv1.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
    assert method.steps_per_batch == 4
    for step in range(4):
        method.losses(batch, step)
    assert seen == [64, 16, 4]
    assert torch.equal(entered[3], batch.images)
    assert all(not torch.equal(images, batch.images) for images in entered[:3])


def learning(method: ProgressiveJigsaw, step: int, size: int) -> set[str]:
    """What gets a gradient in a step: pieces of the method, and stages of the backbone."""
    method.zero_grad(set_to_none=True)
    torch.stack(list(method.losses(batch_of(size), step).terms.values())).sum().backward()
    touched = {name for name, p in method.named_parameters() if p.grad is not None and p.grad.any()}
    names = {name.removeprefix("backbone.model.") for name in touched}
    return {".".join(name.split(".")[: 2 if name.startswith(("blocks.", "stage_")) else 1]) for name in names}


@pytest.mark.parametrize("step", [0, 1, 2])
def test_a_step_teaches_its_stage_and_what_is_before_it(step: int) -> None:
    found = learning(make().train(), step, 64)
    stem = {"conv1", "bn1", "layer1", "layer2"}
    own = {f"blocks.{step}", f"stage_features.{step}", f"stage_heads.{step}"}
    assert found == stem | {f"layer{depth}" for depth in range(3, step + 3)} | own


def test_the_last_step_teaches_all_but_the_stages_own_heads() -> None:
    found = learning(make().train(), 3, 64)
    assert found == {"conv1", "bn1", *(f"layer{i}" for i in range(1, 5)), *(f"blocks.{i}" for i in range(3)),
                     "features", "head"}  # fmt: skip


def test_a_transformer_is_tapped_at_thirds() -> None:
    method = make("vit_tiny_patch16_224").train()
    assert method.levels == (1, 3, 5)
    method.zero_grad(set_to_none=True)
    method.losses(batch_of(64), 0).terms["stage 1 classification"].backward()
    learnt = [any(p.grad is not None for p in block.parameters()) for block in method.backbone.model.blocks]
    assert learnt == [True, True, False, False, False, False]


def test_losses_are_those_of_the_formulas() -> None:
    """One tile, so that nothing is shuffled; mixed targets; BatchNorm as it answers."""
    method, batch = make(size=32).eval(), batch_of(32, targets=2)
    method.strides = (32, 32, 32)
    answers = method(batch.images)

    def cross_entropy(logits: Tensor) -> Tensor:
        log_p = logits.log_softmax(1)
        return sum(
            -batch.weights[i, t] * log_p[i, batch.labels[i, t]] for i in range(4) for t in range(2)
        ) / 4  # fmt: skip

    found = method.losses(batch, 3).terms
    torch.testing.assert_close(found, {"classification": 2 * cross_entropy(answers.logits)})
    seen = method.backbone(batch.images, method.levels).levels
    for step in range(3):
        pooled = F.adaptive_max_pool2d(method.blocks[step](seen[step]), 1).flatten(1)
        logits = method.stage_heads[step](method.stage_features[step](pooled))
        found = method.losses(batch, step).terms
        torch.testing.assert_close(found, {f"stage {step + 1} classification": cross_entropy(logits)})


def test_combined_is_the_sum_of_all_answers() -> None:
    plain, combined = make().eval(), make(combined=True).eval()
    combined.load_state_dict(plain.state_dict())
    images = batch_of(64).images
    seen = plain.backbone(images, plain.levels).levels
    expected = plain(images).logits
    for step in range(3):
        pooled = plain.blocks[step](seen[step]).amax((2, 3))
        expected = expected + plain.stage_heads[step](plain.stage_features[step](pooled))
    torch.testing.assert_close(combined(images).logits, expected)
    torch.testing.assert_close(combined(images).embedding, plain(images).embedding)


def test_blocks_of_the_papers_backbone_are_the_papers() -> None:
    with torch.device("meta"):
        method = build_method(
            Recipe(backbone=Backbone(name="resnet50", weights="none"), method=Choice(name="progressive_jigsaw")),
            Task(200),
        )
    assert [(block[0].in_channels, block[0].out_channels, block[3].out_channels) for block in method.blocks] == [
        (512, 512, 1024), (1024, 512, 1024), (2048, 512, 1024)
    ]  # fmt: skip
    assert method.head.classifier.linear.in_features == 512


def test_any_number_of_stages() -> None:
    method = make(stages=2, size=64)
    assert method.steps_per_batch == 3
    assert method.strides == (16, 32)
    assert method.granularities(448) == (4, 2)


def test_a_width_of_nothing_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"method.width = 0 is not allowed. Expected a positive number"):
        make(width=0)
