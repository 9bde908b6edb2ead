"""`Outputs`: what a network answered, as arrays.

Shapes: N images, K classes, D embedding, V values of an attribute, M part maps of h × w cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outputs", "joined", "unit"]

F = TypeVar("F", bound=np.floating)


class Outputs(NamedTuple):
    """What a network answered."""

    logits: NDArray[np.float32]
    """(N, K)."""
    embedding: NDArray[np.float32]
    """(N, D), not normalised."""
    attributes: tuple[NDArray[np.float32], ...] = ()
    """Logits (N, V) of each attribute that is learnt, in the recipe's order."""

    def at(self, rows: Sequence[int]) -> Outputs:
        """Those of some of the N pictures."""
        some = np.array(rows, np.int64)
        return Outputs(self.logits[some], self.embedding[some], tuple(values[some] for values in self.attributes))


def joined(answers: Sequence[Outputs]) -> Outputs:
    """The answers of several batches as one."""
    if not answers:
        return Outputs(np.zeros((0, 0), np.float32), np.zeros((0, 0), np.float32))
    logits, embedding, attributes = zip(*answers, strict=True)
    return Outputs(
        np.concatenate(logits),
        np.concatenate(embedding),
        tuple(np.concatenate(values) for values in zip(*attributes, strict=True)),
    )


def unit(vectors: NDArray[F]) -> NDArray[F]:
    """(N, D) at unit length, in the precision that they have; zeros stay as they are."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).clip(1e-12)
    return np.asarray(vectors / lengths, vectors.dtype)
