"""Frames of one burst: photographs of a folder that one camera took within seconds of each other.

When that was is what the camera wrote into the file. The time of the file itself is that of its last copy.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import FieldmarkError
from fieldmark.data.formats import opened
from fieldmark.data.shards import folder_of, open_picture

__all__ = ["OFFSET", "Taken", "bursts", "check_grouping", "grouped", "taken"]

_GAP = 2.0
"""Seconds from one frame to the next."""
_DETAILS, _WHEN, _PARTS, _ZONE, _MAKE, _MODEL = 0x8769, 0x9003, 0x9291, 0x9011, 0x010F, 0x0110
OFFSET: Final = re.compile(r"[+-](?:[01]\d|2[0-3]):[0-5]\d", re.ASCII)
"""How far a clock is from UTC."""


class Taken(NamedTuple):
    """When a photograph was taken, and by which camera."""

    seconds: float
    """By the camera's clock, as if it showed UTC."""
    camera: str
    zone: str = ""
    """How far the clock is from UTC, such as "+02:00"; "" where the camera does not say."""


def taken(file: Path) -> Taken | None:
    """What its EXIF says; None where it says nothing, or cannot be read."""
    try:
        with open_picture(file) as data, opened(data, str(file)).image as image:
            exif = image.getexif()
            details = exif.get_ifd(_DETAILS)
        when = datetime.strptime(str(details[_WHEN]).strip("\0 "), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
        parts = str(details.get(_PARTS, "")).strip("\0 ")
        fraction = float(f"0.{parts}") if parts.isdecimal() else 0.0
        zone = str(details.get(_ZONE, "")).strip("\0 ")
        camera = f"{exif.get(_MAKE)} {exif.get(_MODEL)}"
        return Taken(when.timestamp() + fraction, camera, zone if OFFSET.fullmatch(zone) else "")
    except Exception:  # whatever is wrong with it, decoding will say so
        return None


def bursts(files: Sequence[Path | str], times: Sequence[Taken | None], gap: float = _GAP) -> list[str]:
    """The name of each file's burst, which frames of one burst share; "" for a photograph on its own.

    From one frame to the next, at most `gap` seconds pass.
    """
    pairs = enumerate(zip(map(str, files), times, strict=True))
    known = [(folder_of(file), one.camera, one.seconds, at) for at, (file, one) in pairs if one]
    named, found = [""] * len(files), sorted(known)
    for before, after in pairwise(found):
        if before[:2] == after[:2] and after[2] - before[2] <= gap:
            named[before[3]] = named[before[3]] or str(files[before[3]])
            named[after[3]] = named[before[3]]
    return named


def check_grouping(folders: bool, gap: float | None) -> None:
    """Raise FieldmarkError if photographs are to be grouped by folder and by time."""
    if folders and gap is not None:
        raise FieldmarkError(
            "--bursts and --gap contradict each other",
            "--bursts takes each folder for one burst, and --gap divides it by time: give one of them.",
        )


def grouped(
    files: Sequence[str], times: Sequence[Taken | None] | None = None, gap: float | None = None
) -> tuple[list[str], NDArray[np.int64]]:
    """The names of groups of photographs of one thing, and the group (N,) of each file.

    A group is a folder or, with a `gap`, a burst, which is called by its first and last frames; a photograph on its own
    is a group, too.
    """
    if gap is None:
        folders, groups = np.unique([folder_of(file) for file in files], return_inverse=True)
        return folders.tolist(), groups.astype(np.int64)
    found: dict[str | int, list[int]] = {}
    for at, burst in enumerate(bursts(files, times or [], gap)):
        found.setdefault(burst or at, []).append(at)
    groups = np.zeros(len(files), np.int64)
    names = []
    for number, (name, rows) in enumerate(found.items()):
        groups[rows] = number
        if isinstance(name, int):
            names.append(files[name])
        else:
            last = max((times[row].seconds, row) for row in rows)[1]  # type: ignore[index, union-attr]  # a burst has times
            names.append(f"{name} – {os.path.basename(files[last])}")
    return names, groups
