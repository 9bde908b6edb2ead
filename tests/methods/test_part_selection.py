"""PIM: what is selected, what each loss is, and what the answer is made of, each by the paper's formula."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax
from torch import Tensor

from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.data.task import Task
from fieldmark.methods.part_selection import CellAttention, PartSelection, dropped_loss, num_selected, select
from fieldmark.model.batch import Batch
from support.models import build_method

RESNET = {"layers": (1, 1, 1, 1), "channels": (8, 16, 32, 64)}
CLASSES = 5


def make(size: int = 64, **options: Any) -> PartSelection:
    torch.manual_seed(0)
    recipe = Recipe(
        images=Images(size=size),
        backbone=Backbone(name="resnet10t", weights="none", options=RESNET),
        method=Choice(name="part_selection", **{"width": 16} | options),
    )
    method = build_method(recipe, Task(CLASSES))
    assert isinstance(method, PartSelection)
    return method.eval()


def batch_of(size: int, count: int = 3) -> Batch:
    """Mixed targets."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, CLASSES, (count, 2), generator=generator)
    images = torch.randn(count, 3, size, size, generator=generator)
    return Batch(images, labels, torch.rand(count, 2, generator=generator), torch.arange(count))


# Selection ------------------------------------------------------------------------------------------------------------


@given(st.integers(1, 3), st.integers(2, 30), st.integers(2, 6), st.data())
def test_the_most_certain_cells_are_selected(images: int, cells: int, classes: int, data: st.DataObject) -> None:
    """Against a loop over cells."""
    count = data.draw(st.integers(1, cells - 1))
    logits = np.random.default_rng(data.draw(st.integers(0, 2**31))).normal(0, 3, (images, cells, classes))
    selection = select(torch.from_numpy(logits), count)
    for image in range(images):
        certainty = [max(softmax(logits[image, cell])) for cell in range(cells)]
        ranked = sorted(range(cells), key=lambda cell: -certainty[cell])
        assert set(selection.selected[image].tolist()) == set(ranked[:count])
        assert set(selection.dropped[image].tolist()) == set(ranked[count:])


def test_certainty_is_no_matter_of_how_large_a_logit_is() -> None:
    """A cell with five large logits alike knows less than one with a single small one."""
    logits = torch.tensor([[[9.0] * 5, [1.0, 0, 0, 0, 0]]])
    assert select(logits, 1).selected.tolist() == [[1]]


def test_equally_certain_cells_are_taken_in_order() -> None:
    assert select(torch.zeros(1, 4, 3), 2).selected.tolist() == [[0, 1]]


@pytest.mark.parametrize(("share", "cells", "count"), [(8 / 9, 48**2, 2048), (8 / 9, 24**2, 512), (8 / 9, 12**2, 128),
                                                       (2 / 9, 12**2, 32)])  # fmt: skip
def test_shares_are_those_of_the_papers_numbers(share: float, cells: int, count: int) -> None:
    assert num_selected(share, cells) == count


@given(st.floats(0.001, 1), st.integers(1, 5000))
def test_one_is_selected_and_of_several_one_is_dropped(share: float, cells: int) -> None:
    count = num_selected(share, cells)
    assert 1 <= count <= max(1, cells - 1)
    assert cells == 1 or abs(count - share * cells) <= 1


# Losses ---------------------------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.floats(-20, 20), min_size=3, max_size=3), min_size=1, max_size=7))
def test_the_loss_of_what_is_dropped_is_its_formula(logits: list[list[float]]) -> None:
    squares = [(math.tanh(z) - -1) ** 2 for cell in logits for z in cell]
    assert float(dropped_loss(torch.tensor(logits))) == pytest.approx(sum(squares) / len(squares), abs=1e-5)


def test_a_cell_that_speaks_for_no_class_costs_nothing() -> None:
    assert float(dropped_loss(torch.full((2, 4, 3), -30.0))) == 0
    assert float(dropped_loss(torch.zeros(2, 0, 3))) == 0  # nothing was dropped


def cross_entropy(logits: Tensor, batch: Batch) -> Tensor:
    log_p, count = logits.log_softmax(1), len(logits)
    each = [-batch.weights[i, t] * log_p[i, batch.labels[i, t]] for i in range(count) for t in range(2)]
    return torch.stack(each).sum() / count


def by_hand(method: PartSelection, images: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Logits (B, N, K) of each stage's cells, the fused cells, and the backbone's embedding."""
    seen = method.backbone(images, method.levels)
    maps: list[Tensor] = []
    for stage, level in reversed(list(zip(method.stages, seen.levels, strict=True))):
        first, _, second = stage.project
        own = second(first(level).clamp_min(0))
        above = F.interpolate(maps[0], size=own.shape[-2:], mode="bilinear") if maps else torch.zeros_like(own)
        maps.insert(0, own + above)
    logits = []
    for stage, fused in zip(method.stages, maps, strict=True):
        cells = [stage.hidden(fused)[:, :, y, x] for y in range(fused.shape[2]) for x in range(fused.shape[3])]
        logits.append(torch.stack([stage.head(cell) for cell in cells], dim=1))
    return logits, [fused.permute(0, 2, 3, 1).flatten(1, 2) for fused in maps], seen.pooled


@pytest.mark.parametrize("size", [32, 64, 80])  # ends in one cell; in four; in maps of 10, 5 and 3 cells a side
def test_losses_and_answer_are_those_of_the_formulas(size: int) -> None:
    method, batch = make(), batch_of(size)
    with torch.no_grad():
        found, answer = method.losses(batch, 0).terms, method(batch.images)
        logits, cells, pooled = by_hand(method, batch.images)
    dropped, chosen, levels = 0.0, [], []
    for each, fused, share in zip(logits, cells, (8 / 9, 8 / 9, 2 / 9), strict=True):
        count = num_selected(share, each.shape[1])
        ranked = each.softmax(2).amax(2).argsort(1, descending=True)
        chosen.append(torch.stack([fused[i, ranked[i, :count]] for i in range(3)]))
        left = torch.cat([each[i, ranked[i, count:]] for i in range(3)])
        dropped += float((left.tanh() + 1).square().mean()) if len(left) else 0.0
        levels.append(0.5 * cross_entropy(each.mean(1), batch))
    attended, _ = method.attention(torch.cat(chosen, 1))
    torch.testing.assert_close(answer.embedding, torch.cat([attended, pooled], 1))
    torch.testing.assert_close(answer.logits, method.head(answer.embedding))
    torch.testing.assert_close(found.pop("classification"), cross_entropy(answer.logits, batch))
    assert float(found.pop("dropped")) == pytest.approx(5 * dropped, rel=1e-4)
    torch.testing.assert_close(list(found.values()), levels)
    assert list(found) == [f"stage {number} classification" for number in (1, 2, 3)]


# Pooling and parts ----------------------------------------------------------------------------------------------------


def test_each_group_of_features_is_an_average_of_its_own() -> None:
    """Against a loop over groups; before training its BatchNorm leaves values as they are."""
    torch.manual_seed(0)
    attention, cells = CellAttention(12, 3).eval(), torch.randn(2, 7, 12)
    pooled, weights = attention(cells)
    values, scores = attention.value(cells), attention.score(cells)
    for image in range(2):
        shares = [scores[image, :, group].exp() / scores[image, :, group].exp().sum() for group in range(3)]
        means = [shares[group] @ values[image, :, 4 * group : 4 * group + 4] for group in range(3)]
        torch.testing.assert_close(pooled[image], torch.cat(means) / math.sqrt(1 + attention.norm.eps))
        torch.testing.assert_close(weights[image], torch.stack(shares).mean(0))
    shuffled, _ = attention(cells[:, torch.randperm(7)])
    torch.testing.assert_close(shuffled, pooled)  # cells are a set


def test_parts_are_the_attention_at_the_selected_cells() -> None:
    method, batch = make(), batch_of(64)
    with torch.no_grad():
        parts = method(batch.images).parts
        logits, cells, _ = by_hand(method, batch.images)
    assert parts is not None
    assert parts.shape == (3, 3, 8, 8)
    sides = [8, 4, 2]
    own = [parts[:, stage, :: 8 // side, :: 8 // side].flatten(1) for stage, side in enumerate(sides)]
    torch.testing.assert_close(torch.cat(own, 1).sum(1), torch.ones(3))
    for stage, share in enumerate((8 / 9, 8 / 9, 2 / 9)):
        count = num_selected(share, sides[stage] ** 2)
        certain = logits[stage].softmax(2).amax(2).topk(count, dim=1).indices
        for image in range(3):
            assert set(own[stage][image].nonzero().flatten().tolist()) == set(certain[image].tolist())
            assert cells[stage].shape[1] == sides[stage] ** 2
    blocks = parts[:, 2].unflatten(2, (2, 4)).unflatten(1, (2, 4)).transpose(2, 3).flatten(3)
    assert (blocks == blocks[..., :1]).all()  # a coarse cell is a square of fine ones


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 0.0}, r"method.share = 0.0 is not allowed. Expected a share of the cells in \(0, 1\]"),
        ({"last_share": 1.5}, r"method.last_share = 1.5"),
        ({"width": 20}, r"method.width = 20 is not allowed. Expected a multiple of 8"),
        ({"stages": 0}, r"method.stages = 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make(**options)
