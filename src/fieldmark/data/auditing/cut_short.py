"""JPEGs that were cut short and closed with an end marker, which decoders take for whole.

Some programs close a file that they did not receive to its end. No decoder complains: it fills what is missing with
grey. A picture may also have a grey band of its own, such as the padding of another program. What tells the two apart
is what the last bytes of coded data are about. A band of its own is coded, with two bits for each 8 × 8 pixels at
least; if that many bytes are taken from the end, only the band suffers. In a file that was cut short they carry the
last of the picture, which then changes. Progressive JPEGs are left out: their last bytes refine the whole picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from fieldmark.core.errors import ImageError
from fieldmark.core.wording import counted
from fieldmark.data.auditing.findings import Case, Finding
from fieldmark.data.cache import PixelStore
from fieldmark.data.decode import read_bytes
from fieldmark.data.formats import JpegHeader, jpeg_header

__all__ = ["cut_short", "is_cut_short"]

_GREY = 128
"""What decoders put where there is no data."""
_DIM, _BRIGHT, _NEUTRAL = 90, 166, 4
"""What `_GREY` may become by a colour profile."""
_LEAST_BITS = 2
"""Of a block: one says that its brightness is that of the one before, one that there is nothing else."""
_LEAST_BYTES = 8
"""Fewer need not change the picture."""


def cut_short(store: PixelStore) -> Iterable[Finding]:
    """The finding on files that end too early although they have an end marker."""
    rows = [int(row) for row in store.readable[_has_grey_edge(store.fingerprints.thumbnails)]]
    found = [row for row in rows if _file_is_cut_short(store, row)]
    if found:
        yield Finding(
            "cut-short",
            "notice",
            f"{counted(len(found), 'image')} cut short",
            "The file ends before the picture does, but with an end marker, so no program complains. What is missing "
            "is shown in grey, and Fieldmark learns and answers from that. Copy or download such images again, or "
            "remove them.",
            tuple(Case((row,)) for row in found),
        )


def is_cut_short(data: bytes) -> bool:
    """Whether the coded data of a JPEG, other than a progressive one, ends before the picture does."""
    header = jpeg_header(data)
    if header is None or header.several_scans or header.components not in (1, 3):
        return False
    end = header.end(data) - 2
    whole = _eighth(data[:end])
    flat = (whole == _GREY).all(axis=(1, 2))
    rows = 0 if flat.all() else int(flat[::-1].argmin())
    spare = _coded(header, rows, *whole.shape[:2])
    if spare < _LEAST_BYTES:
        return False
    shorter = _eighth(data[: max(header.scan, end - spare)].rstrip(b"\xff"))
    return bool((shorter[:-rows] != whole[:-rows]).any())


def _coded(header: JpegHeader, rows: int, height: int, width: int) -> int:
    """The least number of bytes that code the last rows of blocks, of so many down and across."""
    sampling = header.sampling if header.components > 1 else ((1, 1),)  # one component is coded block by block
    across, down = (max(factors) for factors in zip(*sampling, strict=True))
    units = (-(-height // down) - -(-(height - rows) // down)) * -(-width // across)
    return _LEAST_BITS * units * sum(h * v for h, v in sampling) // 8


def _eighth(data: bytes) -> NDArray[np.uint8]:
    """(⌈H/8⌉, ⌈W/8⌉, 3) one pixel for each block of 8 × 8 of a JPEG that is closed here."""
    with Image.open(io.BytesIO(data + b"\xff\xd9"), formats=("JPEG",)) as image:
        image.draft(None, (1, 1))
        return np.asarray(image.convert("RGB"))


def _has_grey_edge(thumbnails: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """(R,) whether an edge of each thumbnail (R, S, S, 3) is all neutral grey; which one depends on the orientation."""
    edges = np.stack([thumbnails[:, 0], thumbnails[:, -1], thumbnails[:, :, 0], thumbnails[:, :, -1]]).astype(int)
    even = np.ptp(edges, axis=(2, 3)) <= _NEUTRAL
    mean = edges.mean(axis=(2, 3))
    return np.asarray((even & (mean >= _DIM) & (mean <= _BRIGHT)).any(axis=0))


def _file_is_cut_short(store: PixelStore, row: int) -> bool:
    try:
        return is_cut_short(read_bytes(store.catalog.file(row)))
    except (ImageError, OSError, ValueError):  # it could be read before; whatever is the matter, it is not this
        return False
