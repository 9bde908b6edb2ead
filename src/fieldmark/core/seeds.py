"""Streams of random numbers, which cannot meet.

Every random choice of a training is a function of a seed and of what it is for: the stream comes first, then how many
keys follow, then each key in two words of 32 bits. So no two streams, and no two sets of keys of one stream, begin
alike, whatever the numbers are. What is drawn from a bare seed, such as how data is cut, is not among them: numpy pads
a bare seed below 2³² with zeros, and here the second word is never zero.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

__all__ = ["Stream", "derive_seed", "generator"]


class Stream(IntEnum):
    """What random numbers are used for, and the keys that they are derived from."""

    ORDER = 1
    """The order of an epoch's images: seed, epoch."""
    SAMPLE = 2
    """How one image is augmented: seed, epoch, row."""
    POSE = 3
    """How its pose is changed: the seed of the sample."""
    BACKGROUND = 4
    """Which background it gets: the seed of the sample."""
    MIX = 5
    """How a batch is mixed: seed, step."""
    STEP = 6
    """What happens within a step, such as dropout: seed, step and, of a process that does not lead, its rank."""
    START = 7
    """The weights before the first step: seed."""
    STATISTICS = 8
    """The order of the images that statistics are estimated on: seed."""
    MEMBER = 9
    """The seed of a further member of a soup: seed, number."""
    FLIP = 10
    """The images that flips are tried on, and what chance would show there: seed."""
    PREVIEW = 11
    """The images of a preview: seed."""
    RELIANCE = 12
    """The backgrounds that reliance is measured with: row."""
    SHARDS = 13
    """The order of pictures in shards: nothing."""


def derive_seed(stream: Stream, *keys: int) -> int:
    """A well-mixed 63-bit seed for these keys, integers from 0 to 2⁶⁴ − 1."""
    words = [int(stream), len(keys), *(word for key in keys for word in (key & 0xFFFFFFFF, key >> 32))]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def generator(stream: Stream, *keys: int) -> np.random.Generator:
    """A generator for these keys."""
    return np.random.default_rng(derive_seed(stream, *keys))
