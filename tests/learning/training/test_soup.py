"""A soup is the arithmetic mean of its members, and leaves them as they are."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmark.learning.training.soup import Soup, move_towards
from fieldmark.model.model import Model

Make = Callable[..., Model]


def floats(model: Model) -> dict[str, np.ndarray]:
    return {k: v.double().numpy().copy() for k, v in model.state_dict().items() if v.is_floating_point()}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seeds=st.lists(st.integers(0, 1000), min_size=1, max_size=5))
def test_it_is_the_mean(make: Make, seeds: list[int]) -> None:
    members = [make(seed=seed) for seed in seeds]
    before = [floats(member) for member in members]
    soup = Soup()
    for member in members:
        soup.add(member)
    for key, value in floats(soup.mean).items():
        np.testing.assert_allclose(value, np.mean([weights[key] for weights in before], axis=0), rtol=1e-5, atol=1e-6)
    for member, weights in zip(members, before, strict=True):
        assert all(np.array_equal(value, weights[key]) for key, value in floats(member).items())
    assert soup.size == len(seeds)


def test_a_member_may_go_on_changing(make: Make) -> None:
    soup, member = Soup(), make()
    kept = floats(member)
    soup.add(member)
    with torch.no_grad():
        for param in member.parameters():
            param.zero_()
    assert all(np.array_equal(value, kept[key]) for key, value in floats(soup.mean).items())


def test_there_is_no_mean_of_nothing() -> None:
    with pytest.raises(ValueError, match="no members"):
        _ = Soup().mean


def test_counters_stay_as_they_are(make: Make) -> None:
    one, other = make(seed=1), make(seed=2)
    counter = next(key for key, value in one.state_dict().items() if not value.is_floating_point())
    other.state_dict()[counter].fill_(7)
    move_towards(one, other.state_dict(), 0.5)
    assert one.state_dict()[counter] == 0
