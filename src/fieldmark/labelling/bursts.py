"""Frames of one burst: photographs of a folder that one camera took within two seconds of each other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from fieldmark.core.reading import open_regular
from fieldmark.data.decode import MAX_BYTES
from fieldmark.data.formats import opened

__all__ = ["Taken", "bursts", "taken"]

_GAP = 2.0
"""Seconds from one frame to the next."""
_DETAILS, _WHEN, _PARTS, _MAKE, _MODEL = 0x8769, 0x9003, 0x9291, 0x010F, 0x0110


class Taken(NamedTuple):
    """When a photograph was taken, and by which camera."""

    seconds: float
    camera: str


def taken(file: Path) -> Taken | None:
    """What its EXIF says; None where it says nothing, or cannot be read."""
    try:
        with open_regular(file, most=MAX_BYTES) as data, opened(data, str(file)).image as image:
            exif = image.getexif()
            details = exif.get_ifd(_DETAILS)
        when = datetime.strptime(str(details[_WHEN]).strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
        parts = str(details.get(_PARTS, "")).strip("\0 ")
        fraction = float(f"0.{parts}") if parts.isdecimal() else 0.0
        return Taken(when.timestamp() + fraction, f"{exif.get(_MAKE)} {exif.get(_MODEL)}")
    except Exception:  # whatever is wrong with it, decoding will say so
        return None


def bursts(files: Sequence[Path], times: Sequence[Taken | None]) -> list[str]:
    """The name of each file's burst, which frames of one burst share; "" for a photograph on its own."""
    pairs = enumerate(zip(files, times, strict=True))
    known = [(os.path.dirname(file), one.camera, one.seconds, at) for at, (file, one) in pairs if one]
    named, found = [""] * len(files), sorted(known)
    for before, after in pairwise(found):
        if before[:2] == after[:2] and after[2] - before[2] <= _GAP:
            named[before[3]] = named[before[3]] or str(files[before[3]])
            named[after[3]] = named[before[3]]
    return named
