"""Slices: the statistics against independent references, the division into slices by its invariants."""

from __future__ import annotations

from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fieldmark.evaluation.metrics import wilson
from fieldmark.reporting.slices import Grouping, accuracy_by_slice, category, quarters


def _fisher(a: int, b: int, c: int, d: int) -> float:
    """Two-sided, by its definition: all tables of these margins that are no likelier than this one."""
    row, column, total = a + b, a + c, a + b + c + d
    chance = {
        k: comb(row, k) * comb(total - row, column - k) / comb(total, column)
        for k in range(max(0, row + column - total), min(row, column) + 1)
    }
    return sum(p for p in chance.values() if p <= chance[a] * (1 + 1e-9))


def _holm(p: list[float]) -> list[float]:
    """By its definition: the j-th smallest is multiplied by how many are not smaller, and none may fall below one
    before it."""
    corrected = {}
    highest = 0.0
    for j, at in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        highest = max(highest, min(1.0, p[at] * (len(p) - j)))
        corrected[at] = highest
    return [corrected[i] for i in range(len(p))]


def test_p_values_against_the_definitions() -> None:
    random = np.random.default_rng(0)
    correct = random.random(90) < 0.7
    light = random.choice(["dusk", "shade", "sun"], 90)
    correct[light == "dusk"] &= random.random((light == "dusk").sum()) < 0.4
    pose = random.choice(["flying", "sitting"], 90)
    found = accuracy_by_slice(correct, [category("light", light), category("pose", pose)])
    expected = []
    for values in (light, pose):
        for value in sorted(set(values)):
            inside = values == value
            a, c = correct[inside].sum(), correct[~inside].sum()
            expected.append(_fisher(a, inside.sum() - a, c, (~inside).sum() - c))
    slices = [one for slicing in found for one in slicing.slices]
    assert [one.p for one in slices] == pytest.approx(_holm(expected))
    assert [one.value for one in slices if one.differs] == ["dusk"]
    assert slices[0].rest == pytest.approx(correct[light != "dusk"].mean())
    assert slices[0].accuracy.value == pytest.approx(correct[light == "dusk"].mean())


@pytest.mark.parametrize(("right", "total"), [(0, 4), (3, 7), (50, 50), (812, 1389)])
def test_intervals_against_scipy(right: int, total: int) -> None:
    interval = binomtest(right, total).proportion_ci(0.95, method="wilson")
    score = wilson(right, total)
    assert (score.low, score.high) == pytest.approx((interval.low, interval.high), abs=1e-6)


def test_chance_alone_is_rarely_marked() -> None:
    random = np.random.default_rng(1)
    alarms = 0
    for _ in range(150):
        groupings = [category(str(k), random.choice(list("abcd"), 120)) for k in range(4)]
        found = accuracy_by_slice(random.random(120) < 0.8, groupings)
        alarms += any(one.differs for slicing in found for one in slicing.slices)
    assert alarms / 150 < 0.05 + 2 * (0.05 * 0.95 / 150) ** 0.5


def test_what_is_left_out() -> None:
    correct = np.arange(100) % 4 > 0
    rare = np.array(["rare"] * 3 + ["a"] * 50 + ["b"] * 40 + [""] * 7)
    (slicing,) = accuracy_by_slice(correct, [category("kind", rare), category("only", np.full(100, "x"))])
    assert [(one.value, one.total) for one in slicing.slices] == [("a", 50), ("b", 40)]
    assert slicing.num_small == 1


def test_of_many_slices_those_that_differ_most_are_kept() -> None:
    values = np.repeat([f"patient {k:02}" for k in range(30)], 10)
    correct = np.arange(300) % 10 > 0
    correct[values == "patient 17"] = False
    (slicing,) = accuracy_by_slice(correct, [category("group", values)], most=4)
    assert len(slicing.slices) == 4
    assert slicing.num_more == 26
    assert [one.value for one in slicing.slices if one.differs] == ["patient 17"]


def test_nothing_to_compare() -> None:
    assert accuracy_by_slice(np.ones(9, bool), []) == []
    assert accuracy_by_slice(np.ones(9, bool), [quarters("size", np.full(9, np.nan))]) == []
    assert accuracy_by_slice(np.ones(9, bool), [quarters("size", np.full(9, 7.0))]) == []


def test_numbers_are_shown_in_their_order() -> None:
    assert category("stage", ["10", "9", "", "2"]).order == ("2", "9", "10")
    many = category("age", [str(n) for n in range(40)])
    assert many.order == ("up to 9", "over 9 to 19", "over 19 to 29", "over 29")
    assert category("note", [*"abcdefghi", "1"]).order[0] == "1"


@given(st.lists(st.one_of(st.integers(-50, 50), st.none()), min_size=1, max_size=80))
def test_quarters(numbers: list[int | None]) -> None:
    values = np.array([np.nan if n is None else n for n in numbers], float)
    grouping = quarters("size", values, "{:.0f}".format)
    known = np.isfinite(values)
    assert isinstance(grouping, Grouping)
    assert (grouping.values[~known] == "").all()
    assert set(grouping.values[known]) == set(grouping.order)
    place = np.array([grouping.order.index(value) for value in grouping.values[known]])
    ranked = np.argsort(values[known], kind="stable")
    assert (np.diff(place[ranked]) >= 0).all()  # larger numbers are never in an earlier slice
    assert all(len({p for p, v in zip(place, values[known], strict=True) if v == n}) == 1 for n in values[known])
    if len(set(values[known])) == known.sum() >= 4:
        assert np.bincount(place).max() - np.bincount(place).min() <= 1
