"""Headers of many pieces are refused before Pillow reads them, and those of real pictures are not."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image, ImageCms

from fieldmark.core.errors import TooLargeError
from fieldmark.data.decode import check_pixels, decode, measure
from fieldmark.data.headers import MAX_PIECES
from support.drawn import encode, picture

MANY = MAX_PIECES + 1
ENOUGH = 2**16 - 3
"""The bytes in the longest segment."""


def segment(marker: int, data: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def jpeg(more: bytes) -> bytes:
    data = encode(picture(), "JPEG")
    return data[:2] + more + data[2:]


def png(more: bytes, *, behind: bool = False) -> bytes:
    data = encode(picture(), "PNG")
    at = len(data) - 12 if behind else 33
    return data[:at] + more + data[at:]


def gif(more: bytes) -> bytes:
    data = encode(picture(), "GIF")
    at = data.index(b",\0\0\0\0")
    return data[:at] + more + data[at:]


FRAME = segment(0xC0, b"\x08\0\x08\0\x08\x03" + b"\x01\x11\0" * 20_000)
NO_FRAME = b"," + bytes(ord(",")) + b"\0"
"""A block of a GIF that looks like one."""
MEGABYTE = zlib.compress(bytes(2**20 - 1))
HEADERS = {
    "empty segments": jpeg(segment(0xEE, b"") * MANY),
    "segments shorter than their length": jpeg(b"\xff\xee\0\0" * MANY),
    "fill": jpeg(b"\xff" * MANY),
    "between segments": jpeg(segment(0xEE, b"") + b"\0" * MANY),
    "EXIF in parts": jpeg(segment(0xE1, b"Exif\0\0" + bytes(100)) * 100),
    "frames": jpeg(FRAME * 4),
    "tables": jpeg(segment(0xDB, b"\0" + b"\1" * 64) * 100),
    "resources": jpeg(segment(0xED, b"Photoshop 3.0\0" + b"8BIM\4\4\0\0\0\0\0\0" * 5000) * 100),
    "empty chunks": png(chunk(b"prVt", b"") * MANY),
    "profiles": png(chunk(b"iCCP", b"x\0\0" + MEGABYTE) * 100),
    "text": png(chunk(b"zTXt", b"\0\0" + MEGABYTE) * 100),
    "comments": gif(b"!\xfe\1a\0" * MANY),
    "a comment in parts": gif(b"!\xfe" + b"\1a" * MANY + b"\0"),
    "what is no extension": gif(b"a" * MANY),
    "comments that seem to follow a frame": gif(b"!\xf9\0" + NO_FRAME + b"!\xfe\1a\0" * MANY),
    "comments that seem to be the animation's": gif(b"!\xff\x0bNETSCAPE2.0\0" + NO_FRAME + b"!\xfe\1a\0" * MANY),
    "a long comment": b"P6 # " + b"x" * MANY + b"\n1 1 255\n\0\0\0",
}
DECODED = {
    "empty chunks of pixels": png(chunk(b"IDAT", b"") * MANY),
    "empty chunks behind": png(chunk(b"prVt", b"") * MANY, behind=True),
}


@pytest.mark.parametrize("data", HEADERS.values(), ids=HEADERS)
def test_many_pieces_are_not_even_opened(data: bytes, tmp_path: Path) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooLargeError, match="it is made of more pieces than any photograph"):
            check_pixels(data, 10**8, "it")
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    with pytest.raises(TooLargeError, match="more pieces"):
        decode(data)
    (file := tmp_path / "file").write_bytes(data)
    assert measure(file) is None


@pytest.mark.parametrize("data", DECODED.values(), ids=DECODED)
def test_many_pieces_are_not_decoded(data: bytes) -> None:
    check_pixels(data, 10**8)
    with pytest.raises(TooLargeError, match="more pieces"):
        decode(data)


def test_a_preview_is_a_picture_like_any_other() -> None:
    preview = encode(picture(0, 400, 300), "JPEG")
    with pytest.raises(TooLargeError, match="more pieces"):
        decode(b"IIRO" + preview[:2] + FRAME * 10 + preview[2:])


def profile() -> bytes:
    """One of 4 MB, in which nobody sees what is added."""
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes() + bytes(2**22)


def frames(kind: str) -> bytes:
    more = [Image.new("RGB", (8, 8), (n % 256, n // 256, 0)) for n in range(1, 1000)]
    return encode(Image.new("RGB", (8, 8)), kind, save_all=True, append_images=more)


def in_small_chunks() -> bytes:
    """A grey picture of 17 million pixels, nothing of which is compressed, a kilobyte in each chunk."""
    packed = zlib.compress(bytes((1 + 5000) * 3400), 0)
    parts = [chunk(b"IDAT", packed[at : at + 2**10]) for at in range(0, len(packed), 2**10)]
    assert len(parts) > MANY
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 5000, 3400, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(parts) + chunk(b"IEND", b"")


WHOLE = {
    "profile": lambda: encode(picture(), "JPEG", icc_profile=profile()),
    "depth map": lambda: jpeg(segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0".ljust(ENOUGH, b"x")) * 300),
    "small segments": lambda: jpeg(segment(0xE2, b"MPF or another thing") * 2000),
    "EXIF": lambda: jpeg(segment(0xE1, b"Exif\0\0" + bytes(100)) * 3),
    "texts": lambda: png(chunk(b"tEXt", b"exif:FNumber\0" + b"28/10") * 2000),
    "small chunks of pixels": in_small_chunks,
    "animated GIF": lambda: frames("GIF"),
    "animated PNG": lambda: frames("PNG"),
    "XMP in a GIF": lambda: gif(b"!\xff\x0bXMP DataXMP" + b"<x:xmpmeta>" * 20_000 + bytes(range(255, -1, -1)) + b"\0"),
    "comments in a PPM": lambda: b"P6 # by a program\n1 # wide\n1 255\n\0\0\0",
    "bits": lambda: b"P4 2000 2000\n" + bytes(2000 * 250),
}


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
def test_pictures_are_read_whatever_they_carry(make: Callable[[], bytes]) -> None:
    data = make()
    check_pixels(data, 10**8)
    assert decode(data, short_side=30).pixels.size
