"""`decode` and a thousand damaged and odd images: pixels or one ImageError, and never a hang."""

from __future__ import annotations

import itertools
import os
import random
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.core.errors import ImageError
from fieldmark.data.decode import FORMATS, decode
from support.drawn import encode, picture, swapped_profile


class Hang(BaseException):
    """Not an Exception: `decode` must not take it for damage."""


def answer(data: bytes) -> bool:
    """Whether the image could be read; anything but pixels or one ImageError fails the test."""
    before = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(Hang()))
    signal.alarm(20)
    try:
        with warnings.catch_warnings(record=True):
            pixels, size = decode(data, short_side=64)
    except ImageError:
        return False
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert min(size) >= 1
    assert min(pixels.shape[:2]) == min(64, *size)
    return True


MODES = ["1", "L", "P", "I", "F", "LA", "La", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB"]
MODES += ["I;16", "I;16B", "I;16L"]


def every_mode_and_format() -> Iterator[tuple[str, str, bytes]]:
    Image.init()
    for mode, format in itertools.product(MODES, sorted(Image.SAVE)):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of formats that Pillow is about to drop
                yield mode, format, encode(Image.new(mode, (33, 21), 0), format)
        except Exception:  # whatever Pillow says when it cannot write this combination
            continue


def damaged(data: bytes, random: random.Random) -> bytes:
    """Bytes flipped, cut, removed, repeated or exchanged."""
    bad = bytearray(data)
    kind = random.randrange(5)
    place = random.randrange(len(bad)) if random.random() < 0.5 else random.randrange(min(len(bad), 200))
    length = random.choice([1, 2, 4, 16, 100])
    if kind == 0:
        for _ in range(random.choice([1, 3, 20])):
            bad[random.randrange(len(bad))] = random.randrange(256)
    elif kind == 1:
        del bad[place:]
    elif kind == 2:
        del bad[place : place + length]
    elif kind == 3:
        bad[place:place] = bad[place : place + length] * random.choice([1, 50])
    else:
        bad[place : place + length] = random.choice([b"\0", b"\xff"]) * length
    return bytes(bad)


def sources() -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker"
    icc = swapped_profile()
    photo, small = picture(0, 150, 110), Image.fromarray(picture(0, 60, 40))
    found = [
        encode(photo, "JPEG", exif=exif.tobytes(), icc_profile=icc),
        encode(photo, "JPEG", progressive=True),
        encode(Image.fromarray(photo).convert("CMYK"), "JPEG"),
        encode(photo, "MPO", save_all=True, append_images=[small]),
        encode(photo, "PNG", exif=exif.tobytes(), icc_profile=icc),
        encode(small.convert("P"), "PNG", transparency=bytes(range(100))),
        encode(small.convert("RGBA"), "WEBP", lossless=True),
        encode(photo, "WEBP", exif=exif.tobytes()),
        encode(small, "GIF", save_all=True, append_images=[small.rotate(90)]),
        encode(small, "BMP"),
        encode(small.convert("P"), "BMP"),
        encode(small, "PPM"),
        encode(small, "TIFF", exif=exif.tobytes()),
    ]
    found += [encode(small, "TIFF", compression=name) for name in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits")]
    found += [encode(small.convert("1"), "TIFF", compression="group4")]
    return found + ([encode(small, "AVIF")] if "AVIF" in FORMATS else [])


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="hangs are cut short by SIGALRM")
def test_a_thousand_damaged_images() -> None:
    generator = random.Random(0)
    whole = sources()
    assert all(answer(data) for data in whole)
    read = sum(answer(damaged(whole[i % len(whole)], generator)) for i in range(1000))
    assert 100 < read < 900  # else the damage was too gentle or too rude to show anything


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="hangs are cut short by SIGALRM")
def test_every_mode_and_format_that_pillow_writes() -> None:
    unread = {}
    for mode, format, data in every_mode_and_format():
        if not answer(data):
            unread.setdefault(format, []).append(mode)
    assert not set(unread) & {*FORMATS, "MPO"}, unread  # what is not allowed is refused, all the rest is read


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="hangs are cut short by SIGALRM")
@pytest.mark.skipif("FIELDMARK_DATA" not in os.environ, reason="FIELDMARK_DATA does not name a folder of photographs")
def test_a_thousand_damaged_photographs() -> None:
    generator = random.Random(1)
    files = sorted(itertools.islice(Path(os.environ["FIELDMARK_DATA"]).rglob("*.jpg"), 2000))
    for file in generator.sample(files, 100):
        whole = file.read_bytes()
        assert answer(whole), file
        for _ in range(10):
            answer(damaged(whole, generator))
