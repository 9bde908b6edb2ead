"""A package in the format Camtrap DP 1.0.2: deployments, media and observations, with a description.

Each picture has an observation for each of its boxes, or one; with bursts, each event has one, too.
https://camtrap-dp.tdwg.org
"""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from fieldmark.core.claims import claimed
from fieldmark.core.errors import DataError, RunError
from fieldmark.core.listener import Listener
from fieldmark.core.storage import csv_line, explained, replacing, write_json
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.exporting.results.answered import Answered
from fieldmark.exporting.results.observed import Observed, in_event, in_picture
from fieldmark.exporting.results.survey import Placed, PlacedEvent, Survey, placed

__all__ = ["PACKAGE", "timed", "write_camtrap"]

PACKAGE = "a Camtrap DP package"
"""What a folder is made for."""

_HOME = "https://raw.githubusercontent.com/tdwg/camtrap-dp/1.0.2"
_DEPLOYMENTS = (  # noqa: SIM905  (as the standard lists them)
    "deploymentID locationID locationName latitude longitude coordinateUncertainty deploymentStart deploymentEnd "
    "setupBy cameraID cameraModel cameraDelay cameraHeight cameraDepth cameraTilt cameraHeading detectionDistance "
    "timestampIssues baitUse featureType habitat deploymentGroups deploymentTags deploymentComments"
).split()
_MEDIA = (  # noqa: SIM905  (as the standard lists them)
    "mediaID deploymentID captureMethod timestamp filePath filePublic fileName fileMediatype exifData favorite "
    "mediaComments"
).split()
_OBSERVATIONS = (  # noqa: SIM905  (as the standard lists them)
    "observationID deploymentID mediaID eventID eventStart eventEnd observationLevel observationType "
    "cameraSetupType scientificName count lifeStage sex behavior individualID individualPositionRadius "
    "individualPositionAngle individualSpeed bboxX bboxY bboxWidth bboxHeight classificationMethod classifiedBy "
    "classificationTimestamp classificationProbability observationTags observationComments"
).split()
_BOX = ("bboxX", "bboxY", "bboxWidth", "bboxHeight")
_RANKS = ("kingdom", "phylum", "class", "order", "family", "genus", "species")


def write_camtrap(answered: Answered, folder: Path, survey: Survey, listener: Listener) -> None:
    """Write the package. The description comes last, so a package that has one is complete.

    Raises DataError if not one picture has a place and a time, and StorageError for a folder that is not ours.
    """
    levels: dict[str, str] = {}
    busy = RunError(f"Another process is writing {folder}", "Wait until it has finished.")
    with claimed(folder, PACKAGE, busy=busy), ExitStack() as stack:
        media = _Table(stack, folder / "media.csv", _MEDIA)
        observations = _Table(stack, folder / "observations.csv", _OBSERVATIONS)
        for pictures, events in placed(answered, survey, listener):
            for one in pictures:
                media.add(_medium(one, survey))
            for values, level in _observed(events, answered):
                observations.add(values)
                levels |= {values["scientificName"]: level} if values["scientificName"] else {}
        if not media.rows:
            raise DataError(
                "Not one picture has both a time and a deployment, so there is nothing to put into a package",
                "Check the table of deployments: it needs the name of the folder with the pictures of each.",
            )
        deployments = _Table(stack, folder / "deployments.csv", _DEPLOYMENTS)
        for deployment in survey.deployments.values():
            times = {"deploymentStart": timed(deployment.start), "deploymentEnd": timed(deployment.end)}
            deployments.add({**deployment.values, **times})
        description = folder / "datapackage.json"
        with explained(description):
            description.unlink(missing_ok=True)  # it is that of older tables
        stack.pop_all().close()  # the tables are there before what describes them
        write_json(description, _description(answered, survey, levels))


def timed(time: datetime) -> str:
    """A time with its zone."""
    return time.isoformat(timespec="seconds")


class _Table:
    """A CSV file that is filled row by row, and is there once the stack is left."""

    def __init__(self, stack: ExitStack, path: Path, columns: Sequence[str]) -> None:
        self.columns, self.rows = columns, 0
        self.file = stack.enter_context(replacing(path))
        self.file.write(csv_line(columns).encode())

    def add(self, values: Mapping[str, Any]) -> None:
        """Write the columns that the table has."""
        cells = (values.get(column) for column in self.columns)
        self.file.write(csv_line("" if cell is None else cell for cell in cells).encode())
        self.rows += 1


def _medium(one: Placed, survey: Survey) -> dict[str, Any]:
    kind = mimetypes.guess_type(one.path)[0] or f"image/x-{one.path.rpartition('.')[2].lower()}"
    return {
        "mediaID": one.id,
        "deploymentID": one.deployment.id,
        "timestamp": timed(one.time),
        "filePath": one.path,
        "filePublic": "true" if survey.about.get("filePublic") else "false",
        "fileName": one.path.rpartition("/")[2],
        "fileMediatype": kind,
    }


def _observed(events: Sequence[PlacedEvent], answered: Answered) -> Iterator[tuple[dict[str, Any], str]]:
    """The observations of pictures and, if there are bursts, those of events; and the level of each name."""
    confidence = answered.kept.header.confidence
    for event in events:
        for one in event.pictures:
            about = {"mediaID": one.id, "observationLevel": "media", "eventID": event.id}
            yield from _rows(in_picture(one.row, confidence), about, one.id, (one, one), answered)
        if answered.has_events:
            about = {"observationLevel": "event", "eventID": event.id}
            ends = event.pictures[0], event.pictures[-1]
            yield from _rows(in_event(event.event, confidence), about, event.id, ends, answered)


def _rows(
    found: Sequence[Observed], about: dict[str, Any], of: str, ends: tuple[Placed, Placed], answered: Answered
) -> Iterator[tuple[dict[str, Any], str]]:
    now = timed(datetime.now(UTC))
    for number, one in enumerate(found, 1):
        x, y, width, height = one.box or (None, None, None, None)
        boxed = bool(width and height)
        yield (
            {
                **about,
                "observationID": f"{of}-{number}",
                "deploymentID": ends[0].deployment.id,
                "eventStart": timed(ends[0].time),
                "eventEnd": timed(ends[1].time),
                "observationType": one.kind,
                "scientificName": one.name,
                "count": one.individuals,
                **(dict(zip(_BOX, (x, y, width, height), strict=True)) if boxed else {}),
                "classificationMethod": "machine",
                "classifiedBy": answered.classifier,
                "classificationTimestamp": now,
                "classificationProbability": None if one.probability is None else round(min(1.0, one.probability), 6),
            },
            one.level,
        )


def _description(answered: Answered, survey: Survey, levels: Mapping[str, str]) -> dict[str, Any]:
    given = {name: value for name, value in survey.about.items() if name != "filePublic"}
    deployments = list(survey.deployments.values())
    places = sorted({(float(one.values["longitude"]), float(one.values["latitude"])) for one in deployments})
    observed = ["media", "event"] if answered.has_events else ["media"]
    return {
        **given,
        "profile": f"{_HOME}/camtrap-dp-profile.json",
        "created": timed(datetime.now(UTC)),
        "project": {**given["project"], "observationLevel": observed},
        "spatial": {"type": "MultiPoint", "coordinates": [list(place) for place in places]},
        "temporal": {
            "start": min(one.start for one in deployments).date().isoformat(),
            "end": max(one.end for one in deployments).date().isoformat(),
        },
        "taxonomic": [_taxon(answered.speaker.bundle.taxonomy, *one) for one in sorted(levels.items())],
        "resources": [
            {
                "name": name,
                "path": f"{name}.csv",
                "profile": "tabular-data-resource",
                "format": "csv",
                "mediatype": "text/csv",
                "encoding": "utf-8",
                "schema": f"{_HOME}/{name}-table-schema.json",
            }
            for name in ("deployments", "media", "observations")
        ],
    }


def _taxon(taxonomy: Taxonomy, name: str, level: str) -> dict[str, str]:
    """A name with its rank, if its level has one, and the ranks above it."""
    above = taxonomy.lineage(level, name)
    if not above.pop(level, ""):
        return {"scientificName": name}
    rank = {"taxonRank": level} if level in _RANKS and (level != "class" or level in taxonomy.above) else {}
    return {"scientificName": name, **rank, **{key: value for key, value in above.items() if key in _RANKS[:-1]}}
