"""`decode`: the bytes of an image file → upright sRGB pixels, or one ImageError. Every image takes this path.

What it settles, because Pillow alone does not:

- Only formats that photographs come in are opened (`formats.py`): Pillow also reads PostScript and other formats that
  are programs or rarities.
- The size is read from the header and refused above `MAX_PIXELS` before a single pixel is decoded.
- EXIF orientation is applied.
- Transparency is laid on white, the paper that cut-outs of animals and products are shown on. (Dropping the alpha
  channel would show whatever colour lies hidden under it, often noise.)
- 16-bit greyscale is divided by 257 (Pillow's own `convert` clips it at 255). For 32-bit integers and floats no
  white is agreed on: white is the smallest of 1, 255 and 65,535 that no value exceeds; where values are negative
  or larger still, the range from the smallest to the largest is stretched. 16 bits per *colour* are cut to the upper
  eight by Pillow itself.
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
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, UnidentifiedImageError

from fieldmark.core.errors import ImageError
from fieldmark.data.formats import FORMATS, can_read, opened

__all__ = [
    "FORMATS",
    "MAX_BYTES",
    "MAX_PIXELS",
    "VERSION",
    "Decoded",
    "can_read",
    "decode",
    "decode_image",
    "measure",
    "orientation",
    "read_bytes",
    "reduced",
]

VERSION: Final = 1
"""Raised whenever the same file would give other pixels: cached pixels of another version are not used."""

MAX_PIXELS: Final = 178_956_970
"""Where Pillow refuses by itself: half a gigabyte of RGB. Cameras end near 150 million."""

MAX_BYTES: Final = 2**29
"""An uncompressed picture of MAX_PIXELS just fits."""

MAX_SCANS: Final = 256
"""A progressive JPEG has about ten scans. Tens of thousands of empty ones fit in 1 MB and take hours to decode."""

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
_WHITES = (1.0, 255.0, 65535.0)


class Decoded(NamedTuple):
    """The pixels of one image."""

    pixels: NDArray[np.uint8]
    """(H, W, 3) sRGB, upright."""
    size: tuple[int, int]
    """(width, height) of the upright original, before any resizing: what boxes and key points refer to."""


def decode(source: Path | bytes, *, short_side: int | None = None, name: str = "") -> Decoded:
    """Read an image file, or its bytes; `name` is what errors then call it.

    `short_side` bounds the shorter side of the result, which is never enlarged; the ratio of the sides is kept. The
    result is a pure function of the bytes and `short_side`. Raises ImageError, whatever is wrong with the file.
    """
    assert short_side is None or short_side >= 1
    name = name or (str(source) if isinstance(source, Path) else "The image")
    data = read_bytes(source) if isinstance(source, Path) else source
    if not data:
        raise ImageError(f"{name} is empty (0 bytes)", "Copy or download it again, or remove it.")
    _refuse_above(name, len(data) >> 20, MAX_BYTES >> 20, "MB")
    with _told_of_damage(name):
        return _decode(name, data, short_side)


def decode_image(image: Image.Image, name: str, *, short_side: int | None = None) -> Decoded:
    """The same for a PIL image, which is left as it is. Of a photograph that was opened from a JPEG file the pixels can
    differ in their last digits, as files are decoded at a reduced scale. Raises ImageError."""
    with _told_of_damage(name):
        width, height = image.size
        _refuse_above(name, width * height // 10**6, MAX_PIXELS // 10**6, "million pixels")
        return _upright(image.copy(), short_side)


def reduced(pixels: NDArray[np.uint8], *, short_side: int | None = None) -> Decoded:
    """The same for pixels (H, W, 3) that are upright sRGB already."""
    return _upright(Image.fromarray(pixels), short_side)


@contextmanager
def _told_of_damage(name: str) -> Iterator[None]:
    """Whatever a codec raises, as one ImageError."""
    try:
        yield
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        known = ", ".join(FORMATS)
        raise ImageError(
            f"{name} is not an image of a known format, or its header is damaged",
            f"Convert it to one of the formats that Fieldmark reads: {known}.",
        ) from error
    except Image.DecompressionBombError as error:
        raise _too_large(name, f"over {MAX_PIXELS // 10**6}", MAX_PIXELS // 10**6, "million pixels") from error
    # Codecs meet damage with OSError, SyntaxError, ValueError, struct.error, EOFError, ZeroDivisionError, MemoryError,
    # OverflowError, TypeError, KeyError, IndexError and more: to the user they are all one thing, a damaged file.
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ImageError(f"{name} is damaged: {reason}", "Copy or download it again, or remove it.") from error


def orientation(path: Path) -> int:
    """EXIF orientation, 1 to 8, that `decode` applies; 1 where there is none, or the file cannot be read."""
    try:
        with path.open("rb") as file:
            head = file.read(2**16)
            if head.startswith(b"\xff\xd8") and b"Exif" not in head:  # most photographs in data sets, and soon known
                return 1
            file.seek(0)
            with opened(file, str(path)) as image:
                return _orientation(image)
    except Exception:  # as `decode` meets damage
        return 1


def read_bytes(path: Path) -> bytes:
    """The bytes of an image file; ImageError where it is missing, no regular file, unreadable or too large."""
    try:
        if not path.is_file():  # a pipe or a device would wait forever
            problem = "is not a file" if path.exists() else "does not exist"
            raise ImageError(f"{path} {problem}", "Check the path, and the folder that it is relative to.")
        _refuse_above(str(path), path.stat().st_size >> 20, MAX_BYTES >> 20, "MB")
        return path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise ImageError(f"{path} cannot be read: {reason}", "Check the permissions and the disk.") from error


def measure(path: Path) -> tuple[int, int] | None:
    """(width, height) of the file as it is stored, from its header; None where that cannot be read."""
    try:
        with path.open("rb") as file, opened(file, str(path)) as image:
            return image.size
    except Exception:  # as above: codecs meet damage with anything
        return None


def _too_large(name: str, amount: object, bound: int, unit: str) -> ImageError:
    return ImageError(f"{name} is too large: {amount} {unit}, but the limit is {bound}", "Make it smaller.")


def _refuse_above(name: str, amount: int, bound: int, unit: str) -> None:
    if amount > bound:
        raise _too_large(name, amount, bound, unit)


def _decode(name: str, data: bytes, short_side: int | None) -> Decoded:
    with opened(io.BytesIO(data), name) as image:
        width, height = image.size
        _refuse_above(name, width * height // 10**6, MAX_PIXELS // 10**6, "million pixels")
        if image.format in ("JPEG", "MPO"):  # in coded data 0xFF is always followed by 0, so these are the scans
            _refuse_above(name, data.count(b"\xff\xda"), MAX_SCANS, "JPEG scans")
        return _upright(image, short_side)


def _upright(image: Image.Image, short_side: int | None) -> Decoded:
    """An image that is open, and may be drafted → pixels."""
    width, height = image.size
    scale = 1.0 if short_side is None else min(1.0, short_side / min(width, height))
    target = (max(1, round(width * scale)), max(1, round(height * scale)))
    if scale < 1.0:  # a JPEG can be decoded at 1/2, 1/4 or 1/8; twice the target is kept for the filter to work on
        image.draft(None, (2 * target[0], 2 * target[1]))
    image.load()
    turned = _orientation(image)
    flat = _to_srgb(image)
    if flat.size != target:
        flat = flat.resize(target, Image.Resampling.BICUBIC, reducing_gap=3.0)
    if turned in _ORIENTATIONS:
        flat = flat.transpose(_ORIENTATIONS[turned])
    return Decoded(np.array(flat), (height, width) if turned >= 5 else (width, height))


def _orientation(image: Image.Image) -> int:
    """EXIF orientation 1 to 8, still to be applied (Pillow turns a TIFF while loading it and then drops the tag)."""
    try:
        value = image.getexif().get(0x0112, 1)
    except Exception:  # the parser raises anything; damaged metadata beside whole pixels only means: not turned
        return 1
    return value if value in _ORIENTATIONS else 1


def _to_srgb(image: Image.Image) -> Image.Image:
    """Any mode → RGB in the sRGB colour space, on white."""
    profile = image.info.get("icc_profile")
    if image.mode == "F" or image.mode.startswith("I"):
        image = _to_8bit(image)
    elif image.has_transparency_data:
        image = _on_white(image)
    if image.mode == "LAB":
        profile = None  # Pillow's conversion goes to sRGB already
    if image.mode not in _PROFILE_SPACES:
        image = image.convert("RGB")
    transform = _transform_to_srgb(profile, image.mode) if isinstance(profile, bytes) else None
    return image.convert("RGB") if transform is None else transform.apply(image)


def _on_white(image: Image.Image) -> Image.Image:
    coloured = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), coloured).convert("RGB")


def _to_8bit(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float greyscale → L, by the rule at the top of this module."""
    values = np.nan_to_num(np.asarray(image, np.float32), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = _black_and_white(image, values)
    grey = np.rint((values - low) * (255 / max(high - low, 1e-30))).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[values == transparent] = 255
    return Image.fromarray(grey)


def _black_and_white(image: Image.Image, values: NDArray[np.float32]) -> tuple[float, float]:
    if image.mode.startswith("I;16") or (image.format == "PPM" and image.mode == "I"):  # Pillow scales PPM to 16 bits
        return 0.0, 65535.0
    low, high = float(values.min()), float(values.max())
    white = next((white for white in _WHITES if low >= 0 and high <= white), None)
    return (low, high) if white is None else (0.0, white)


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
