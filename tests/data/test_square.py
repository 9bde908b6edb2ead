"""The square that is answered on, against torchvision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

from fieldmark.augment.image import ImageAugment, training_view
from fieldmark.core.errors import RecipeError
from fieldmark.data.square import INTERPOLATIONS, evaluation_view, resized


def noise(height: int, width: int) -> np.ndarray:
    """A smooth coloured picture."""
    small = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).copy()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_is_resize_and_centre_crop(interpolation: str) -> None:
    pixels = noise(256, 320)
    reference = v2.Compose(
        [v2.Resize(128, interpolation=InterpolationMode(interpolation), antialias=True), v2.CenterCrop(112)]
    )
    expected = reference(torch.from_numpy(pixels).permute(2, 0, 1)).int().numpy()
    got = evaluation_view(pixels, size=112, interpolation=interpolation)
    assert got.dtype == np.uint8
    assert got.shape == (3, 112, 112)
    assert np.abs(got - expected).max() <= 2


def test_whole_sees_every_corner() -> None:
    pixels = noise(60, 200)
    expected = v2.functional.resize(torch.from_numpy(pixels).permute(2, 0, 1), [64, 64], antialias=True)
    got = evaluation_view(pixels, size=64, whole=True, interpolation="bilinear")
    assert np.abs(got - expected.int().numpy()).max() <= 2


@pytest.mark.parametrize("shape", [(1, 1), (1, 500), (7, 3)])
def test_tiny_pictures(shape: tuple[int, int]) -> None:
    assert evaluation_view(noise(*shape), size=32).shape == (3, 32, 32)
    assert training_view(noise(*shape), size=32, options=ImageAugment(), seed=0).image.shape == (3, 32, 32)


def test_all_interpolations_work() -> None:
    views = [evaluation_view(noise(50, 70), size=20, interpolation=name) for name in INTERPOLATIONS]
    assert all(view.shape == (3, 20, 20) for view in views)


def test_unknown_interpolation() -> None:
    with pytest.raises(RecipeError, match=r"no interpolation 'bicubik'\. Did you mean 'bicubic'"):
        evaluation_view(noise(8, 8), size=4, interpolation="bicubik")


def test_what_lies_outside_changes_nothing() -> None:
    # Pillow by itself resizes upright pictures in another order, which shows in the last digit
    pixels, window = noise(320, 160), (9.5, 10.25, 149.5, 150.25)
    near = resized(pixels[:200], window, 128, "bicubic")
    assert np.array_equal(resized(pixels, window, 128, "bicubic"), near)
    assert np.array_equal(resized(np.tile(pixels[:200], (1, 4, 1)), window, 128, "bicubic"), near)
