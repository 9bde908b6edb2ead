"""Each loss of part discovery against a loop over its definition; what supervision learns from, and what it refuses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.data.task import Task
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.methods import part_discovery as pd
from fieldmark.model.batch import Batch
from support.models import build_method


def shares(*shape: int, seed: int = 0) -> Tensor:
    return (3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))).softmax(dim=1)


def make(size: int = 64, task: Task | None = None, **options: object) -> pd.PartDiscovery:
    torch.manual_seed(0)
    method = build_method(
        Recipe(
            images=Images(size=size),
            backbone=Backbone(name="test_resnet", weights="none"),
            method=Choice(name="part_discovery", **options),
        ),
        task or Task(3),
    )
    assert isinstance(method, pd.PartDiscovery)
    return method


def batch_of(size: int = 64, count: int = 4, keypoints: Tensor | None = None) -> Batch:
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(count).unsqueeze(1) % 3
    return Batch(images, labels, torch.ones(count, 1), torch.arange(count), keypoints=keypoints)


# the losses -----------------------------------------------------------------------------------------------------------


def test_concentration_is_the_variance_of_each_parts_mass() -> None:
    maps = shares(2, 3, 4, 5)
    each = []
    for one in maps.double().numpy().reshape(6, 4, 5):
        places = [((x + 0.5) / 5, (y + 0.5) / 4) for y in range(4) for x in range(5)]
        centre = np.average(places, axis=0, weights=one.ravel())
        each.append(np.average(((np.array(places) - centre) ** 2).sum(axis=1), weights=one.ravel()))
    assert pd.concentration_loss(maps).item() == pytest.approx(np.mean(each), rel=1e-5)


def test_a_part_of_one_cell_is_concentrated_however_little_it_has() -> None:
    maps = torch.zeros(1, 1, 6, 6)
    maps[..., 2, 3] = 1e-3
    assert pd.concentration_loss(maps).item() == pytest.approx(0, abs=1e-9)


def test_variation_sums_the_steps_between_neighbours() -> None:
    maps = shares(2, 3, 4, 5)
    total = 0.0
    for image in maps:
        for one in image.tolist():
            total += sum(abs(one[y + 1][x] - one[y][x]) for y in range(3) for x in range(5))
            total += sum(abs(one[y][x + 1] - one[y][x]) for y in range(4) for x in range(4))
    assert pd.variation_loss(maps).item() == pytest.approx(total / (2 * 4 * 5), rel=1e-5)


def test_entropy_is_that_of_torchs_distribution() -> None:
    maps = shares(2, 4, 3, 3)
    reference = torch.distributions.Categorical(probs=maps.permute(0, 2, 3, 1)).entropy().mean()
    torch.testing.assert_close(pd.entropy_loss(maps), reference)
    assert pd.entropy_loss(torch.eye(3).view(1, 3, 3, 1)).item() == 0


def test_orthogonality_averages_squared_cosines() -> None:
    vectors = torch.randn(2, 3, 7, generator=torch.Generator().manual_seed(2))
    total = 0.0
    for image in vectors.double().numpy():
        for i in range(3):
            for j in range(3):
                if i != j:
                    total += (image[i] @ image[j] / np.linalg.norm(image[i]) / np.linalg.norm(image[j])) ** 2
    assert pd.orthogonality_loss(vectors).item() == pytest.approx(total / (2 * 9), rel=1e-4)


def windows(one: np.ndarray, side: int) -> list[tuple[int, int, float]]:
    height, width = one.shape
    return [
        (y, x, float(one[y : y + side, x : x + side].mean()))
        for y in range(height - side + 1)
        for x in range(width - side + 1)
    ]


@pytest.mark.parametrize(("cells", "side", "margin"), [(4, 1, 0), (14, 2, 1), (28, 3, 2)])
def test_presence_and_background_look_at_the_best_window(cells: int, side: int, margin: int) -> None:
    maps = shares(2, 3, cells, cells)
    images = maps.double().numpy()
    inner = images[:, :, margin : cells - margin, margin : cells - margin]  # presence is asked for off the border
    best = [max(mean for image in inner for *_, mean in windows(image[k], side)) for k in range(2)]
    assert pd.presence_loss(maps[:, :2]).item() == pytest.approx(np.mean([-math.log(b + 1e-6) for b in best]), rel=1e-4)
    last = cells - side  # of the windows' numbers
    weighted = [
        max(m * ((2 * y / last - 1) ** 2 + (2 * x / last - 1) ** 2) / 2 for y, x, m in windows(image[2], side))
        for image in images
    ]
    expected = np.mean([-math.log(w + 1e-6) for w in weighted])
    assert pd.background_loss(maps[:, 2]).item() == pytest.approx(expected, rel=1e-4)


def test_a_part_that_is_nowhere_is_called_back() -> None:
    scores = torch.zeros(2, 2, 4, 4)
    scores[:, 0] = -10
    scores.requires_grad_()
    pd.presence_loss(scores.softmax(dim=1)[:, :1]).backward()
    assert scores.grad is not None
    assert scores.grad[:, 0].sum().item() < -0.9  # published: 1 − share, whose gradient is the share's own e⁻¹⁰


def test_moving_is_a_look_up() -> None:
    """A turn by a right angle, a shift by whole cells: no interpolation, so the answer can be written down."""
    maps = shares(1, 2, 4, 4)
    quarter = torch.tensor([[[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]]])  # the new view's (x, y) comes from (−y, x)
    torch.testing.assert_close(pd.moved(maps, quarter), torch.rot90(maps, 1, dims=(2, 3)), atol=1e-5, rtol=0)
    shift = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])  # by a quarter of the side, which is a cell
    moved = pd.moved(maps, shift)
    torch.testing.assert_close(moved[..., :3], maps[..., 1:], atol=1e-5, rtol=0)
    assert moved[..., 3].abs().max().item() == pytest.approx(0, abs=1e-5)


def test_equivariance_is_the_cosine_over_cells_that_both_views_have() -> None:
    here, there = shares(1, 2, 4, 4), shares(1, 2, 4, 4, seed=1)
    shift = torch.tensor([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]])
    cosines = []
    for k in range(2):
        a, b = here[0, k, :, 1:].double().numpy().ravel(), there[0, k, :, :3].double().numpy().ravel()
        cosines.append(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert pd.equivariance_loss(here, there, shift).item() == pytest.approx(1 - np.mean(cosines), abs=1e-5)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_what_moves_with_the_picture_costs_nothing(seed: int) -> None:
    torch.manual_seed(seed)
    theta = pd.rigid_transforms(3, torch.zeros(1))
    maps = shares(3, 2, 6, 6, seed=seed)
    assert pd.equivariance_loss(maps, pd.moved(maps, theta), theta).item() == pytest.approx(0, abs=1e-4)
    turned = theta[:, :, :2] @ theta[:, :, :2].transpose(1, 2)  # rotation times scale: a multiple of the identity
    scale = turned[:, 0, 0].rsqrt()
    torch.testing.assert_close(turned, scale.pow(-2)[:, None, None] * torch.eye(2), atol=1e-5, rtol=0)
    assert (scale > 0.8 - 1e-4).all()
    assert (scale < 1.4 + 1e-4).all()
    assert theta[:, :, 2].abs().max() <= 0.22 + 1e-6


def test_transforms_come_from_the_global_generator() -> None:
    torch.manual_seed(3)
    first = pd.rigid_transforms(2, torch.zeros(1))
    torch.manual_seed(3)
    assert torch.equal(first, pd.rigid_transforms(2, torch.zeros(1)))
    assert not torch.equal(first[0], first[1])


# key points -----------------------------------------------------------------------------------------------------------


def test_key_points_that_cannot_be_seen_teach_nothing() -> None:
    scores = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    places = torch.tensor([[[0.1, 0.6], [0.9, 0.2], [1.2, 0.5]], [[float("nan")] * 2, [-0.1, 0.3], [0.5, 0.5]]])
    visible = torch.tensor([[True, True, True], [True, True, False]])  # outside, NaN, outside, not visible
    share = scores.double().softmax(dim=1).numpy()
    expected = []
    for part, y, x in ((0, 2, 0), (1, 0, 3)):  # of image 0; in cells of a quarter
        expected.append(-math.log(share[0, part, y, x]) - math.log(share[0, part, y, x] / share[0, part].sum()))
    assert pd.keypoint_loss(scores, places, visible).item() == pytest.approx(np.mean(expected), rel=1e-5)
    assert pd.keypoint_loss(scores, places, torch.zeros_like(visible)).item() == 0


def test_a_batch_without_a_visible_key_point_is_learnt_from_all_the_same() -> None:
    method = make(task=Task(3, keypoints=("eye", "tail")), supervise=1.0, parts=3)
    losses = method.losses(batch_of(keypoints=torch.zeros(4, 2, 3)), 0).terms
    assert losses["keypoints"].item() == 0
    torch.stack(list(losses.values())).sum().backward()


def test_supervision_needs_key_points_and_a_part_for_each() -> None:
    with pytest.raises(RecipeError, match="no training image has a visible one"):
        make(task=Task(3, keypoints=()), supervise=1.0)
    with pytest.raises(RecipeError, match=r"there are 3 key points .* only 2 parts.* Set method.parts=3"):
        make(task=Task(3, keypoints=("beak", "eye", "tail")), supervise=1.0, parts=2)
    make(task=Task(3, keypoints=()))
    make(supervise=1.0)  # a bundle does not know


# the method -----------------------------------------------------------------------------------------------------------


def test_maps_are_shares_with_the_background_last() -> None:
    method = make(parts=5).eval()
    prediction = method(batch_of().images)
    assert prediction.parts is not None
    assert prediction.parts.shape == (4, 6, 4, 4)
    torch.testing.assert_close(prediction.parts.sum(dim=1), torch.ones(4, 4, 4))
    assert method.has_background


def test_shares_are_those_of_the_distances() -> None:
    method = make(parts=2).eval()
    features = torch.randn(1, method.cells.channels, 2, 2)
    cells = features[0].flatten(1).T
    distances = torch.cdist(cells, method.prototypes).square() / math.sqrt(method.cells.channels)
    expected = (-distances).softmax(dim=1).T.reshape(1, 3, 2, 2)
    torch.testing.assert_close(method._scores(features).softmax(dim=1), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("prior", ["concentration", "variation"])
def test_mixed_targets_weigh_the_labels(prior: str) -> None:
    method = make(prior=prior, part_dropout=0.0, equivariance=0.0).eval()
    plain = batch_of()
    other = plain.labels.roll(1, 0)
    mixed = Batch(plain.images, torch.cat([plain.labels, other], 1), torch.tensor([[0.7, 0.3]] * 4), plain.rows)
    swapped = Batch(plain.images, other, plain.weights, plain.rows)
    first, second, both = (method.losses(b, 0).terms for b in (plain, swapped, mixed))
    expected = 0.7 * first["classification"] + 0.3 * second["classification"]
    torch.testing.assert_close(both["classification"], expected)
    assert ("variation" in both) == (prior == "variation")
    assert "equivariance" not in both


def test_noise_is_for_training_only_and_of_torchs_generator() -> None:
    method = make(prior="variation").train()
    images = batch_of().images
    scores = method._scores(method._features(images)[0])
    torch.manual_seed(0)
    first = method._drawn(scores)
    torch.manual_seed(0)
    assert torch.equal(first, method._drawn(scores))
    assert not torch.allclose(first, scores.softmax(dim=1))
    torch.testing.assert_close(method.eval()._drawn(scores), scores.softmax(dim=1))


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["augment.mix=cutmix", "method.supervise=1"],
            r"needs unmixed images, .* Set augment\.mix=none, or leave out method\.supervise\.",
        ),
        (["train.solver=logistic"], "must learn its own"),
        (["method.part=3"], "Did you mean 'parts'"),
    ],
)
def test_combinations_without_sense_are_refused_before_any_data_is_read(overrides: list[str], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        resolve_recipe("part_discovery", overrides=overrides)
    assert resolve_recipe("part_discovery", overrides=["augment.mix=cutmix"]).method.name == "part_discovery"


@pytest.mark.parametrize(
    "options", [{"parts": 0}, {"prior": "size"}, {"part_dropout": 1.0}, {"equivariance": -1.0}, {"supervise": -1.0}]
)
def test_options_without_sense_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(RecipeError, match=f"method.{next(iter(options))} = "):
        make(**options)


def test_a_small_part_counts_like_a_large_one() -> None:
    """Its vector is the mean of its own cells, so what the classifier sees of it does not depend on its size."""
    method = make(parts=2).eval()
    features = torch.ones(1, method.cells.channels, 4, 4)
    features[:, 0] = -3.0
    maps = torch.zeros(1, 3, 4, 4)
    maps[:, 0, 0, 0] = 1.0  # one cell
    maps[:, 1, 1:3] = 1.0  # eight
    maps[:, 2] = 1 - maps[:, :2].sum(dim=1)
    vectors = method._vectors(features, maps)[0]
    torch.testing.assert_close(vectors[0], vectors[1])
    maps[:, 0, 0, 0] = 0.25  # less than a cell: it fades
    assert method._vectors(features, maps)[0, 0, 0].abs() < vectors[0, 0].abs()
