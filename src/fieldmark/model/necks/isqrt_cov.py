"""Second-order pooling: the square root of the cells' covariance.

Li, Xie, Wang & Gao, "Towards faster training of global covariance pooling networks by iterative matrix square root
normalization" (2018). With X (d × n) the reduced cells and Σ = (1/n) X (I − (1/n) 1 1ᵀ) Xᵀ their covariance:

    before      A = Σ / tr Σ, so that the iteration converges
    iteration   Y₀ = A, Z₀ = I;  Yₖ = ½ Yₖ₋₁ (3I − Zₖ₋₁ Yₖ₋₁),  Zₖ = ½ (3I − Zₖ₋₁ Yₖ₋₁) Zₖ₋₁   (Newton and Schulz)
    after       √Σ ≈ √(tr Σ) · Y_N, of which the upper triangle is the embedding

Deviation: channels are reduced to 64 instead of 256, which gives 2,080 features instead of 32,896. The embedding stays
about as wide as a backbone's own, so that a head on a few hundred images, class means and the bundle's embeddings stay
what they are; and 7 × 7 cells have a covariance of rank 48 at most, however many channels there are.
"""

from __future__ import annotations

from typing import final

import torch
from torch import Tensor, nn

from fieldmark.core.errors import RecipeError
from fieldmark.model.necks.neck import NECKS, Neck

__all__ = ["CovariancePooling", "covariance", "matrix_sqrt"]

_SMALLEST = 1e-6
"""Least trace: cells that are all alike have none, and the slope of its root would be endless."""


def covariance(cells: Tensor) -> Tensor:
    """(B, d, n) → (B, d, d), of the n cells."""
    centred = cells - cells.mean(dim=2, keepdim=True)
    return centred @ centred.mT / cells.shape[2]


def matrix_sqrt(matrices: Tensor, iterations: int) -> Tensor:
    """Symmetric positive semidefinite (B, d, d) → about their square roots, nearer with each iteration."""
    trace = matrices.diagonal(dim1=1, dim2=2).sum(dim=1).clamp_min(_SMALLEST).view(-1, 1, 1)
    three = 3 * torch.eye(matrices.shape[1], dtype=matrices.dtype, device=matrices.device)
    root = matrices / trace
    step = (three - root) / 2  # Z₀ is the identity
    root, inverse = root @ step, step
    for _ in range(iterations - 1):
        step = (three - inverse @ root) / 2
        root, inverse = root @ step, step @ inverse
    return root * trace.sqrt()


@NECKS.register("isqrt_cov")
@final
class CovariancePooling(Neck):
    """1 × 1 reduction → covariance → square root → upper triangle."""

    upper: Tensor
    """(2, D) rows and columns of the upper triangle."""

    def __init__(self, channels: int, *, reduce: int = 64, iterations: int = 5) -> None:
        super().__init__()
        if reduce < 2:
            raise RecipeError(
                f"neck.reduce = {reduce} is not allowed", "Expected at least 2 channels; the paper uses 256."
            )
        if iterations < 1:
            raise RecipeError(
                f"neck.iterations = {iterations} is not allowed", "Expected at least 1; the paper uses 5."
            )
        reduce = min(reduce, channels)
        self.width = reduce * (reduce + 1) // 2
        self.iterations = iterations
        self.reduce = nn.Sequential(nn.Conv2d(channels, reduce, 1, bias=False), nn.BatchNorm2d(reduce), nn.ReLU())
        self.register_buffer("upper", torch.triu_indices(reduce, reduce), persistent=False)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, h, w) → (B, D = d (d + 1) / 2). Raises RecipeError for a map of one cell, which varies in nothing."""
        if features.shape[2] * features.shape[3] < 2:
            raise RecipeError(
                "The neck 'isqrt_cov' pools how cells vary, but at this image size the feature map has only one",
                "Raise images.size, or set neck.name = 'none'.",
            )
        cells = self.reduce(features).flatten(2)
        with torch.autocast(cells.device.type, enabled=False):  # bf16 would leave two digits of each product
            root = matrix_sqrt(covariance(cells.float()), self.iterations)
        rows, columns = self.upper
        return root[:, rows, columns]
