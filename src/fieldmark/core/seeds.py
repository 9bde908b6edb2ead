"""Streams of random numbers."""

from __future__ import annotations

import numpy as np

__all__ = ["derive_seed"]


def derive_seed(*keys: int) -> int:
    """A well-mixed 63-bit seed from a tuple of small integers."""
    return int(np.random.SeedSequence(keys).generate_state(1, np.uint64)[0] >> 1)
