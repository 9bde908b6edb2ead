"""Classes that a mirror exchanges: found where there are some, and nowhere else."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.data.decode import decode
from fieldmark.data.sets import read
from fieldmark.data.square import evaluation_view
from fieldmark.fieldguide import Kind, make_guide, render
from fieldmark.learning.training.mirror import SIZE, Mirroring, judge_mirroring, mirror_features

Data = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def cloud(num_classes: int, each: int, seed: int, *, apart: float = 2.0, handed: float = 1.5) -> Data:
    """Features with a half that a mirror leaves and a half that it negates.

    Classes differ by `apart` in the first, except 0 and 1: these differ by `handed`, to either side, in the second.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat(np.arange(num_classes), each)
    even = rng.normal(size=(num_classes, 8))[np.where(labels == 1, 0, labels)] * apart + rng.normal(
        size=(len(labels), 8)
    )
    odd = rng.normal(size=(len(labels), 4))
    odd[labels == 0] += handed
    odd[labels == 1] -= handed
    return np.hstack([even, odd]), np.hstack([even, -odd]), labels, np.arange(len(labels))


def judged(data: Data, seed: int = 0) -> Mirroring:
    return judge_mirroring(*data, np.random.default_rng(seed))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), num_classes=st.integers(2, 8))
def test_classes_that_a_mirror_exchanges_are_found(seed: int, num_classes: int) -> None:
    found = judged(cloud(num_classes, 40, seed))
    assert not found.keeps_meaning
    assert found.pair is not None
    assert (found.pair.first, found.pair.second) == (0, 1)
    assert found.pair.right > 0.85
    assert found.pair.exchanged > 0.85


@pytest.mark.parametrize("others", [3, 40])
def test_six_images_of_each_are_enough_beside_many_ordinary_classes(others: int) -> None:
    found = [judged(cloud(2 + others, 6, seed)) for seed in range(20)]
    assert sum(one.pair is not None and one.pair[:2] == (0, 1) and not one.keeps_meaning for one in found) >= 18


@pytest.mark.parametrize(("num_classes", "each", "apart"), [(2, 10, 1.0), (3, 3, 2.0), (12, 10, 2.0), (40, 5, 0.5)])
def test_others_are_found_no_more_often_than_chance_may(num_classes: int, each: int, apart: float) -> None:
    """0 and 1 are the same here: look-alikes that no mirror exchanges. By 5 % each, hardly ever more than 5 of 25."""
    found = [judged(cloud(num_classes, each, seed, apart=apart, handed=0.0)) for seed in range(25)]
    assert sum(not one.keeps_meaning for one in found) <= 5


def test_the_probability_is_that_of_all_signs() -> None:
    """With eight votes, all 256 ways to toss them can be gone through, as the definition says."""
    even, odd, labels = np.zeros((8, 1)), np.array([3.0, 2, 2, 1, -1, -2, 1, -2])[:, None], np.repeat([0, 1], 4)
    even[:, 0] = [1, -1, 2, -2, 1, -1, 2, -2]
    found = judged((np.hstack([even, odd]), np.hstack([even, -odd]), labels, np.arange(8)))

    def product_mean(a: np.ndarray, b: np.ndarray, same: bool) -> float:
        terms = [float(x * y) for i, x in enumerate(a) for j, y in enumerate(b) if not (same and i == j)]
        return sum(terms) / len(terms)

    def lengths(values: np.ndarray) -> tuple[float, float]:
        a, b = values[:4], values[4:]
        both, twice = product_mean(a, a, True) + product_mean(b, b, True), 2 * product_mean(a, b, False)
        return both - twice, both + twice

    scaled_even, scaled_odd = (part[:, 0] / np.sqrt((part**2).mean()) for part in (even, odd))
    kept = lengths(scaled_even)[0]

    def lost(signs: tuple[int, ...]) -> float:
        difference, total = lengths(scaled_odd * np.array(signs))
        return difference if kept + total < difference / 2 else 0.0

    observed = lost((1,) * 8)
    expected = np.mean([lost(signs) >= observed - 1e-9 for signs in product((1, -1), repeat=8)])
    assert observed > 0
    assert 0.01 < expected < 0.5
    assert found.probability == pytest.approx(expected, abs=4 * np.sqrt(expected / 299))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), handed=st.floats(0, 1))
def test_names_order_and_mirrors_do_not_matter(seed: int, handed: float) -> None:
    features, mirrored, labels, units = cloud(5, 8, seed, handed=handed)
    found = judged((features, mirrored, labels, units))
    other = judged((mirrored, features, labels, units))
    assert other.probability == found.probability
    assert other.enough == found.enough
    order = np.random.default_rng(seed).permutation(40)
    renamed = judged((features[order], mirrored[order], (7 - labels)[order], units[order]))
    assert renamed.probability == found.probability
    assert (renamed.pair is None) == (found.pair is None)
    if found.pair and renamed.pair:
        assert {7 - renamed.pair.first, 7 - renamed.pair.second} == {found.pair.first, found.pair.second}


def test_classes_that_differ_in_more_than_their_side_are_not_exchanged() -> None:
    """One class is mostly seen from the left and one from the right, and they differ besides: a flip does no harm."""
    features, mirrored, labels, units = cloud(4, 40, 0, handed=0.6)
    features[labels == 1, :8] += 3
    mirrored[labels == 1, :8] += 3
    assert judged((features, mirrored, labels, units)).keeps_meaning


def test_a_class_seen_from_one_side_is_not_exchanged_with_one_seen_from_both() -> None:
    features, mirrored, labels, units = cloud(4, 40, 0)
    odd = np.random.default_rng(1).normal(size=(40, 4))
    features[labels == 1, 8:], mirrored[labels == 1, 8:] = odd, -odd
    assert judged((features, mirrored, labels, units)).keeps_meaning


def test_a_burst_has_one_vote() -> None:
    features, mirrored, labels, units = cloud(2, 40, 0, apart=1.0, handed=2.0)
    assert not judged((features, mirrored, labels, units)).keeps_meaning
    assert judged((features, mirrored, labels, units // 20)) == Mirroring(None, 1.0, enough=False, unjudged=(0, 1))


def test_many_images_are_enough_and_few_are_not() -> None:
    assert judged(cloud(12, 20, 0, handed=0.0)).enough
    assert not judged(cloud(12, 3, 0, apart=0.3, handed=0.0)).enough


def test_pictures_without_sides_are_judged() -> None:
    """No odd part at all, and no even one either."""
    labels = np.repeat([0, 1, 2], 5)
    features = np.random.default_rng(0).normal(size=(15, 6))
    for constant in (features, np.ones_like(features)):
        assert judged((constant, constant, labels, np.arange(15))).keeps_meaning


def test_features_of_mirror_images_are_those_of_flipped_ones() -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 3, SIZE, SIZE), np.uint8)
    state = torch.random.get_rng_state()
    own, mirrored = mirror_features([images[:2], images[2:]])
    again, twice = mirror_features([images[..., ::-1].copy()])
    assert own.shape == mirrored.shape
    assert len(own) == 3
    np.testing.assert_allclose(mirrored, again, atol=1e-4)
    np.testing.assert_allclose(own, twice, atol=1e-4)
    assert np.abs(own - mirrored).max() > 0.01
    assert torch.equal(state, torch.random.get_rng_state())


def drawn(kind: Kind, species: int, each: int, seed: int) -> Data:
    """Measured drawings of a field guide, so many of each species."""
    guide = make_guide(kind=kind, species=species, images_per_species=max(each, 6), seed=seed)
    views = [evaluation_view(render(guide, k, i).pixels, size=SIZE) for k in range(species) for i in range(each)]
    features = mirror_features(np.stack(views[i : i + 64]) for i in range(0, len(views), 64))
    return *features, np.repeat(np.arange(species), each), np.arange(species * each)


def test_mirror_image_species_are_found() -> None:
    found = judged(drawn("mirror", 6, 10, 0))
    assert not found.keeps_meaning
    assert found.pair is not None
    assert found.pair.first // 2 == found.pair.second // 2


@pytest.mark.slow
@pytest.mark.parametrize("each", [6, 10, 20])
def test_so_are_few_images_of_many(each: int) -> None:
    found = [judged(drawn("mirror", 12, each, seed)) for seed in range(3)]
    assert not any(one.keeps_meaning for one in found)
    assert all(one.pair is not None and one.pair.first // 2 == one.pair.second // 2 for one in found)


@pytest.mark.slow
def test_other_species_are_not() -> None:
    assert judged(drawn("species", 20, 10, 5)).keeps_meaning
    assert judged(drawn("impostors", 20, 10, 6)).keeps_meaning


@pytest.mark.slow
@pytest.mark.parametrize("photographs", ["cub", "flowers"])
def test_nor_are_birds_and_flowers_with_ten_photographs_of_each(
    photographs: str, request: pytest.FixtureRequest
) -> None:
    root: Path = request.getfixturevalue(photographs)
    catalog, rng = read(root), np.random.default_rng(0)
    rows = np.concatenate([rng.permutation(np.flatnonzero(catalog.labels == k))[:20] for k in range(50)])
    views = [evaluation_view(decode(catalog.file(row), short_side=168).pixels, size=SIZE) for row in rows]
    own, mirrored = mirror_features(np.stack(views[i : i + 64]) for i in range(0, len(views), 64))
    off = 0
    for seed in range(5):
        few = np.concatenate([rng.permutation(20)[:10] + 20 * k for k in range(50)])
        off += not judged((own[few], mirrored[few], catalog.labels[rows[few]], few), seed).keeps_meaning
    assert off <= 1


def test_classes_that_are_too_rare_to_be_judged_are_named() -> None:
    features, mirrored, labels, units = cloud(12, 20, 0, handed=0.0)
    rare = np.isin(labels, [0, 1]) & (np.arange(len(labels)) % 20 >= 2)  # two of each are left
    found = judged((features[~rare], mirrored[~rare], labels[~rare], units[~rare]))
    assert found.keeps_meaning
    assert found.unjudged == (0, 1)
