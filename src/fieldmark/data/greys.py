"""Greyscale of more than 8 bits → 8 bits: which value is white?

16-bit files hold what the camera measured, and few cameras measure 16 bits. A photograph of 12 bits in a 16-bit file
has no value above 4,095: divided by 257, as 16 bits would be, it is nearly black. Nothing in the file says how many
bits are in use, but the values do. `measure_depth` looks at many pictures of a data set, so that all are scaled alike,
and the bundle keeps the answer. A picture alone is scaled by its own largest value, and so is one that exceeds the
depth of the data set: no value is ever cut off.

For 32-bit integers and floats no white is agreed on: white is the smallest of 1, 255 and 65,535 that no value exceeds;
where values are negative or larger still, the range from the smallest to the largest is stretched.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldmark.data.formats import opened
from fieldmark.data.limits import check_memory
from fieldmark.data.shards import open_picture

__all__ = ["DEPTHS", "Depth", "bands", "is_deep", "may_be_deep", "measure_depth", "to_8bit"]

DEPTHS: Final = (8, 10, 12, 14, 16)
"""The numbers of bits that cameras measure; 8 for files that hold no more in two bytes."""

_WHITES = (1.0, 255.0, 65535.0)
_BAND = 2**20
"""Pixels that are worked on at a time, since floats take four times as much memory as the picture."""
_MOST_HEADERS, _MOST_PICTURES = 1000, 64
"""How many files are opened, and how many pictures are decoded, to find the depth of a data set."""
_MAY_BE_DEEP = (".png", ".tif", ".tiff")


class Depth(NamedTuple):
    """How many bits 16-bit greyscale pictures make use of."""

    bits: int
    largest: int
    """The largest value that was met."""
    pictures: int
    """The number of pictures that were looked at."""


def is_deep(mode: str) -> bool:
    """Whether pictures of this Pillow mode are greyscale of more than 8 bits."""
    return mode == "F" or mode.startswith("I")


def bands(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """The image in horizontal bands of bounded size, each with the row where it starts."""
    width, height = image.size
    rows = max(1, _BAND // width)
    if rows >= height:
        yield 0, image
        return
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def to_8bit(image: Image.Image, bits: int | None = None) -> Image.Image:
    """16-bit, 32-bit and float greyscale → L. `bits` is the depth of 16-bit pictures; None: the picture's own."""
    low, high = _black_and_white(image, bits)
    transparent = image.info.get("transparency")
    flat = Image.new("L", image.size)
    for top, band in bands(image):
        values = _values(band)
        grey = np.rint((values - low) * (255 / max(high - low, 1e-30))).astype(np.uint8)
        if isinstance(transparent, int):
            grey[values == transparent] = 255
        flat.paste(Image.fromarray(grey), (0, top))
    return flat


def may_be_deep(name: str) -> bool:
    """Whether a file of this name can be such a picture; most photographs cannot."""
    return name.lower().endswith(_MAY_BE_DEEP)


def measure_depth(places: Iterable[Path | str]) -> Depth | None:
    """How many bits 16-bit greyscale pictures among these files make use of; None if there are none.

    Of many files a spread sample is looked at. Files that cannot be read are left to whoever decodes them.
    """
    candidates = _spread([Path(place) for place in places if may_be_deep(str(place))], _MOST_HEADERS)
    deep = _spread([file for file in candidates if _largest(file, header_only=True) is not None], _MOST_PICTURES)
    values = [largest for file in deep if (largest := _largest(file)) is not None]
    return Depth(_bits_of(max(values)), max(values), len(values)) if values else None


def _spread(files: list[Path], most: int) -> list[Path]:
    return [files[i] for i in np.linspace(0, len(files) - 1, min(most, len(files))).round().astype(int)]


def _largest(file: Path, *, header_only: bool = False) -> int | None:
    """The largest value of a 16-bit greyscale picture, or 0 by its header only; None for any other file."""
    try:
        with open_picture(file) as data, opened(data, str(file)).image as image:
            if not image.mode.startswith("I;16"):
                return None
            if header_only:
                return 0
            check_memory(image, b"", str(file))
            return int(_range(image)[1])
    except Exception:  # codecs meet damage with anything
        return None


def _bits_of(largest: float) -> int:
    return next(bits for bits in DEPTHS if largest < 2**bits)


def _black_and_white(image: Image.Image, bits: int | None) -> tuple[float, float]:
    if image.format == "PPM" and image.mode == "I":
        return 0.0, 65535.0  # such a file says what white is, and Pillow scales it
    low, high = _range(image)
    if image.mode.startswith("I;16"):
        depth = bits if bits is not None and high < 2**bits else _bits_of(high)
        return 0.0, float(2**depth - 1)
    white = next((white for white in _WHITES if low >= 0 and high <= white), None)
    return (low, high) if white is None else (0.0, white)


def _range(image: Image.Image) -> tuple[float, float]:
    """The smallest and the largest value."""
    ends = [(values.min(), values.max()) for _, band in bands(image) for values in [_values(band)]]
    return float(min(low for low, _ in ends)), float(max(high for _, high in ends))


def _values(band: Image.Image) -> NDArray[np.float32]:
    return np.nan_to_num(np.asarray(band, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
