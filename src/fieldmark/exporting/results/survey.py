"""What only the user knows of a survey, and what the standards for it require: a TOML file with a table beside it.

    deployments = "deployments.csv"     # deploymentID, latitude, longitude, deploymentStart, deploymentEnd, …
    filePublic = false

    [[contributors]]
    title = "Ada Field"

    [project]
    title = "Foxes of the north wood"
    samplingDesign = "systematicRandom"
    captureMethod = ["activityDetection"]
    individualAnimals = false

Nothing of it is invented: a picture without a time or without a deployment has no place in a package.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from fieldmark.core.errors import DataError
from fieldmark.core.listener import Listener
from fieldmark.core.reading import parse_json, parse_toml, read_regular, reason
from fieldmark.core.storage import as_json
from fieldmark.core.wording import counted
from fieldmark.data.bursts import Taken
from fieldmark.data.readers.sheet import Sheet, read_sheet
from fieldmark.exporting.results.answered import Answered, Event, Row
from fieldmark.exporting.results.megadetector import relative

__all__ = ["Deployment", "Placed", "PlacedEvent", "Survey", "placed", "read_survey"]

_REQUIRED = ("deploymentID", "latitude", "longitude", "deploymentStart", "deploymentEnd")
_HINT = "See the guide on camera traps for what the file must say."


class _Contributor(TypedDict):
    title: str


class _Project(TypedDict):
    title: str
    samplingDesign: Literal[
        "simpleRandom", "systematicRandom", "clusteredRandom", "experimental", "targeted", "opportunistic"
    ]
    captureMethod: Annotated[list[Literal["activityDetection", "timeLapse"]], Len(1)]
    individualAnimals: bool


class _File(TypedDict):
    deployments: str
    contributors: Annotated[list[_Contributor], Len(1)]
    project: _Project
    filePublic: NotRequired[bool]


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


@dataclass(frozen=True)
class Survey:
    """What the user says."""

    deployments: Mapping[str, Deployment]
    """By the folder with their pictures, which has the deployment's name unless the table has a column `folder`."""
    about: Mapping[str, Any]
    """The rest of the file, such as `project`, `contributors` and `licenses`."""

    def deployment_of(self, path: str) -> Deployment | None:
        """The deployment in whose folder a picture lies; of nested ones, the innermost."""
        parts = path.split("/")[:-1]
        for end in range(len(parts), 0, -1):
            for begin in range(end):
                if (found := self.deployments.get("/".join(parts[begin:end]))) is not None:
                    return found
        return None


class Placed(NamedTuple):
    """A picture with its place and time."""

    row: Row
    path: str
    """Relative to the folder that was asked about."""
    id: str
    deployment: Deployment
    time: datetime


class PlacedEvent(NamedTuple):
    """An event with its place, and the pictures of it that have one."""

    event: Event
    id: str
    pictures: tuple[Placed, ...]
    """By time."""


def read_survey(file: Path) -> Survey:
    """Read a survey. Raises DataError, with the line of the table, for whatever is missing or makes no sense."""
    try:
        values = parse_toml(read_regular(file))
        about: dict[str, Any] = dict(parse_json(as_json(values), _File))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file} cannot be read: {reason(error)}", _HINT) from None
    sheet = read_sheet(file.parent / about.pop("deployments"))
    if missing := [name for name in _REQUIRED if name not in sheet.header]:
        raise DataError(f"{sheet.file} has no column {missing[0]!r}", f"It needs {', '.join(_REQUIRED)}.")
    columns = {name: sheet.column(at) for at, name in enumerate(sheet.header)}
    found: dict[str, Deployment] = {}
    for row in range(len(sheet.lines)):
        one = _deployment(sheet, row, {name: values[row] for name, values in columns.items()})
        folder = (one.values.get("folder") or one.id).replace("\\", "/").strip("/")
        if folder in found or one.id in {other.id for other in found.values()}:
            raise _wrong(sheet, row, f"the deployment {one.id!r} or its folder comes twice")
        found[folder] = one
    if not found:
        raise DataError(f"{sheet.file} has no rows", "Give each deployment a row.")
    return Survey(found, about)


def _deployment(sheet: Sheet, row: int, values: dict[str, str]) -> Deployment:
    if not values["deploymentID"]:
        raise _wrong(sheet, row, "the deploymentID is empty")
    for name, most in (("latitude", 90), ("longitude", 180)):
        try:
            fits = abs(float(values[name])) <= most
        except ValueError:
            fits = False
        if not fits:
            raise _wrong(
                sheet, row, f"the {name} is {values[name]!r}, but it should be a number from -{most} to {most}"
            )
    start, end = (_time(sheet, row, name, values[name]) for name in ("deploymentStart", "deploymentEnd"))
    if end < start:
        raise _wrong(sheet, row, "it ends before it starts")
    return Deployment(values, start, end)


def _time(sheet: Sheet, row: int, name: str, text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise _wrong(sheet, row, f"the {name} is {text!r}, which is no time") from None
    if found.tzinfo is None:
        raise _wrong(sheet, row, f"the {name} is {text!r}, which does not say its time zone")
    return found


def _wrong(sheet: Sheet, row: int, problem: str) -> DataError:
    hint = "Write times as in 2026-05-01T06:30:00+02:00, with the zone of the camera's clock."
    return DataError(f"{sheet.file}, {sheet.unit} {sheet.lines[row]}: {problem}", hint if " time" in problem else "")


def _zone(text: str) -> timezone:
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[4:6])))


@dataclass
class _Absent:
    """Pictures without a place, counted by the reason."""

    counts: Counter[str] = field(default_factory=Counter)

    def tell(self, listener: Listener) -> None:
        """Warn of them."""
        for why, count in self.counts.items():
            listener.warn(f"{counted(count, 'picture')} {why}")


def placed(answered: Answered, survey: Survey, listener: Listener) -> Iterator[tuple[list[Placed], list[PlacedEvent]]]:
    """The pictures and events of each folder that have a place and a time. What has none is counted in warnings."""
    absent = _Absent()
    for rows, events in answered.by_folder():
        pictures = [one for row in rows if (one := _placed(answered, row, survey, absent))]
        known = {id(one.row): one for one in pictures}
        found = []
        for event in events:
            # the time decides, and the name where frames have the same
            inside = sorted(
                (known[id(row)] for row in event.rows if id(row) in known), key=lambda one: (one.time, one.path)
            )
            if inside:
                found.append(PlacedEvent(event, _id(f"event {inside[0].path}"), tuple(inside)))
        yield pictures, found
    absent.tell(listener)


def _placed(answered: Answered, row: Row, survey: Survey, absent: _Absent) -> Placed | None:
    path = relative(answered, row.answer.path)
    deployment = survey.deployment_of(row.answer.path.replace("\\", "/"))
    if row.answer.skipped:  # which is told anyway
        return None
    if row.answer.taken is None:
        absent.counts["left out: the file does not say when it was taken"] += 1
    elif deployment is None:
        absent.counts["left out: in no deployment's folder"] += 1
    elif path.startswith(("/", ".", "~")) or ".." in path:
        absent.counts["left out: its path is not below one folder that was asked about, or has two dots"] += 1
    else:
        time = deployment.time_of(row.answer.taken)
        if not deployment.start <= time <= deployment.end:
            absent.counts["outside the time of its deployment: is the camera's clock right?"] += 1
        return Placed(row, path, _id(path), deployment, time)
    return None


def _id(text: str) -> str:
    """The same for the same picture, in every package."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]
