"""`opened`: the bytes of an image file → an open Pillow image, whatever camera or phone wrote it.

Pillow opens what is in `FORMATS`. Two kinds of files need more:

- HEIC, the format of iPhones, is read by the library pi-heif, an extra that is imported when the first such file is
  met.
- Camera raw files hold sensor data, which has no colours before somebody develops it. Cameras and converters store a
  developed preview beside it, as a JPEG. The largest one is taken if it is large enough. It is searched for in the
  bytes, because where it lies differs from maker to maker. Its orientation is its own or, if it has none, the file's.

What a file is follows from its content. Its name is only a promise: `can_read` says whether a file with this extension
is worth opening.
"""

from __future__ import annotations

import importlib.util
import io
import re
from typing import IO, Final, NamedTuple

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from fieldmark.core.errors import UnknownFormatError
from fieldmark.data.headers import check_header

__all__ = [
    "FORMATS",
    "HEIC_EXTENSIONS",
    "IMAGE_EXTENSIONS",
    "RAW_EXTENSIONS",
    "JpegHeader",
    "Opened",
    "can_read",
    "extension_of",
    "jpeg_header",
    "opened",
]

_ALLOWED = ("JPEG", "PNG", "WEBP", "AVIF", "TIFF", "BMP", "GIF", "PPM")

Image.init()  # now, since the plugins are otherwise loaded within the first decode, perhaps by several threads at once
FORMATS: Final = tuple(name for name in _ALLOWED if name in Image.OPEN)
"""Pillow's names of the formats that it opens: what photographs come in. It can be built without some, such as AVIF;
MPO, a JPEG followed by others, opens as JPEG."""

_EXTENSIONS: Final = {
    "JPEG": ("jpg", "jpeg", "jpe", "jfif", "mpo"),
    "PNG": ("png",),
    "WEBP": ("webp",),
    "AVIF": ("avif",),
    "TIFF": ("tif", "tiff"),
    "BMP": ("bmp",),
    "GIF": ("gif",),
    "PPM": ("ppm", "pgm", "pbm", "pnm"),
}
IMAGE_EXTENSIONS: Final = frozenset(extension for names in _EXTENSIONS.values() for extension in names)
"""Of the formats that Pillow opens."""
HEIC_EXTENSIONS: Final = frozenset({"heic", "heif", "hif"})
RAW_EXTENSIONS: Final = frozenset(
    "3fr arw cr2 cr3 dng nef nrw orf pef raf rw2 rwl sr2 srf srw".split()  # noqa: SIM905  (as a person would list them)
)
"""Of the raw files whose previews are found."""
_READ: Final = RAW_EXTENSIONS.union(*(_EXTENSIONS[name] for name in FORMATS))
"""Of what is read without a further library."""

_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs"})
_UNREAD = {
    b"8BPS": "Photoshop file",
    b"FOVb": "raw file of a Sigma camera",
    b"\0\0\0\x0cjP  ": "JPEG 2000 picture",
    b"\xffO\xffQ": "JPEG 2000 picture",
    b"\0\0\0\x0cJXL ": "JPEG XL picture",
    b"\xff\x0a": "JPEG XL picture",
}
"""What people also have: such a file is refused by its name, not as damaged."""

_ORIENTATION = 0x0112
_SUBFILE_TYPE, _COMPRESSION, _PHOTOMETRIC, _SUB_DIRECTORIES, _DNG_VERSION = 254, 259, 262, 330, 50706
_SENSOR = {32803, 34892}
"""Photometric interpretations: a mosaic of colour filters, and linear sensor data."""
_MAKERS_OWN = {32767, 32770, 34713, 65535}
"""Compressions of sensor data by Sony, Samsung, Nikon and Pentax."""

_LEAST_PREVIEW = 300
"""Shorter side in pixels. Thumbnails of 160 × 120 pixels are in most raw files and show no details."""
_MOST_STARTS = 4096
"""JPEGs that are looked at in one raw file. The tiles of a large DNG are some hundreds of lossless ones."""
_MOST_SEGMENTS = 256
_LARGEST_PREVIEW = 2**27
"""In bytes. It is copied out of its file, and both take memory; what is longer is cut short, and so an error."""
_JPEG_START = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_FILL = re.compile(rb"\xff{0,256}(?=\xff)")
"""What may stand before a marker."""
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD8)}
"""Markers that are nothing but markers."""
_NOT_IN_HEADER = {0x00, 0xD8, 0xD9, 0xFF}
"""What follows 0xFF only where there is no marker, where a picture starts or ends, or after too much fill."""


def can_read(extension: str) -> bool:
    """Whether there is a decoder for files with this extension ("jpg", in any case, with or without its dot)."""
    wanted = extension.lower().removeprefix(".")
    if wanted in HEIC_EXTENSIONS:
        return importlib.util.find_spec("pi_heif") is not None
    return wanted in _READ


def extension_of(data: bytes) -> str:
    """The usual extension ("jpg") of the format that an image file has, whatever it is called. Raises as `opened`."""
    found = opened(io.BytesIO(data), "The image")
    with found.image as image:
        if found.preview is not None:
            return "dng"
        return "heic" if image.format == "HEIF" else _EXTENSIONS.get(image.format or "", ("jpg",))[0]


class Opened(NamedTuple):
    """An image file that is open."""

    image: Image.Image
    preview: bytes | None = None
    """The JPEG that is decoded in place of a camera raw file."""


def opened(file: IO[bytes], name: str) -> Opened:
    """Open an image file by its content. Of most formats only the header is read, the rest when it is needed.

    Raises UnknownFormatError for a format that is not read (`name` is what the message calls the file), TooLargeError
    for a header that would take long, and whatever a decoder raises for a damaged one.
    """
    check_header(file, name)
    head = file.read(64)
    file.seek(0)
    if _is_heic(head):
        return Opened(_heic(file, name))
    if _is_raw(head, file):
        file.seek(0)
        return _preview(file.read(), name)
    for start, what in _UNREAD.items():
        if head.startswith(start):
            raise UnknownFormatError(f"{name} is a {what}, which Fieldmark does not read", "Convert it to JPEG or PNG.")
    file.seek(0)
    return Opened(Image.open(file, formats=FORMATS))


# ---- HEIC


def _is_heic(head: bytes) -> bool:
    if head[4:8] != b"ftyp":
        return False
    others = {head[at : at + 4] for at in range(16, min(len(head), int.from_bytes(head[:4])), 4)}
    return head[8:12] in _HEIC_BRANDS or (head[8:12] in (b"mif1", b"msf1") and bool(others & _HEIC_BRANDS))


def _heic(file: IO[bytes], name: str) -> Image.Image:
    try:
        from pi_heif import HeifImageFile
    except ImportError:
        raise UnknownFormatError(
            f"{name} is a HEIC picture, and what reads such pictures is not installed",
            "Install it: pip install 'fieldmark[heic]'. Or convert the picture to JPEG.",
        ) from None
    image: Image.Image = HeifImageFile(file)  # upright already: the library turns it
    return image


# ---- camera raw


def _is_raw(head: bytes, file: IO[bytes]) -> bool:
    """Most raw files are TIFF files. What tells them from pictures is their first directory: it describes sensor data,
    or a thumbnail of what follows in directories below it."""
    by_magic = (
        head.startswith((b"FUJIFILMCCD-RAW", b"IIRO", b"IIRS", b"MMOR", b"IIU\0"))  # Fujifilm; Olympus; Panasonic
        or head[4:12] == b"ftypcrx "  # Canon, since 2018
        or (head[:4] == b"II*\0" and head[8:10] == b"CR")  # Canon, until then
    )
    if by_magic or head[:4] not in (b"II*\0", b"MM\0*"):
        return by_magic
    try:
        tags = _first_directory(file)
        sensor = tags.get(_PHOTOMETRIC) in _SENSOR or tags.get(_COMPRESSION) in _MAKERS_OWN
        thumbnail = bool(tags.get(_SUBFILE_TYPE, 0) & 1) and _SUB_DIRECTORIES in tags
        return sensor or thumbnail or _DNG_VERSION in tags
    except Exception:  # the parser raises anything; what is damaged is left to Pillow, which says so
        return False


def _first_directory(file: IO[bytes]) -> ImageFileDirectory_v2:
    """Of a TIFF file, or of one that differs in its magic number only."""
    file.seek(0)
    order, _, first = file.read(2), file.read(2), file.read(4)
    directory = ImageFileDirectory_v2(order + (b"*\0" if order == b"II" else b"\0*") + first)
    file.seek(directory.next)
    directory.load(file)
    return directory


def _preview(data: bytes, name: str) -> Opened:
    frame = max(_jpegs(data), key=lambda jpeg: jpeg.width * jpeg.height, default=None)
    if frame is None or min(frame.width, frame.height) < _LEAST_PREVIEW:
        found = f"only a preview of {frame.width} × {frame.height} pixels" if frame else "no preview"
        raise UnknownFormatError(
            f"{name} is a camera raw file with {found} in it, and Fieldmark does not develop raw files",
            "Convert it to JPEG or TIFF with the program that came with the camera.",
        )
    preview = data[frame.start : min(frame.end(data), frame.start + _LARGEST_PREVIEW)]
    file = io.BytesIO(preview)
    check_header(file, name)
    image = Image.open(file, formats=("JPEG",))
    exif = image.getexif()
    if _ORIENTATION not in exif:
        exif[_ORIENTATION] = _orientation_of_raw(data)
    return Opened(image, preview)


def _orientation_of_raw(data: bytes) -> int:
    if data[4:12] == b"ftypcrx ":
        start = data.find(b"CMT1", 0, 2**16) + 4
        data = data[start : start + 2**16] if start >= 4 else b""
    return int(_first_directory(io.BytesIO(data)).get(_ORIENTATION, 1)) if data[:2] in (b"II", b"MM") else 1


class JpegHeader(NamedTuple):
    """What a JPEG says before its first scan."""

    start: int
    scan: int
    """Where its first scan starts."""
    width: int
    height: int
    sampling: tuple[tuple[int, int], ...]
    """How many blocks across and down each component has in a unit of coded data."""
    several_scans: bool
    """Whether the decoder must keep all coefficients until it has read the last scan."""

    @property
    def components(self) -> int:
        return len(self.sampling)

    def end(self, data: bytes) -> int:
        """Behind its end marker, which cannot stand in coded data; the end of the data where there is none."""
        at = data.find(_JPEG_END, self.scan)
        return len(data) if at < 0 else at + 2


def _jpegs(data: bytes) -> list[JpegHeader]:
    """The JPEGs in `data` that Pillow can decode, without those inside the headers of others."""
    found, at = [], 0
    for _ in range(_MOST_STARTS):
        at = data.find(_JPEG_START, at)
        if at < 0:
            break
        frame = jpeg_header(data, at)
        if frame is not None:
            found.append(frame)
        at = at + 3 if frame is None else frame.scan
    return found


def jpeg_header(data: bytes, start: int = 0) -> JpegHeader | None:
    """The header of the JPEG that starts at `start`; None where there is none that Pillow can decode."""
    if data[start : start + 2] != b"\xff\xd8":
        return None
    at, shape = start + 2, None
    for _ in range(_MOST_SEGMENTS):
        if fill := _FILL.match(data, at):
            at = fill.end()
        if data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] and data[at + 1] in _WITHOUT_LENGTH:
            at += 2
            continue
        marker, length = data[at : at + 2], int.from_bytes(data[at + 2 : at + 4])
        if len(marker) < 2 or marker[0] != 0xFF or marker[1] in _NOT_IN_HEADER or length < 2:
            return None
        if marker[1] in (0xC0, 0xC1, 0xC2) and data[at + 4 : at + 5] == b"\x08":  # sequential or progressive, 8 bits
            height, width = (int.from_bytes(data[at + i : at + i + 2]) for i in (5, 7))
            factors = data[at + 11 : at + 2 + length : 3]
            shape = (width, height, tuple((one >> 4, one & 15) for one in factors), marker[1] == 0xC2)
        if marker[1] == 0xDA:
            if shape is None or not (shape[0] and shape[1] and shape[2] and all(h and v for h, v in shape[2])):
                return None
            width, height, sampling, progressive = shape
            return JpegHeader(
                start, at, width, height, sampling, progressive or data[at + 4 : at + 5] < bytes([len(sampling)])
            )
        at += 2 + length
    return None
