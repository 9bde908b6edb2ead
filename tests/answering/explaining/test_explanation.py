"""What an explanation says of its own worth."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.answering.explaining.explanation import Exchange, Explanation, RegionFound
from fieldmark.answering.explaining.regions import Region
from fieldmark.evaluation.verdict import Verdict


def region(first: float | None, second: float | None) -> RegionFound:
    """One whose exchange for other images of A, and for B, leaves these margins."""
    cells = np.zeros((2, 2), bool)
    cells[0, 0] = True
    exchanged = (None if margin is None else Exchange(margin, 3) for margin in (first, second))
    as_first, as_second = exchanged
    return RegionFound(Region(cells, 0.6, (0.25, 0.25)), "region 1", as_first=as_first, as_second=as_second)


def explanation(first: float | None, second: float | None) -> Explanation:
    one = region(first, second)
    pixels, evidence = np.zeros((8, 8, 3), np.uint8), np.zeros((2, 2), np.float32)
    verdict = Verdict("a.jpg", "Arctic tern", 0.9, ())
    return Explanation(verdict, "Arctic tern", "Common tern", 4.0, (0.9, 0.05), (one,), pixels, evidence)


@pytest.mark.parametrize(
    ("first", "second", "share"),
    [(4.0, 0.0, 0.0), (3.0, 0.0, 0.25), (0.0, 0.0, 1.0), (-4.0, 0.0, 2.0), (6.0, 0.0, 0.0)],
)
def test_what_other_images_of_the_class_change(first: float, second: float, share: float) -> None:
    assert region(first, second).of_the_photograph(4.0) == pytest.approx(share)
    assert explanation(first, second).as_dict()["regions"][0]["of_the_photograph"] == pytest.approx(share)


def test_nothing_to_compare() -> None:
    for first, second in ((None, 0.0), (2.0, None), (2.0, 5.0)):  # no images of A; none of B; B speaks for A there
        assert region(first, second).of_the_photograph(4.0) is None
        assert not explanation(first, second).doubt


def test_a_photograph_that_is_special_is_said_to_be() -> None:
    assert not explanation(3.0, 0.0).doubt
    assert "Arctic tern change the log odds 75 % as much" in explanation(1.0, 0.0).doubt
    assert "Arctic tern change the odds just as much" in explanation(0.0, 0.0).doubt
    assert "Arctic tern also change the answer (1 : 2.7)" in explanation(-1.0, -7.0).doubt
