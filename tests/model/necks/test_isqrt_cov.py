"""Second-order pooling against NumPy's covariance and square roots by eigendecomposition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import RecipeError
from fieldmark.model.necks.isqrt_cov import CovariancePooling, covariance, matrix_sqrt


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3), st.integers(1, 6), st.integers(2, 12), st.integers(0, 2**31))
def test_the_covariance_is_numpys(count: int, channels: int, cells: int, seed: int) -> None:
    values = np.random.default_rng(seed).normal(3, 2, (count, channels, cells))
    expected = [np.cov(one, bias=True).reshape(channels, channels) for one in values]
    np.testing.assert_allclose(covariance(torch.from_numpy(values)), expected, atol=1e-9)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.floats(1e-3, 1e3), st.integers(0, 2**31))
def test_many_iterations_reach_the_square_root(size: int, scale: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    eigenvalues = scale * rng.uniform(0.05, 1, size)
    root = matrix_sqrt(torch.from_numpy(basis * eigenvalues @ basis.T).unsqueeze(0), 30)[0]
    np.testing.assert_allclose(root, basis * np.sqrt(eigenvalues) @ basis.T, atol=1e-6 * np.sqrt(scale))


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(1, 9), st.integers(0, 2**31))
def test_few_iterations_are_those_of_each_eigenvalue(size: int, iterations: int, seed: int) -> None:
    """Y and Z are polynomials of A, so that each eigenvalue goes its own way. Here the last one is zero."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(size, size)))[0]
    eigenvalues = np.append(rng.uniform(0, 5, size - 2), [1, 0])
    y, z = eigenvalues / eigenvalues.sum(), np.ones(size)
    for _ in range(iterations):
        y, z = y * (3 - z * y) / 2, (3 - z * y) * z / 2
    expected = np.sqrt(eigenvalues.sum()) * basis * y @ basis.T
    root = matrix_sqrt(torch.from_numpy(basis * eigenvalues @ basis.T).unsqueeze(0), iterations)[0]
    np.testing.assert_allclose(root, expected, atol=1e-9)


def test_the_slope_is_that_of_finite_differences() -> None:
    cells = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)  # fewer cells than a full rank would take
    assert torch.autograd.gradcheck(lambda x: matrix_sqrt(covariance(x), 5), (cells,))


def test_the_embedding_is_the_upper_triangle() -> None:
    torch.manual_seed(0)
    neck = CovariancePooling(8, reduce=3).eval()
    features = torch.randn(2, 8, 4, 5)
    answer = neck(features)
    assert answer.shape == (2, neck.width) == (2, 6)
    root = matrix_sqrt(covariance(neck.reduce(features).flatten(2)), 5)
    np.testing.assert_allclose(answer.detach()[1], root.detach().numpy()[1][np.triu_indices(3)])


@pytest.mark.parametrize(("channels", "width"), [(512, 2080), (48, 48 * 49 // 2)])
def test_no_more_channels_than_there_are(channels: int, width: int) -> None:
    assert CovariancePooling(channels).width == width
    assert "upper" not in CovariancePooling(channels).state_dict()


def test_products_are_taken_in_full_precision() -> None:
    torch.manual_seed(0)
    neck, features = CovariancePooling(8, reduce=4).eval(), torch.randn(2, 8, 4, 4)
    with torch.autocast("cpu", torch.bfloat16):
        answer = neck(features)
        cells = neck.reduce(features).flatten(2)
    assert answer.dtype == torch.float32
    expected = matrix_sqrt(covariance(cells.float()), 5)[:, *np.triu_indices(4)]
    torch.testing.assert_close(answer, expected)


def test_cells_that_are_all_alike_are_finite() -> None:
    features = torch.ones(2, 8, 4, 4, requires_grad=True)
    answer = CovariancePooling(8, reduce=4).eval()(features)
    answer.sum().backward()
    assert answer.abs().max() < 1e-9
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_a_map_of_one_cell_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"the feature map has only one\. Raise images\.size"):
        CovariancePooling(8)(torch.randn(2, 8, 1, 1))


@pytest.mark.parametrize("options", [{"reduce": 1}, {"iterations": 0}])
def test_options_that_make_no_sense(options: dict[str, int]) -> None:
    with pytest.raises(RecipeError, match=rf"neck\.{next(iter(options))} = "):
        CovariancePooling(8, **options)
