"""Seeds of streams of random numbers."""

from __future__ import annotations

from fieldmark.core.seeds import derive_seed


def test_seeds_are_distinct() -> None:
    keys = [(7, epoch, row) for epoch in range(20) for row in range(200)] + [(2**40, 0, 5), (1, 2, 3), (3, 2, 1)]
    seeds = [derive_seed(*key) for key in keys]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert seeds == [derive_seed(*key) for key in keys]


def test_a_seed_is_the_same_everywhere() -> None:
    """Runs are taken up with other versions of NumPy and on other machines."""
    assert derive_seed(0) == 7896617691693857887
    assert derive_seed(1, 2, 3) == 6498626229777268288
