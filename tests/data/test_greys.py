"""Greyscale of 10, 12 and 14 bits in 16-bit files: as bright as the camera saw it, and alike within a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fieldmark.data.cache import build_store
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import decode, decode_image
from fieldmark.data.greys import DEPTHS, measure_depth
from support.drawn import encode, picture


def deep(bits: int, *, brightest: float = 1.0, seed: int = 0) -> Image.Image:
    """A photograph of so many bits; its brightest pixel has this share of white."""
    grey = picture(seed)[..., 0].astype(float)
    return Image.fromarray(np.rint((2**bits - 1) * brightest * grey / grey.max()).astype(np.uint16))


def expected(seed: int = 0) -> np.ndarray:
    grey = picture(seed)[..., 0].astype(float)
    return np.repeat(np.rint(255 * grey / grey.max())[..., None], 3, -1)


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
@pytest.mark.parametrize("bits", DEPTHS)
def test_a_photograph_alone_is_as_bright_as_its_camera_saw_it(bits: int, format: str) -> None:
    for pixels in (decode(encode(deep(bits), format)).pixels, decode_image(deep(bits), "1").pixels):
        np.testing.assert_allclose(pixels, expected(), atol=1)


def test_a_known_depth_keeps_dark_pictures_dark() -> None:
    dark = encode(deep(12, brightest=0.2), "PNG")
    assert decode(dark, grey_bits=12).pixels.max() == 51
    assert decode(dark, grey_bits=16).pixels.max() == 3
    assert decode(dark).pixels.max() == 204  # 819 of 1,023: as far as one picture can tell


def test_no_value_is_cut_off() -> None:
    np.testing.assert_array_equal(decode(encode(deep(16), "PNG"), grey_bits=12).pixels, expected())


@given(st.sampled_from(DEPTHS), st.lists(st.integers(0, 65535), min_size=2, max_size=9))
def test_brighter_stays_brighter(bits: int, values: list[int]) -> None:
    found = decode(encode(Image.fromarray(np.array([sorted(values)], np.uint16)), "TIFF"), grey_bits=bits).pixels[
        0, :, 0
    ]
    assert (np.diff(found.astype(int)) >= 0).all()


def test_the_depth_of_a_data_set(tmp_path: Path) -> None:
    assert measure_depth([]) is None
    Image.fromarray(picture()).save(tmp_path / "colour.png")
    (tmp_path / "damaged.png").write_bytes(encode(deep(16), "PNG")[:80])
    deep(12, brightest=0.1).save(tmp_path / "dark.png")
    deep(12, seed=1).save(tmp_path / "bright.tif")
    files = [tmp_path / name for name in ("colour.png", "damaged.png", "gone.png", "dark.png")]
    dark = measure_depth(files)
    assert dark
    assert (dark.bits, dark.largest, dark.pictures) == (10, 410, 1)
    both = measure_depth([*files, tmp_path / "bright.tif"])
    assert both
    assert (both.bits, both.largest, both.pictures) == (12, 4095, 2)


def test_cached_pixels_know_their_depth(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    deep(12, brightest=0.2).save(tmp_path / "a" / "1.png")
    catalog = Catalog(
        name="greys", root=tmp_path, paths=("a/1.png",), labels=np.zeros(1, np.int64), classes=("a",),
        splits=np.array(["train"]), groups=np.array([""]),
    )  # fmt: skip
    for bits, brightest in ((12, 51), (16, 3), (None, 204), (12, 51)):
        store = build_store(catalog, side=64, grey_bits=bits, folder=tmp_path / "cache")
        assert store.cached.all()
        assert store[0].pixels.max() == brightest
    assert len(list((tmp_path / "cache").glob("*/index.npz"))) == 3
