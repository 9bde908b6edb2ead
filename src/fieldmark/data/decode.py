"""`decode`: the bytes of an image file → upright sRGB pixels, or one ImageError. Every image takes this path.

What it settles, because Pillow alone does not:

- Only formats that photographs come in are opened (`formats.py`): Pillow also reads PostScript and other formats that
  are programs or rarities.
- What would take too much memory or time is refused by its header, before a single pixel is decoded (`limits.py`).
- EXIF orientation is applied.
- Transparency is laid on white, the paper that cut-outs of animals and products are shown on. (Dropping the alpha
  channel would show whatever colour lies hidden under it, often noise.)
- Greyscale of more than 8 bits is scaled to 8 by the number of bits that are in use (`greys.py`; Pillow's own `convert`
  clips at 255). 16 bits per *colour* are cut to the upper eight by Pillow itself.
- An embedded colour profile is applied.
- A file that ends too early is an error, never a picture with a grey half.

Only the first frame or page of a file is read.
"""

from __future__ import annotations

import functools
import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from fieldmark.core.errors import ImageError, TooLargeError, UnknownFormatError
from fieldmark.core.memory import lacks_memory
from fieldmark.data.formats import FORMATS, can_read, opened
from fieldmark.data.greys import bands, is_deep, to_8bit
from fieldmark.data.limits import MAX_BYTES, MAX_PIXELS, check_codec, check_memory, refuse_above
from fieldmark.data.shards import member_of, open_picture, read_member

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "VERSION",
    "Decoded",
    "Kept",
    "can_read",
    "check_pixels",
    "decode",
    "decode_image",
    "measure",
    "orientation",
    "read_bytes",
    "reduced",
]

VERSION: Final = 2
"""Raised whenever the same file would give other pixels: cached pixels of another version are not used."""

# Pillow warns of odd metadata and of large pictures; what matters here is an ImageError. The filter is set once and for
# the process because `warnings.catch_warnings` is not safe in threads: two that overlap can leave the wrong filter.
warnings.filterwarnings("ignore", module=r"PIL\.")

_ORIENTATIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PROFILE_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK"}


@final
@dataclass(eq=False)
class Kept:
    """What is kept of one picture between its sizes. It is for one thread at a time."""

    data: bytes = b""
    """Those of its file, if it was read."""
    scales: dict[tuple[int, int], tuple[Image.Image, int]] = field(default_factory=dict)
    """By the size that the codec gave: the picture in sRGB as it is stored, and the orientation that it still needs."""


class Decoded(NamedTuple):
    """The pixels of one image."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) sRGB, upright."""
    size: tuple[int, int]
    """(width, height) of the upright original, before any resizing: what boxes and key points refer to."""


def decode(
    source: Path | bytes,
    *,
    short_side: int | None = None,
    grey_bits: int | None = None,
    name: str = "",
    kept: Kept | None = None,
) -> Decoded:
    """Read an image file, or its bytes; `name` is what errors then call it.

    `short_side` bounds the shorter side of the result, which is never enlarged; the ratio of the sides is kept.
    `grey_bits` is the depth of 16-bit greyscale, None for each picture's own. The result is a pure function of the
    bytes and these two. Whoever wants one file in several sizes gives the same `kept` each time, an empty one at first:
    then it is read once, and decoded once at each scale that its codec has. Raises ImageError, whatever is wrong with
    the file.
    """
    assert short_side is None or short_side >= 1
    name = name or (str(source) if isinstance(source, Path) else "The image")
    data = (kept and kept.data) or (read_bytes(source) if isinstance(source, Path) else source)
    if not data:
        raise ImageError(f"{name} is empty (0 bytes)", "Copy or download it again, or remove it.")
    refuse_above(name, len(data) >> 20, MAX_BYTES >> 20, "MB")
    if kept:
        kept.data = data
    with _told_of_damage(name):
        image, preview = opened(io.BytesIO(data), name)
        coded, beside = (data, 0) if preview is None else (preview, len(data))
        with image:
            check_codec(image, coded, name)
            return _upright(image, coded, name, short_side, grey_bits, beside, kept)


def decode_image(
    image: Image.Image,
    name: str,
    *,
    short_side: int | None = None,
    grey_bits: int | None = None,
    kept: Kept | None = None,
) -> Decoded:
    """The same for a PIL image, which is left as it is. Of a photograph that was opened from a JPEG file the pixels can
    differ in their last digits, as files are decoded at a reduced scale. Raises ImageError."""
    with _told_of_damage(name):
        check_memory(image, b"", name)
        return _upright(image.copy(), b"", name, short_side, grey_bits, kept=kept)


def reduced(pixels: NDArray[np.uint8], *, short_side: int | None = None) -> Decoded:
    """The same for pixels (H, W, 3) that are upright sRGB already."""
    return _upright(Image.fromarray(pixels), b"", "The image", short_side, None)


@contextmanager
def _told_of_damage(name: str) -> Iterator[None]:
    """Whatever a codec raises, as one ImageError."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise UnknownFormatError(
            f"{name} is not an image of a known format, or its header is damaged",
            f"Convert it to one of the formats that Fieldmark reads: {known}.",
        ) from error
    except Image.DecompressionBombError as error:
        most = MAX_PIXELS // 10**6
        raise TooLargeError(
            f"{name} is too large: over {most} million pixels, but the limit is {most}", "Make it smaller."
        ) from error
    # Codecs meet damage with OSError, SyntaxError, ValueError, struct.error, EOFError, ZeroDivisionError, MemoryError,
    # OverflowError, TypeError, KeyError, IndexError and more: to the user they are all one thing, a damaged file.
    except Exception as error:
        if lacks_memory(error):
            raise ImageError(
                f"{name} cannot be decoded: memory does not suffice, or it is damaged",
                "End what else is running, or copy or download the picture again.",
            ) from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name} is damaged: {reason}", "Copy or download it again, or remove it.") from error


def orientation(path: Path) -> int:
    """EXIF orientation, 1 to 8, that `decode` applies; 1 where there is none, or the file cannot be read."""
    try:
        with open_picture(path) as file:
            head = file.read(2**16)
            if head.startswith(b"\xff\xd8") and b"Exif" not in head:  # most photographs in data sets, and soon known
                return 1
            file.seek(0)
            with opened(file, str(path)).image as image:
                return _orientation(image)
    except Exception:  # as `decode` meets damage
        return 1


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file, which may lie in a shard; ImageError where it is missing, no regular file, unreadable
    or too large. Raises DataError where a shard or an object store is at fault, and not this picture."""
    if (member := member_of(path)) is not None:
        return read_member(member)
    try:
        if not path.is_file():  # a pipe or a device would wait forever
            problem = "is not a file" if path.exists() else "does not exist"
            raise ImageError(f"{path} {problem}", "Check the path, and the folder that it is relative to.")
        refuse_above(str(path), path.stat().st_size >> 20, MAX_BYTES >> 20, "MB")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path} cannot be read: {reason}", "Check the permissions and the disk.") from error


def check_pixels(data: bytes, most: int, name: str = "The image") -> None:
    """Raise TooLargeError if the header of an image file announces more pixels than `most`, and ImageError if it cannot
    be read. No pixel is decoded."""
    with _told_of_damage(name), opened(io.BytesIO(data), name).image as image:
        refuse_above(name, -(-image.size[0] * image.size[1] // 10**6), most // 10**6, "million pixels")


def measure(path: Path) -> tuple[int, int] | None:
    """(width, height) of the file as it is stored, from its header; None where that cannot be read."""
    try:
        with open_picture(path) as file, opened(file, str(path)).image as image:
            return image.size
    except Exception:  # as above: codecs meet damage with anything
        return None


def _upright(
    image: Image.Image,
    data: bytes,
    name: str,
    short_side: int | None,
    grey_bits: int | None,
    beside: int = 0,
    kept: Kept | None = None,
) -> Decoded:
    """An image of ours that is open, and may be drafted and closed → pixels; `data` and `beside` as for the memory."""
    width, height = image.size
    scale = 1.0 if short_side is None else min(1.0, short_side / min(width, height))
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    if scale < 1.0:  # a JPEG can be decoded at 1/2, 1/4 or 1/8; twice the target is kept for the filter to work on
        image.draft(None, (2 * target[0], 2 * target[1]))
    check_memory(image, data, name, target=target, beside=beside)
    stored = image.size
    flat, turned = (kept and kept.scales.get(stored)) or _loaded(image, grey_bits)
    if kept:
        kept.scales[stored] = flat, turned
    if flat.size != target:
        flat = flat.resize(target, Image.Resampling.BICUBIC, reducing_gap=3.0)
    if turned in _ORIENTATIONS:
        flat = flat.transpose(_ORIENTATIONS[turned])
    return Decoded(np.array(flat), (height, width) if turned >= 5 else (width, height))


def _loaded(image: Image.Image, grey_bits: int | None) -> tuple[Image.Image, int]:
    """An image that is open → sRGB, still as it is stored, and its orientation."""
    image.load()
    turned = _orientation(image)
    flat = _to_srgb(image, grey_bits)
    if flat is not image:
        image.close()  # its pixels are not needed any more
    return flat, turned


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8, still to be applied (Pillow turns a TIFF while loading it and then drops the tag)."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # the parser raises anything; damaged metadata beside whole pixels only means: not turned
        return 1
    return value if value in _ORIENTATIONS else 1


def _to_srgb(image: Image.Image, grey_bits: int | None) -> Image.Image:
    """Any mode → RGB in the sRGB colour space, on white; the very same image if it is that already."""
    profile = image.info.get("icc_profile")
    if is_deep(image.mode):
        image = to_8bit(image, grey_bits)
    if image.mode == "LAB":
        profile = None  # Pillow's conversion goes to sRGB already
    profile = profile if isinstance(profile, bytes) else None
    if image.mode == "RGB" and not (profile or image.has_transparency_data):
        return image
    flat = Image.new("RGB", image.size)
    for top, band in bands(image):
        flat.paste(_band_to_srgb(band, profile), (0, top))
    return flat


def _band_to_srgb(band: Image.Image, profile: bytes | None) -> Image.Image:
    if band.has_transparency_data:
        band = _on_white(band)
    if band.mode not in _PROFILE_SPACES:
        band = band.convert("RGB")
    transform = _transform_to_srgb(profile, band.mode) if profile else None
    return band.convert("RGB") if transform is None else transform.apply(band)


def _on_white(image: Image.Image) -> Image.Image:
    coloured = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured).convert("RGB")


@functools.lru_cache(maxsize=8)  # a folder's photographs share a few profiles, and building a transform takes longer
def _transform_to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """None where there is nothing to do (sRGB) or nothing that can be done (damaged, of another colour space)."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != _PROFILE_SPACES[mode]:
            return None
        if "sRGB" in (source.profile.profile_description or ""):
            return None
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    # A profile that cannot be used leaves the colours as they are, which is what browsers do too. ImportError: Pillow
    # was built without colour management.
    except (ImageCms.PyCMSError, ImportError, OSError, TypeError, ValueError, struct.error):
        return None
