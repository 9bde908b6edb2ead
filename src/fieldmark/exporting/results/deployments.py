"""The table of deployments: which camera stood where, and when. Its columns are those of Camtrap DP 1.0.2.

https://camtrap-dp.tdwg.org/data/#deployments
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from fieldmark.core.errors import DataError
from fieldmark.data.bursts import Taken
from fieldmark.data.readers.sheet import Sheet, read_sheet

__all__ = ["Deployment", "read_deployments"]


class _Number(NamedTuple):
    """A number as the standard writes it, within limits."""

    least: float
    most: float = math.inf
    whole: bool = False

    def allows(self, text: str) -> bool:
        pattern = r"[-+]?\d+" if self.whole else r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?"
        return re.fullmatch(pattern, text, re.ASCII) is not None and self.least <= float(text) <= self.most

    def __str__(self) -> str:
        limits = f"of at least {self.least}" if self.most == math.inf else f"from {self.least} to {self.most}"
        return f"a {'whole ' if self.whole else ''}number {limits}"


class _OneOf(NamedTuple):
    """One of a few words."""

    words: tuple[str, ...]
    others: tuple[str, ...] = ()
    """Further spellings, which are understood and not named."""

    def allows(self, text: str) -> bool:
        return text in self.words or text in self.others

    def __str__(self) -> str:
        return f"{', '.join(self.words[:-1])} or {self.words[-1]}"


_YES_OR_NO = _OneOf(("true", "false"), ("True", "TRUE", "1", "False", "FALSE", "0"))
_FEATURES = _OneOf(
    (
        *("roadPaved", "roadDirt", "trailHiking", "trailGame", "roadUnderpass", "roadOverpass", "roadBridge"),
        *("culvert", "burrow", "nestSite", "carcass", "waterSource", "fruitingTree"),
    )
)
_REQUIRED = ("deploymentID", "latitude", "longitude", "deploymentStart", "deploymentEnd")
_ALLOWED: Mapping[str, _Number | _OneOf] = {
    "latitude": _Number(-90, 90),
    "longitude": _Number(-180, 180),
    "coordinateUncertainty": _Number(1, whole=True),
    "cameraDelay": _Number(0, whole=True),
    "cameraHeight": _Number(0),
    "cameraDepth": _Number(0),
    "cameraTilt": _Number(-90, 90, whole=True),
    "cameraHeading": _Number(0, 360, whole=True),
    "detectionDistance": _Number(0),
    "timestampIssues": _YES_OR_NO,
    "baitUse": _YES_OR_NO,
    "featureType": _FEATURES,
}
"""What stands in a column, unless it is free text."""


@dataclass(frozen=True)
class Deployment:
    """A camera at a place for a time."""

    values: Mapping[str, str]
    """Its row of the table, by column."""
    start: datetime
    end: datetime

    @property
    def id(self) -> str:
        """Its name."""
        return self.values["deploymentID"]

    def time_of(self, taken: Taken) -> datetime:
        """When a picture was taken: by the camera's own zone or, if it has none, by that in which the camera began."""
        zone = _zone(taken.zone) if taken.zone else self.start.tzinfo
        return datetime.fromtimestamp(taken.seconds, UTC).replace(tzinfo=zone)


def read_deployments(file: Path) -> dict[str, Deployment]:
    """The deployments of a table by the folder with their pictures, which is called like the deployment unless the
    table has a column `folder`.

    Raises DataError, with the line of the table, for whatever is missing or makes no sense.
    """
    sheet = read_sheet(file)
    if missing := [name for name in _REQUIRED if name not in sheet.header]:
        raise DataError(f"{sheet.file} has no column {missing[0]!r}", f"It needs {', '.join(_REQUIRED)}.")
    columns = {name: sheet.column(at) for at, name in enumerate(sheet.header)}
    found: dict[str, Deployment] = {}
    for row in range(len(sheet.lines)):
        one = _deployment(sheet, row, {name: values[row] for name, values in columns.items()})
        given = (one.values.get("folder") or one.id).replace("\\", "/").strip("/")
        folder = unicodedata.normalize("NFC", given)
        if folder in found or one.id in {other.id for other in found.values()}:
            raise _wrong(sheet, row, f"the deployment {one.id!r} or its folder comes twice")
        found[folder] = one
    if not found:
        raise DataError(f"{sheet.file} has no rows", "Give each deployment a row.")
    return found


def _deployment(sheet: Sheet, row: int, values: dict[str, str]) -> Deployment:
    for name in _REQUIRED:
        if not values[name]:
            raise _wrong(sheet, row, f"the {name} is empty")
    for name, allowed in _ALLOWED.items():
        if (value := values.get(name)) and not allowed.allows(value):
            raise _wrong(sheet, row, f"the {name} is {value!r}, but it should be {allowed}")
    start, end = (_time(sheet, row, name, values[name]) for name in ("deploymentStart", "deploymentEnd"))
    if end < start:
        raise _wrong(sheet, row, "it ends before it starts")
    return Deployment(values, start, end)


def _time(sheet: Sheet, row: int, name: str, text: str) -> datetime:
    hint = "Write times as in 2026-05-01T06:30:00+02:00, with the zone of the camera's clock."
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(sheet, row, f"the {name} is {text!r}, which is no time", hint) from None
    if found.tzinfo is None:
        raise _wrong(sheet, row, f"the {name} is {text!r}, which does not say its time zone", hint)
    return found


def _wrong(sheet: Sheet, row: int, problem: str, hint: str = "") -> DataError:
    return DataError(f"{sheet.file}, {sheet.unit} {sheet.lines[row]}: {problem}", hint)


def _zone(text: str) -> timezone:
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[4:6])))
