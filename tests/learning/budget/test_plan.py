"""What is planned fits into what is left, and more is never planned to give less."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fieldmark.learning.budget.plan import ENOUGH_STEPS, FEWEST_STEPS, Way, heats, preferred, probe_size, with_rivals

costs = st.floats(0.01, 100)
ways = st.lists(
    st.builds(
        Way,
        backbone=st.sampled_from(["a", "b"]),
        size=st.sampled_from([128, 160, 224]),
        freeze=st.sampled_from([0, 4]),
        probe=st.floats(0, 1),
        begin=costs,
        step=costs,
        judge=costs,
        finish=costs,
    ),
    max_size=6,
    unique_by=lambda way: (way.backbone, way.size, way.freeze),
)
left = st.floats(0, 1e6)


@given(ways, left)
def test_losers_take_a_quarter_at_most_and_the_winner_has_enough_steps(some: list[Way], left: float) -> None:
    plan = heats(preferred(some, left), left)
    assert plan.lost <= 0.25 * left * (1 + 1e-9)
    assert len(plan.ways) <= 4
    for way in plan.ways:
        assert way.steps(left) >= FEWEST_STEPS
        if len(plan.ways) > 1:
            assert way.steps(0.75 * left) >= ENOUGH_STEPS
            assert plan.each >= 60 * way.step


@given(ways, left, st.floats(1, 10))
def test_a_larger_budget_never_plans_less(some: list[Way], left: float, factor: float) -> None:
    """Neither fewer ways that are worth trying, nor smaller pictures, nor fewer contenders among the same ways."""
    less, more = preferred(some, left), preferred(some, factor * left)
    assert set(less) <= set(more)
    assume(less)
    small, large = heats(less, left), heats(less, factor * left)
    assert len(small.ways) <= len(large.ways)
    assert min(way.steps(factor * left) for way in small.ways) >= min(way.steps(left) for way in small.ways)
    enough = [way for way in less if way.steps(left) >= ENOUGH_STEPS]
    if enough:
        assert more[0].size >= less[0].size


def test_pictures_come_before_steps_once_there_are_enough() -> None:
    small, large = (Way("a", size, 0, 0.7, 10, step, 5, 0) for size, step in ((160, 1.0), (224, 2.0)))
    frozen = Way("a", 224, 4, 0.7, 10, 1.2, 5, 0)
    assert [one.size for one in preferred([small, large], 320)] == [160, 224]
    assert preferred([small, large], 700)[0] is large
    assert preferred([small, large, frozen], 400)[0] is frozen
    assert preferred([small, large, frozen], 700)[0] is frozen, "350 steps are not enough for all stages"
    assert preferred([small, large, frozen], 1300)[0] is large
    assert preferred([small, large, frozen], 20) == []
    assert preferred([small], 100, probe_size=224) == [small]
    assert preferred([small], 100, probe_size=288) == []
    assert preferred([small], 320, probe_size=288) == [small]


def test_contenders_wait_until_there_is_time_for_them() -> None:
    some = [Way("a", 224, freeze, 0.7, 10, 1.0, 5, 0) for freeze in (0, 1, 2, 3)]
    numbers = [len(heats(some, left).ways) for left in (350, 420, 5000)]
    assert numbers == [1, 2, 4]
    assert len(heats(some[:3], 5000).ways) == 3


@given(ways, ways, st.integers(300, 3000), left)
def test_a_rival_has_its_whole_training_if_it_wins(some: list[Way], more: list[Way], whole: int, left: float) -> None:
    rivals = [replace(way, recipe=way.backbone, whole=whole) for way in more]
    likeliest = preferred(some, left)
    found = with_rivals(likeliest, rivals, left)
    assert [way for way in found if not way.recipe] == likeliest
    assert found[:1] == likeliest[:1] or not likeliest, "the default comes first"
    for way in found:
        if way.recipe:
            assert way.steps(0.75 * left) >= whole
            assert way.size == max(
                one.size for one in rivals if one.recipe == way.recipe and one.steps(0.75 * left) >= whole
            )


def test_two_recipes_compete_before_two_ways_of_one() -> None:
    plain, frozen = (Way("a", 224, freeze, 0.7, 10, 1.0, 5, 0) for freeze in (0, 4))
    slow, slower = (Way("a", 224, 0, 0.7, 10, step, 5, 0, "random", f"{step}", 400) for step in (2.0, 3.0))
    assert heats(with_rivals([plain, frozen], [slow, slower], 700), 700).ways == (plain, frozen)
    assert heats(with_rivals([plain, frozen], [slow, slower], 1300), 1300).ways == (plain, slow)
    assert heats(with_rivals([plain, frozen], [slow, slower], 3000), 3000).ways == (plain, slow, slower)
    assert heats(with_rivals([plain, frozen], [slow, slower], 5000), 5000).ways == (plain, slow, slower, frozen)


def test_a_rival_is_judged_by_a_share_of_its_whole_training() -> None:
    plain = Way("a", 224, 0, 0.7, 10, 1.0, 5, 0)
    rivals = [Way("a", 224, 0, 0.7, 10, 1.0, 5, 0, "random", "b", whole) for whole in (300, 1000)]
    assert [rival.trial for rival in rivals] == [60, 200]
    assert len(heats([plain, rivals[0]], 500).ways) == 2
    assert len(heats([plain, rivals[1]], 500).ways) == 1


@given(st.dictionaries(st.sampled_from([128, 160, 224]), costs, min_size=1), left)
def test_a_probe_that_begins_fits(found: dict[int, float], left: float) -> None:
    size = probe_size(found, left, 0.4)
    if size is None:
        assert 1.25 * found[min(found)] > left
    else:
        assert found[size] <= left
        assert size == min(found) or found[size] <= 0.4 * left


@pytest.mark.parametrize(("left", "size"), [(10, None), (20, 128), (60, 160), (200, 224)])
def test_a_larger_budget_begins_with_larger_pictures(left: float, size: int | None) -> None:
    assert probe_size({128: 15, 160: 22, 224: 45}, left, 0.4) == size
