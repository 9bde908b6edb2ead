"""Which part is which key point: against trying all assignments."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.evaluation.part_names import Match, match_parts, names_of, numbered

FRAMES = np.array([[100.0, 80.0], [60.0, 60.0], [50.0, 120.0]])
SIZES = np.array([40.0, 30.0, 60.0])


def drawn(seed: int, parts: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    centres = rng.random((3, parts, 2)) * FRAMES[:, None]
    keypoints = np.concatenate([rng.random((3, points, 2)) * FRAMES[:, None], rng.random((3, points, 1)) < 0.7], axis=2)
    keypoints[0, :, 2] = 1
    return centres, keypoints


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 4))
def test_no_other_match_has_a_smaller_sum(seed: int, parts: int, points: int) -> None:
    centres, keypoints = drawn(seed, parts, points)
    names = [f"k{p}" for p in range(points)]
    cost = np.zeros((parts, points))
    for m in range(parts):
        for p in range(points):
            seen = [n for n in range(3) if keypoints[n, p, 2]]
            cost[m, p] = np.mean([np.hypot(*(centres[n, m] - keypoints[n, p, :2])) / SIZES[n] for n in seen])
    found = match_parts(centres, keypoints, names, SIZES, FRAMES)
    assert len(found) == min(parts, points)
    for match in found:
        assert match.distance == pytest.approx(cost[match.part, names.index(match.keypoint)])
    small, wide = (cost, range(points)) if parts <= points else (cost.T, range(parts))
    least = min(sum(small[i, j] for i, j in enumerate(order)) for order in permutations(wide, len(small)))
    assert sum(match.distance for match in found) == pytest.approx(least)


def test_points_that_are_hidden_outside_or_missing_do_not_count() -> None:
    centres = np.array([[[10.0, 10.0]], [[10.0, 10.0]], [[10.0, 10.0]]])
    keypoints = np.zeros((3, 4, 3))
    keypoints[:, 0] = [[10, 14, 1], [30, 30, 0], [np.nan, np.nan, 1]]  # one that counts
    keypoints[:, 1] = [500, 10, 1]  # outside
    keypoints[:, 2] = [np.nan, np.nan, 0]
    keypoints[:, 3] = [10, -1, 1]  # outside
    (only,) = match_parts(centres, keypoints, ["a", "b", "c", "d"], SIZES, FRAMES)
    assert (only.part, only.keypoint, only.num_images) == (0, "a", 1)
    assert only.distance == pytest.approx(4 / 40)


def test_a_part_takes_a_name_only_if_it_tells_more_than_the_mean_place() -> None:
    keypoints = np.stack([np.column_stack([FRAMES * (0.2 + 0.3 * p), np.ones(3)]) for p in range(2)], axis=1)
    keypoints[:, 1, :2] += [[20, 0], [-20, 0], [0, 30]]  # moves about; the first is always at the same share
    centres = keypoints[:, :, :2] + 1
    matches = match_parts(centres, keypoints, ["fixed", "moving"], SIZES, FRAMES)
    assert [match.tells for match in matches] == [False, True]
    assert matches[0].constant == pytest.approx(0, abs=1e-9)
    assert names_of(3, matches) == ("part 1", "moving", "part 3")


def test_numbers_make_way_for_key_points_that_are_called_so() -> None:
    centres, keypoints = np.full((3, 2, 2), 5.0), np.zeros((3, 1, 3))
    keypoints[:, 0] = [[5, 5, 1], [5, 5, 1], [5, 5, 1]]
    (match,) = match_parts(centres, keypoints, ["part 2"], SIZES, FRAMES)
    assert names_of(2, [match]) == ("part 2", "part 2'")
    assert numbered(2) == ("part 1", "part 2")


def test_pairs_that_are_given_are_measured_as_they_are() -> None:
    centres, keypoints = drawn(0, 2, 2)
    found = match_parts(centres, keypoints, ["a", "b"], SIZES, FRAMES, pairs=[(0, 1), (1, 0)])
    assert [(match.part, match.keypoint) for match in found] == [(0, "b"), (1, "a")]


@pytest.mark.parametrize(("distance", "named"), [(0.1, True), (0.19, False), (0.24, False), (0.3, False)])
def test_a_part_a_little_nearer_than_the_mean_place_has_no_name(distance: float, named: bool) -> None:
    match = Match(0, "left leg", distance, constant=0.25, num_images=100)
    assert names_of(1, [match]) == (("left leg",) if named else ("part 1",))
