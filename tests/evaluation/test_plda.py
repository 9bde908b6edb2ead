"""PLDA against the normal distributions that it stands for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from fieldmark.evaluation.plda import Plda, means_and_counts

WIDTH = 3


def drawn(seed: int, classes: int = 40, images: int = 30) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings and labels of classes whose means and deviations have covariances of their own."""
    rng = np.random.default_rng(seed)
    between, within = (rng.normal(size=(WIDTH, WIDTH)) for _ in range(2))
    means = 2 * rng.normal(size=(classes, WIDTH)) @ between
    labels = np.repeat(np.arange(classes), images)
    return means[labels] + rng.normal(size=(len(labels), WIDTH)) @ within, labels


def normal_model(plda: Plda) -> tuple[np.ndarray, np.ndarray]:
    """The covariances of class means and of deviations, in embeddings."""
    back = np.linalg.inv(plda.axes)
    return back.T @ np.diag(plda.spread) @ back, back.T @ back


@given(st.integers(0, 20), st.integers(1, 6))
def test_another_image_is_as_likely_as_the_normal_model_says(seed: int, images: int) -> None:
    embedding, labels = drawn(seed)
    plda = Plda.fit(embedding, labels, within=0.2, between=0.1)
    between, within = normal_model(plda)
    shown, asked = embedding[:images], embedding[50:53]
    # the joint distribution of the images shown and one more, conditioned on those shown
    joint = np.kron(np.ones((images + 1, images + 1)), between) + np.kron(np.eye(images + 1), within)
    split = images * WIDTH
    gain = joint[split:, :split] @ np.linalg.inv(joint[:split, :split])
    expected = plda.centre + gain @ (shown - plda.centre).ravel()
    covariance = joint[split:, split:] - gain @ joint[:split, split:]
    theirs = multivariate_normal(expected, covariance).logpdf(asked)
    mean = plda.coordinates(shown).mean(axis=0, keepdims=True)
    ours = plda.log_densities(plda.coordinates(asked), *plda.known(mean, np.array([images])))[:, 0]
    assert ours - ours[0] == pytest.approx(theirs - theirs[0])
    # the constant is that of the coordinates, the same for every class
    other = plda.log_densities(plda.coordinates(asked), np.zeros((1, WIDTH)), 1 + plda.spread[None])[:, 0]
    alone = multivariate_normal(plda.centre, between + within).logpdf(asked)
    assert ours - other == pytest.approx(theirs - alone)


@given(st.integers(0, 20))
def test_two_images_are_of_one_class_as_likely_as_the_normal_model_says(seed: int) -> None:
    embedding, labels = drawn(seed)
    plda = Plda.fit(embedding, labels)
    between, within = normal_model(plda)
    one, other = embedding[:5], embedding[28:33]
    both = np.block([[between + within, between], [between, between + within]])
    together = multivariate_normal(np.tile(plda.centre, 2), both).logpdf(np.concatenate([one, other], axis=1))
    alone = multivariate_normal(plda.centre, between + within)
    found = plda.same(plda.coordinates(one), plda.coordinates(other))
    assert found == pytest.approx(together - alone.logpdf(one) - alone.logpdf(other))
    assert plda.same(plda.coordinates(other), plda.coordinates(one)) == pytest.approx(found)


def test_the_fit_finds_the_covariances_of_much_data() -> None:
    rng = np.random.default_rng(3)
    between, within = np.diag([4.0, 1.0, 0.25]), np.array([[1.0, 0.3, 0.0], [0.3, 0.5, 0.1], [0.0, 0.1, 2.0]])
    labels = np.repeat(np.arange(4000), 5)
    means = rng.multivariate_normal(np.ones(WIDTH), between, 4000)
    embedding = means[labels] + rng.multivariate_normal(np.zeros(WIDTH), within, len(labels))
    found = normal_model(Plda.fit(embedding, labels, within=0, between=0))
    np.testing.assert_allclose(found[0], between, atol=0.15)
    np.testing.assert_allclose(found[1], within, atol=0.05)


def test_more_dimensions_than_images_are_no_problem() -> None:
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 2)
    embedding = np.eye(3)[labels] @ rng.normal(size=(3, 50)) + 0.01 * rng.normal(size=(6, 50))
    plda = Plda.fit(embedding, labels)
    coordinates = plda.coordinates(embedding)
    means = np.stack([coordinates[labels == k].mean(axis=0) for k in range(3)])
    scores = plda.log_densities(coordinates, *plda.known(means, np.array([2, 2, 2])))
    assert (scores.argmax(axis=1) == labels).all()
    assert np.isfinite(plda.same(coordinates, coordinates[::-1])).all()


def test_a_sample_of_the_images_is_enough_where_their_means_are_known() -> None:
    embedding, labels = drawn(1)
    means, counts = means_and_counts(embedding, labels, 40)
    np.testing.assert_allclose(Plda.fit(embedding, labels, means, counts).axes, Plda.fit(embedding, labels).axes)
    some = np.arange(len(labels)) % 30 < 10
    whole, part = Plda.fit(embedding, labels), Plda.fit(embedding[some], labels[some], means, counts)
    np.testing.assert_allclose(normal_model(part)[1], normal_model(whole)[1], rtol=0.3, atol=0.3)


def test_likeness_is_of_the_same_class_against_any_other() -> None:
    embedding, labels = drawn(2)
    plda = Plda.fit(embedding, labels)
    own = plda.coordinates(embedding[:4])
    mean, count = plda.coordinates(embedding[4:9]).mean(axis=0, keepdims=True), np.array([5])
    found = plda.likeness(own, np.repeat(mean, 4, axis=0), np.repeat(count, 4))
    theirs = plda.log_densities(own, *plda.known(mean, count)) - plda.log_densities(
        own, np.zeros((1, WIDTH)), 1 + plda.spread[None]
    )
    np.testing.assert_allclose(found, theirs[:, 0])
    one = plda.coordinates(embedding[4:5])
    np.testing.assert_allclose(plda.likeness(own[:1], one, np.array([1])), plda.same(own[:1], one))
