"""Objects and backgrounds, taken apart and put together."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from fieldmark.augment.background import alone, exchanged, scenery

SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 24))


@st.composite
def pictures(draw: st.DrawFn) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    height, width = draw(SHAPES)
    return draw(arrays(np.uint8, (height, width, 3))), draw(arrays(np.bool_, (height, width)))


@given(pictures())
def test_scenery_keeps_what_is_not_the_object(picture: tuple[NDArray[np.uint8], NDArray[np.bool_]]) -> None:
    pixels, shown = picture
    filled = scenery(pixels, shown)
    assert filled.shape == pixels.shape
    assert (filled[~shown] == pixels[~shown]).all()
    if not shown.all():  # an average of what is around it, never a colour that is not between those
        assert (filled.reshape(-1, 3).min(0) >= pixels[~shown].min(0)).all()
        assert (filled.reshape(-1, 3).max(0) <= pixels[~shown].max(0)).all()


def test_scenery_goes_on_smoothly() -> None:
    ramp = np.broadcast_to(np.arange(0, 240, 5, np.uint8)[None, :, None], (48, 48, 3))
    hole = np.zeros((48, 48), bool)
    hole[16:28, 16:28] = True
    pixels = np.where(hole[..., None], np.uint8(255), ramp)
    assert np.abs(scenery(pixels, hole).astype(int) - ramp)[hole].mean() < 16


def test_of_a_picture_that_is_all_object_nothing_is_known() -> None:
    assert (scenery(np.zeros((5, 7, 3), np.uint8), np.ones((5, 7), bool)) == 128).all()


@given(pictures())
def test_an_object_keeps_its_pixels(picture: tuple[NDArray[np.uint8], NDArray[np.bool_]]) -> None:
    pixels, shown = picture
    before = exchanged(pixels, shown, np.full((9, 5, 3), 77, np.uint8))
    assert (before[shown] == pixels[shown]).all()
    assert (before[~shown] == 77).all()
    assert (alone(pixels, shown)[~shown] == 128).all()
