"""Cells become regions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from fieldmark.answering.explaining.regions import find_regions


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**31), st.integers(4, 20))
def test_regions_are_connected_apart_and_in_order(seed: int, side: int) -> None:
    cells = np.random.default_rng(seed).normal(size=(side, side)).astype(np.float32)
    regions = find_regions(cells)
    assert regions
    assert sum(one.cells.astype(int) for one in regions).max() == 1
    assert [one.share for one in regions] == sorted((one.share for one in regions), reverse=True)
    for one in regions:
        assert ndimage.label(one.cells)[1] == 1
        x, y = one.peak
        assert one.cells[int(y * side), int(x * side)]
        inside = cells[one.cells].clip(min=0).sum() / cells.clip(min=0).sum()
        assert one.share == pytest.approx(inside, rel=1e-4)


def test_two_spots_are_two_regions() -> None:
    cells = np.zeros((12, 12), np.float32)
    cells[2:4, 2:4], cells[8:10, 7:10], cells[5, 5] = 3, 2, -4
    first, second = find_regions(cells)
    assert first.cells[2:4, 2:4].all()
    assert second.cells[8:10, 7:10].all()
    assert not (first.cells | second.cells)[5, 5]


def test_nothing_speaks_for_it() -> None:
    assert find_regions(-np.ones((6, 6), np.float32)) == []


def test_parts_group_cells() -> None:
    cells = np.zeros((8, 8), np.float32)
    cells[1, 1], cells[6, 6], cells[1, 2] = 1, 3, 1
    parts = torch.zeros(3, 4, 4)
    parts[0, 0, 0], parts[1, 3, 3], parts[2, 0, 3] = 1, 1, 1
    first, second = find_regions(cells, parts)
    assert (first.part, second.part) == (1, 0)
    assert first.cells[6, 6]
    assert second.cells[1, 1]
    assert not first.cells[:4].any()
