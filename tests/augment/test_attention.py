"""Boxes and masks from attention maps: blobs are drawn into maps and found again."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.augment.attention import attended, closer, hidden, regions


def blob(size: int, left: int, top: int, right: int, bottom: int) -> torch.Tensor:
    """A bright rectangle (1, size, size) on a dim ground."""
    maps = torch.full((1, size, size), 0.2)
    maps[:, top:bottom, left:right] = 5.0
    return maps


CORNERS = st.tuples(st.integers(0, 38), st.integers(1, 12), st.integers(0, 38), st.integers(1, 12))


@settings(max_examples=50, deadline=None)
@given(corners=CORNERS, threshold=st.floats(0.05, 0.95))
def test_the_box_is_that_of_the_blob(corners: tuple[int, int, int, int], threshold: float) -> None:
    left, width, top, height = corners
    right, bottom = min(left + width, 40), min(top + height, 40)
    maps = blob(40, left, top, right, bottom)
    found = regions(maps, (40, 40), torch.tensor([threshold]), padding=0.0)
    assert found.tolist() == [[left, top, right, bottom]]
    padded = regions(maps, (40, 40), torch.tensor([threshold]), padding=0.1)
    assert padded.tolist() == [[max(left - 4, 0), max(top - 4, 0), min(right + 4, 40), min(bottom + 4, 40)]]


def test_maps_are_coarser_than_images() -> None:
    maps = torch.zeros(2, 4, 6)
    maps[0, 1, 4] = 1.0
    maps[1, 3, 0] = 9.0
    boxes = regions(maps, (64, 96), torch.tensor([0.5, 0.5]), padding=0.0)  # cells of 16 px
    for (left, top, right, bottom), (x, y) in zip(boxes.tolist(), [(4.5, 1.5), (0.5, 3.5)], strict=True):
        assert left <= 16 * x <= right
        assert top <= 16 * y <= bottom
        assert right - left <= 18
        assert bottom - top <= 18


def test_even_attention_is_the_whole_image() -> None:
    maps = torch.stack([torch.zeros(7, 7), torch.full((7, 7), 3.0)])
    assert (attended(maps, (28, 28)) == 0).all()
    assert regions(maps, (28, 28), torch.tensor([0.5, 0.5])).tolist() == [[0, 0, 28, 28]] * 2
    images = torch.rand(2, 3, 28, 28)
    assert torch.equal(hidden(images, maps, torch.tensor([0.3, 0.3])), images)
    torch.testing.assert_close(closer(images, torch.tensor([[0, 0, 28, 28]] * 2)), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize("box", [(0, 0, 16, 16), (8, 4, 24, 12), (31, 31, 32, 32), (3, 0, 30, 32)])
def test_a_crop_is_the_box_resized(box: tuple[int, int, int, int]) -> None:
    left, top, right, bottom = box
    images = torch.rand(1, 3, 32, 32)
    found = closer(images, torch.tensor([box]))
    expected = F.interpolate(images[..., top:bottom, left:right], size=(32, 32), mode="bilinear", align_corners=False)
    # at the box's edge the crop looks at the pixels beyond it, where there are any
    x, y = 16 // (right - left) + 1, 16 // (bottom - top) + 1
    inner = (..., slice(y, 32 - y), slice(x, 32 - x))
    torch.testing.assert_close(found[inner], expected[inner], atol=1e-5, rtol=0)
    assert found.shape == images.shape


def test_the_blob_is_hidden_and_nothing_else() -> None:
    images = torch.rand(2, 3, 20, 20) + 1
    maps = torch.cat([blob(20, 3, 5, 9, 8), blob(20, 0, 0, 20, 1)])
    found = hidden(images, maps, torch.tensor([0.2, 0.5]))
    assert (found[0, :, 5:8, 3:9] == 0).all()
    assert (found[1, :, 0] == 0).all()
    outside = torch.ones(2, 3, 20, 20, dtype=torch.bool)
    outside[0, :, 5:8, 3:9] = outside[1, :, 0] = False
    assert torch.equal(found[outside], images[outside])
