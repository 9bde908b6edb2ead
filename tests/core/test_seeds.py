"""Streams of random numbers that cannot meet."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.seeds import Stream, derive_seed, generator

KEYS = st.lists(st.integers(0, 2**64 - 1), max_size=4)


@given(st.sampled_from(Stream), KEYS, st.sampled_from(Stream), KEYS)
def test_only_the_same_keys_of_the_same_stream_agree(
    first: Stream, keys: list[int], second: Stream, others: list[int]
) -> None:
    same = (first, keys) == (second, others)
    assert (derive_seed(first, *keys) == derive_seed(second, *others)) is same


def test_small_keys_never_meet() -> None:
    """What coincided before: an epoch's order and its first sample, a sample and a mix."""
    asked = [(stream, keys) for stream in Stream for keys in ((0,), (0, 0), (0, 0, 0), (0, 1), (1, 0), (1,), (0, 1, 1))]
    seeds = {derive_seed(stream, *keys) for stream, keys in asked}
    assert len(seeds) == len(asked)
    states = [tuple(generator(stream, *keys).integers(2**32, size=4).tolist()) for stream, keys in asked]
    assert all(one != other for one, other in combinations(states, 2))


def test_seeds_fit_into_63_bits_and_stay_what_they_are() -> None:
    assert all(0 <= derive_seed(stream, 3, 7) < 2**63 for stream in Stream)
    assert derive_seed(Stream.SAMPLE, 3, 7, 11) == derive_seed(Stream.SAMPLE, 3, 7, 11)
