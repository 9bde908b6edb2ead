"""No picture takes more than `MAX_MEMORY` while it is decoded, and none keeps an interpreted decoder busy for long.

The memory is estimated from the header before any pixel is decoded, in the mode that is actually decoded: a pixel takes
four bytes in colour (Pillow pads it), two in 16-bit grey, one in 8-bit grey, and codecs need room of their own. The
estimates are upper bounds; `benchmarks/decoding.py` measures how close they are. No clock decides: the same file is
accepted or refused everywhere.
"""

from __future__ import annotations

import re
from typing import Final

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile
from PIL.TiffImagePlugin import TiffImageFile

from fieldmark.core.errors import TooLargeError
from fieldmark.data.formats import jpeg_header
from fieldmark.data.headers import check_chunks

__all__ = ["MAX_BYTES", "MAX_MEMORY", "MAX_PIXELS", "check_codec", "check_memory", "refuse_above"]

MAX_MEMORY: Final = 2**29
"""What a picture may take while it is decoded, with the bytes of its file."""

MAX_BYTES: Final = 3 * 2**27
"""Of a file: a quarter of the memory at least is left for pixels."""

MAX_PIXELS: Final = 178_956_970
"""Where Pillow refuses by itself. Cameras end near 150 million."""

MAX_SLOW_PIXELS: Final = 2**20
"""For Pillow's decoders that are written in Python (plain PPM, PPM of unusual depth, run-length coded BMP). They take
up to 1.7 seconds for a million pixels."""

MAX_COMMENTS: Final = 100
"""In a plain PPM. Pillow's decoder searches each block anew after each comment."""

MAX_SCANS: Final = 256
"""A progressive JPEG has about ten scans. Tens of thousands of empty ones fit in 1 MB and take hours to decode."""

MAX_SCANNED: Final = 2 * 10**9
"""Pixels of all scans of a JPEG together, which take a second. Ten scans of the largest picture are less."""

_SCAN, _END = b"\xda", b"\xd9"
_MARKER = re.compile(rb"\xff([^\x00\x01\xd0-\xd8\xff])")
"""Of what has a length, and the end. In coded data 0xFF is always followed by 0, or by a marker without a length."""
_MOST_MARKERS = 2**14

_BYTES = {"1": 1, "L": 1, "P": 1, "I;16": 2, "I;16B": 2, "I;16L": 2, "I;16N": 2}
"""Of a pixel in memory; all other modes take four."""
_CODEC_BYTES = {"WEBP": 12, "AVIF": 12, "HEIF": 5, "GIF": 4}
"""What a decoder takes for itself, for each pixel: planes of brightness and colour, and copies that it hands over."""
_MOST_COMPONENTS = 4
"""Of a JPEG."""
_BITS_PER_SAMPLE = 258
_RESULT_BYTES = 11
"""For each pixel of the result: an image, a turned one and an array."""
_BAND_BYTES = 2**25
"""For the copies of one band, and small things."""


def refuse_above(name: str, amount: int, bound: int, unit: str) -> None:
    """Raise TooLargeError if a picture is larger than it may be."""
    if amount > bound:
        raise TooLargeError(f"{name} is too large: {amount:,} {unit}, but the limit is {bound:,}", "Make it smaller.")


def check_codec(image: Image.Image, data: bytes, name: str) -> None:
    """Raise TooLargeError if a picture that is just open would take too long to decode, whatever its size.

    `data` is what is decoded: the file, or the preview within it.
    """
    if image.format in ("JPEG", "MPO"):
        pixels = max(1, image.size[0] * image.size[1])
        most, scans = min(MAX_SCANS, MAX_SCANNED // pixels), data.count(b"\xff" + _SCAN)
        if scans > most:  # a video may follow, in which these are two bytes like any others
            scans = _num_scans(data)
        refuse_above(name, scans, most, f"JPEG scans of {pixels:,} pixels")
    if image.format == "PNG":
        check_chunks(data, name)
    if any(tile[0] in Image.DECODERS for tile in getattr(image, "tile", ())):  # Pillow's registry of those in Python
        width, height = image.size
        if width * height > MAX_SLOW_PIXELS:
            raise TooLargeError(
                f"{name} has {width * height:,} pixels in a form of {image.format} that takes long to read; the limit "
                f"is {MAX_SLOW_PIXELS:,}",
                "Convert it to PNG.",
            )
        if image.format == "PPM":
            refuse_above(name, data.count(b"#"), MAX_COMMENTS, "comments")


def _num_scans(data: bytes) -> int:
    """Of the first picture in a JPEG file, as the decoder meets them; more than any if there are too many markers."""
    at = scans = 0
    for _ in range(_MOST_MARKERS):
        marker = _MARKER.search(data, at)
        if marker is None or marker[1] == _END:
            return scans
        scans += marker[1] == _SCAN
        at = marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2]))
    return _MOST_MARKERS


def check_memory(
    image: Image.Image, data: bytes, name: str, *, target: tuple[int, int] | None = None, beside: int = 0
) -> None:
    """Raise TooLargeError if a picture would take too much memory.

    `image` is open, and drafted if it is going to be; `data` is what is decoded, and `beside` the number of bytes that
    are held besides: those of a file that `data` was taken from. `target` is the size of the result (width, height).
    """
    width, height = image.size
    refuse_above(name, width * height // 10**6, MAX_PIXELS // 10**6, "million pixels")
    needed = beside + len(data) + _needed(image, data, target or image.size)
    refuse_above(name, needed >> 20, MAX_MEMORY >> 20, "MB of memory to decode it")


def _needed(image: Image.Image, data: bytes, target: tuple[int, int]) -> int:
    """Bytes, at the worst of the stages that a picture goes through."""
    width, height = image.size
    pixels, result = width * height, target[0] * target[1]
    decoded = _BYTES.get(image.mode, 4) * pixels
    plain = image.mode == "RGB" and not {"icc_profile", "transparency"} & image.info.keys()
    stages = {
        "loading": decoded + _codec(image, data),
        "to sRGB": decoded + (0 if plain else 5 * pixels),
        "resizing": 4 * pixels + (0 if target == image.size else 4 * (target[0] * height + result)),
        "turning": _RESULT_BYTES * result,
    }
    return _BAND_BYTES + max(stages.values())


def _codec(image: Image.Image, data: bytes) -> int:
    """Bytes that the decoder takes for itself."""
    width, height = image.size
    if isinstance(image, TiffImageFile):
        packed = image.info.get("compression", "raw") != "raw"  # then a strip may be the whole picture
        return sum(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))) * width * height // 8 if packed else 0
    if image.format not in ("JPEG", "MPO"):
        return _CODEC_BYTES.get(image.format or "", 0) * width * height
    if not data:  # decoded already
        return 0
    # all coefficients, two bytes each, are kept until the last scan was read, at full size whatever the draft
    if header := jpeg_header(data):
        return 2 * header.components * header.width * header.height if header.several_scans else 0
    scale = image.decoderconfig[0] if isinstance(image, JpegImageFile) and image.decoderconfig else 1  # of the draft
    return 2 * _MOST_COMPONENTS * (scale * width) * (scale * height)  # a header in a form of its own may say anything
