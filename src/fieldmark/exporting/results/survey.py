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
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from fieldmark.core.errors import DataError
from fieldmark.core.listener import Listener
from fieldmark.core.reading import parse_json, parse_toml, read_regular, reason
from fieldmark.core.storage import as_json
from fieldmark.core.wording import counted
from fieldmark.exporting.results.answered import Answered, Event, Row
from fieldmark.exporting.results.deployments import Deployment, read_deployments
from fieldmark.exporting.results.megadetector import relative

__all__ = ["Placed", "PlacedEvent", "Survey", "placed", "read_survey"]

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
class Survey:
    """What the user says."""

    deployments: Mapping[str, Deployment]
    """By the folder with their pictures, which has the deployment's name unless the table has a column `folder`."""
    about: Mapping[str, Any]
    """The rest of the file, such as `project`, `contributors` and `licenses`."""

    def deployment_of(self, path: str) -> Deployment | None:
        """The deployment in whose folder a picture lies; of nested ones, the innermost."""
        parts = unicodedata.normalize("NFC", path).split("/")[:-1]  # names from a Mac are decomposed
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
    found = read_deployments(file.parent / about.pop("deployments"))
    return Survey(found, about)


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
