"""Darwin Core: an occurrence for each event in which somebody vouches for the name of an animal.

https://dwc.tdwg.org/terms
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from fieldmark.core.listener import Listener
from fieldmark.core.storage import csv_line
from fieldmark.core.wording import counted
from fieldmark.exporting.results.answered import Answered
from fieldmark.exporting.results.camtrap import timed
from fieldmark.exporting.results.observed import Observed, in_event
from fieldmark.exporting.results.survey import PlacedEvent, Survey, placed

__all__ = ["darwin_lines"]

_COLUMNS = (  # noqa: SIM905  (as the standard lists them)
    "basisOfRecord occurrenceID eventID parentEventID eventDate decimalLatitude decimalLongitude geodeticDatum "
    "samplingProtocol identifiedBy dateIdentified identificationVerificationStatus identificationRemarks "
    "scientificName taxonID kingdom"
).split()


def darwin_lines(answered: Answered, survey: Survey, listener: Listener) -> Iterator[str]:
    """The table, line by line. Animals that nobody names, people, vehicles and empty pictures are no occurrences."""
    unnamed = 0
    yield csv_line(_COLUMNS)
    for _, events in placed(answered, survey, listener):
        for event in events:
            animals = [one for one in in_event(event.event, answered.kept.header.confidence) if one.kind == "animal"]
            unnamed += any(not one.name for one in animals)
            for number, one in enumerate((one for one in animals if one.name), 1):
                values = _occurrence(event, one, number, answered)
                yield csv_line(values.get(column, "") for column in _COLUMNS)
    if unnamed:
        listener.note(f"In {counted(unnamed, 'event')}, an animal that nobody names is left out")


def _occurrence(event: PlacedEvent, one: Observed, number: int, answered: Answered) -> dict[str, Any]:
    first, last = event.pictures[0], event.pictures[-1]
    ends = dict.fromkeys((timed(first.time), timed(last.time)))
    sure = "" if one.probability is None else f" with {one.probability:.3f} probability"
    return {
        "basisOfRecord": "MachineObservation",
        "occurrenceID": f"{event.id}-{number}",
        "eventID": event.id,
        "parentEventID": first.deployment.id,
        "eventDate": "/".join(ends),
        "decimalLatitude": first.deployment.values["latitude"],
        "decimalLongitude": first.deployment.values["longitude"],
        "geodeticDatum": "EPSG:4326",
        "samplingProtocol": "camera trap",
        "identifiedBy": answered.classifier,
        "dateIdentified": timed(datetime.now(UTC)),
        "identificationVerificationStatus": "unverified",
        "identificationRemarks": f"classified by a machine{sure}",
        "scientificName": one.name,
        "kingdom": answered.speaker.bundle.taxonomy.lineage(one.level, one.name).get("kingdom", "Animalia"),
    }
