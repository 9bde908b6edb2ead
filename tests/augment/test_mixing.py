import pytest
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from fieldmark.augment import mixing
from fieldmark.augment.mixing import KINDS, MIXES, WEIGHED, Mixed, cutmix, mix, mixup, snapmix
from fieldmark.core.errors import RecipeError


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def batch(size: int, targets: int = 1, height: int = 24, width: int = 20) -> tuple[Tensor, Tensor, Tensor]:
    """Image i is i everywhere and its labels are 100 t + i, so that pixels tell where they come from."""
    index = torch.arange(size)
    images = index.double().view(-1, 1, 1, 1).expand(size, 3, height, width).contiguous()
    labels = index[:, None] + 100 * torch.arange(targets)
    return images, labels, torch.rand(size, targets, dtype=torch.float64, generator=generator(size)) + 0.1


def class_maps(images: Tensor, labels: Tensor) -> Tensor:
    """Coarse maps that depend on image and label, of any sign."""
    cells = torch.nn.functional.adaptive_avg_pool2d(images.double(), (3, 4)).mean(1)
    return torch.sin(cells + labels.view(-1, 1, 1) + torch.arange(12).view(3, 4))


SIZES = st.integers(1, 9)
SEEDS = st.integers(0, 2**40)


@settings(max_examples=50, deadline=None)
@given(size=SIZES, targets=st.integers(1, 2), seed=SEEDS, alpha=st.sampled_from([0.1, 0.4, 1.0, 8.0]))
def test_mixup_pixels_and_weights_agree(size: int, targets: int, seed: int, alpha: float) -> None:
    images, labels, _ = batch(size, targets)
    weights = torch.full((size, targets), 1 / targets, dtype=torch.float64)
    mixed = mixup(images, labels, weights, alpha=alpha, generator=generator(seed))
    assert mixed.labels.shape == mixed.weights.shape == (size, 2 * targets)
    assert torch.allclose(mixed.weights.sum(1), torch.ones(size).double())
    expected = (mixed.weights * (mixed.labels % 100)).sum(1)  # the pixels are the weighted indices
    assert torch.allclose(mixed.images, expected.view(-1, 1, 1, 1).expand_as(images))


@settings(max_examples=50, deadline=None)
@given(size=SIZES, seed=SEEDS, alpha=st.sampled_from([0.3, 1.0, 4.0]), sides=st.tuples(*[st.integers(1, 40)] * 2))
def test_cutmix_weights_are_pixel_counts(size: int, seed: int, alpha: float, sides: tuple[int, int]) -> None:
    images, labels, _ = batch(size, 1, *sides)
    mixed = cutmix(images, labels, torch.ones(size, 1).double(), alpha=alpha, generator=generator(seed))
    for image, label, weight in zip(mixed.images, mixed.labels, mixed.weights, strict=True):
        counted = {index: float((image == index).double().mean()) for index in range(size)}
        claimed = dict.fromkeys(range(size), 0.0)
        for index, share in zip(label.tolist(), weight.tolist(), strict=True):
            claimed[index] += share
        assert counted == pytest.approx(claimed, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(seed=SEEDS)
def test_cutmix_pastes_one_rectangle_in_place(seed: int) -> None:
    images = torch.rand(4, 3, 30, 30, generator=generator(1))
    mixed = cutmix(images, torch.arange(4)[:, None], torch.ones(4, 1), alpha=1.0, generator=generator(seed))
    for own, result, (_, partner) in zip(images, mixed.images, mixed.labels.tolist(), strict=True):
        changed = (own != result).any(0)
        if not changed.any():
            continue
        rows, columns = torch.nonzero(changed).unbind(1)
        part = (slice(None), slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1))
        assert changed[part[1:]].all()
        assert torch.equal(result[part], images[partner][part])


@settings(max_examples=40, deadline=None)
@given(size=SIZES, targets=st.integers(1, 2), seed=SEEDS, kind=st.sampled_from(sorted(KINDS.keys() - WEIGHED)))
def test_weights_sum_to_what_they_did(size: int, targets: int, seed: int, kind: str) -> None:
    images, labels, weights = batch(size, targets)
    mixed = mix(images, labels, weights, kind=kind, generator=generator(seed))
    assert mixed.weights.sum() == pytest.approx(float(weights.sum()))
    assert mixed.images.shape == images.shape
    assert mixed.labels.dtype == torch.int64
    assert (mixed.weights >= 0).all()
    assert torch.equal(mixed.labels[:, :targets], labels)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 5.0])
def test_share_follows_the_beta_distribution(alpha: float) -> None:
    draw = generator(0)
    images, labels, weights = batch(1, 1, 1, 1)
    shares = [float(mixup(images, labels, weights, alpha=alpha, generator=draw).weights[0, 0]) for _ in range(1000)]
    shares = [share / float(weights) for share in shares]
    assert scipy.stats.kstest(shares, scipy.stats.beta(alpha, alpha).cdf).pvalue > 0.01


def test_rectangle_is_the_authors() -> None:
    for length, share, seed in [(224, 0.31, 0), (224, 0.9, 1), (7, 0.5, 2), (1, 0.99, 3)]:
        start, end = mixing._span(length, share, generator(seed))
        centre = int(float(torch.rand((), generator=generator(seed), dtype=torch.float64)) * length)
        cut = int(length * share)  # rand_bbox of the authors' code
        assert (start, end) == (max(0, centre - cut // 2), min(length, centre + cut // 2))


@pytest.mark.parametrize("kind", ["mixup", "cutmix", "snapmix", "both"])
def test_a_function_of_the_generator(kind: str) -> None:
    images, labels, weights = batch(6)
    state = torch.get_rng_state()
    first, again, other = (
        mix(images, labels, weights, kind=kind, generator=generator(seed), class_maps=class_maps) for seed in (5, 5, 6)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.images, other.images)
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize(("kind", "probability"), [("none", 1.0), ("mixup", 0.0), ("both", 0.0)])
def test_unmixed_is_untouched(kind: str, probability: float) -> None:
    given_batch = batch(4)
    mixed = mix(*given_batch, kind=kind, probability=probability, generator=generator(0))
    assert all(after is before for after, before in zip(mixed, given_batch, strict=True))


def test_inputs_are_left_alone() -> None:
    given_batch = batch(5)
    copies = [tensor.clone() for tensor in given_batch]
    for kind in MIXES:
        mix(*given_batch, kind=kind, generator=generator(1), class_maps=class_maps)
    assert all(torch.equal(a, b) for a, b in zip(given_batch, copies, strict=True))


def test_probability_and_both() -> None:
    draw = generator(0)
    images, labels, weights = batch(8)
    kinds = []
    for _ in range(600):
        mixed = mix(images, labels, weights, kind="both", probability=0.6, generator=draw)
        if mixed.images is images:
            kinds.append("none")
        else:  # CutMix leaves whole indices, mixup does not
            kinds.append("cutmix" if torch.equal(mixed.images, mixed.images.round()) else "mixup")
    shares = {kind: kinds.count(kind) / 600 for kind in ("none", "cutmix", "mixup")}
    assert shares == pytest.approx({"none": 0.4, "cutmix": 0.3, "mixup": 0.3}, abs=0.06)


def test_uint8_can_be_cut() -> None:
    images = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=generator(0))
    mixed = cutmix(images, torch.arange(3)[:, None], torch.ones(3, 1), alpha=1.0, generator=generator(0))
    assert isinstance(mixed, Mixed)
    assert mixed.images.dtype == torch.uint8


def pixels_of(maps: Tensor, height: int, width: int) -> Tensor:
    """Class maps (B, h, w) at each pixel, from their least on, of sum 1."""
    large = torch.nn.functional.interpolate(maps[:, None].float(), size=(height, width), mode="bilinear")[:, 0]
    large = large - large.flatten(1).min(1).values.view(-1, 1, 1)
    return large / large.flatten(1).sum(1).view(-1, 1, 1)


@settings(max_examples=60, deadline=None)
@given(size=SIZES, targets=st.integers(1, 2), seed=SEEDS, alpha=st.sampled_from([0.3, 1.0, 5.0]))
def test_snapmix_weighs_by_what_is_seen(size: int, targets: int, seed: int, alpha: float) -> None:
    images, labels, weights = batch(size, targets)
    images += torch.rand(images.shape, generator=generator(2)).double() / 2
    draw = generator(seed)
    mixed = snapmix(images, labels, weights, alpha=alpha, generator=draw, class_maps=class_maps)
    draw = generator(seed)  # the same numbers in the same order
    sides = [(1 - mixing._beta(alpha, draw)) ** 0.5 for _ in range(2)]
    partner = torch.randperm(size, generator=draw)
    (t, b), (le, r), (t2, b2), (l2, r2) = (mixing._span(n, side, draw) for side in sides for n in (24, 20))
    if (b - t) * (r - le) * (b2 - t2) * (r2 - l2) == 0:
        assert torch.equal(mixed.images, images)
        assert torch.equal(mixed.weights[:, :targets], weights)
        assert (mixed.weights[:, targets:] == 0).all()
        return
    for i in range(size):
        j = int(partner[i])
        outside = torch.ones(24, 20, dtype=torch.bool)
        outside[t:b, le:r] = False
        assert torch.equal(mixed.images[i][:, outside], images[i][:, outside])
        patch = torch.nn.functional.interpolate(
            images[j : j + 1, :, t2:b2, l2:r2], size=(b - t, r - le), mode="bilinear", align_corners=True
        )
        assert torch.allclose(mixed.images[i : i + 1, :, t:b, le:r], patch)
        for k in range(targets):
            own, other = (pixels_of(class_maps(images[n : n + 1], labels[n : n + 1, k]), 24, 20)[0] for n in (i, j))
            kept = sum(float(own[y, x]) for y in range(24) for x in range(20) if not (t <= y < b and le <= x < r))
            seen = sum(float(other[y, x]) for y in range(t2, b2) for x in range(l2, r2))
            assert float(mixed.weights[i, k]) == pytest.approx(kept * float(weights[i, k]), abs=1e-5)
            assert float(mixed.weights[i, targets + k]) == pytest.approx(seen * float(weights[j, k]), abs=1e-5)


@settings(max_examples=50, deadline=None)
@given(size=SIZES, targets=st.integers(1, 2), seed=SEEDS)
def test_snapmix_gives_no_more_than_there_was(size: int, targets: int, seed: int) -> None:
    images, labels, weights = batch(size, targets)
    mixed = snapmix(images, labels, weights, alpha=1.0, generator=generator(seed), class_maps=class_maps)
    partner = mixed.labels[:, targets] % 100
    assert torch.equal(mixed.labels, torch.cat([labels, labels[partner]], dim=1))
    assert (mixed.weights >= -1e-6).all()
    assert (mixed.weights <= torch.cat([weights, weights[partner]], dim=1) + 1e-6).all()


def test_snapmix_without_a_preference_goes_by_area() -> None:
    images, labels, _ = batch(4)

    def even(images: Tensor, labels: Tensor) -> Tensor:
        return torch.full((len(images), 2, 2), 3.0)

    for seed in range(20):
        mixed = snapmix(
            images, labels, torch.ones(4, 1).double(), alpha=1.0, generator=generator(seed), class_maps=even
        )
        for image, weight, (own, other) in zip(mixed.images, mixed.weights, mixed.labels.tolist(), strict=True):
            if own != other and weight[1] > 0:
                assert float((image[0] == own).double().mean()) == pytest.approx(float(weight[0]), abs=1e-5)


def test_snapmix_asks_for_each_label_and_only_when_it_mixes() -> None:
    asked = []

    def maps(images: Tensor, labels: Tensor) -> Tensor:
        asked.append(labels.tolist())
        return class_maps(images, labels)

    given_batch = batch(3, 2)
    mix(*given_batch, kind="snapmix", probability=0.0, generator=generator(0), class_maps=maps)
    mix(*given_batch, kind="both", generator=generator(0), class_maps=maps)
    assert asked == []
    mix(*given_batch, kind="snapmix", alphas=5.0, generator=generator(0), class_maps=maps)
    assert asked == [[0, 1, 2], [100, 101, 102]]


def test_half_precision_stays_half() -> None:
    images = torch.rand(2, 3, 8, 8).bfloat16()
    mixed = mixup(images, torch.arange(2)[:, None], torch.ones(2, 1), alpha=1.0, generator=generator(0))
    assert mixed.images.dtype == torch.bfloat16
    assert mixed.weights.dtype == torch.float32


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "cutmx"}, "There is no mix 'cutmx'. Did you mean 'cutmix'?"),
        ({"kind": "mixup", "alphas": 0.0}, "Mixing cannot have alpha = 0.0. Expected a positive number, such as 1.0."),
        ({"kind": "mixup", "alphas": {"cutmix": 1.0}}, "No alpha is given for 'mixup'"),
        (
            {"kind": "mixup", "probability": 1.5},
            "The probability of mixing cannot be 1.5. Expected a number from 0 to 1.",
        ),
    ],
)
def test_messages(options: dict, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        mix(*batch(2), **options, generator=generator(0))
    assert message in str(caught.value)
