"""What is said to be in a picture or an event, in the words that standards have for it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

from fieldmark.data.detections import ANIMAL, PERSON, VEHICLE, Box
from fieldmark.data.readers.coco import EMPTY
from fieldmark.evaluation.verdict import Verdict
from fieldmark.exporting.results.answered import Event, Row

__all__ = ["Kind", "Observed", "in_event", "in_picture"]

Kind = Literal["animal", "human", "vehicle", "blank", "unknown"]
_DETECTED: dict[str, Kind] = {ANIMAL: "animal", PERSON: "human", VEHICLE: "vehicle"}
_PEOPLE = frozenset({"human", "person", "people", "homo sapiens"})
_VEHICLES = frozenset({"vehicle", "car"})


class Observed(NamedTuple):
    """Something in a picture, or in the pictures of an event."""

    kind: Kind
    name: str = ""
    """What somebody vouches for; "" if nobody does."""
    level: str = ""
    """The level of the name."""
    probability: float | None = None
    box: Box | None = None
    individuals: int | None = None
    """How many individuals, if boxes tell."""


def in_picture(row: Row, confidence: float | None) -> list[Observed]:
    """What is in a picture: each box of which the detector is so sure, or one thing without boxes; at least one."""
    found = []
    for look, verdict in row.sure_looks(confidence):
        if look.detection is None:
            found.append(_of(verdict, "unknown"))
        else:
            kind = _DETECTED.get(look.detection.category, "unknown")
            one = _of(verdict, kind) if verdict else Observed(kind, probability=look.detection.confidence)
            found.append(one._replace(box=look.detection.box, individuals=1))
    shown = [one for one in found if one.kind != "blank"]  # a detector's box in which there is nothing is no sighting
    return shown or [one._replace(box=None, individuals=None) for one in found[:1]] or [Observed("blank")]


def in_event(event: Event, confidence: float | None) -> list[Observed]:
    """What is in an event: what its pictures show together, and people and vehicles in any of them; at least one.

    Boxes that bear the name of another animal do not count. In a single picture, they are animals of their own.
    """
    pictures = [in_picture(row, confidence) for row in event.rows]
    boxes = any(one.box for picture in pictures for one in picture)
    found = []
    if event.verdict:
        together = _of(event.verdict, "animal" if boxes else "unknown")
        alone = len(pictures) == 1
        names = {"", together.name} if together.name or alone else None
        most = max(sum(one.kind == "animal" and (not names or one.name in names) for one in p) for p in pictures)
        found.append(together._replace(individuals=most or None if boxes else None))
        found.extend(_others(pictures[0], together.name) if alone else ())
    for kind in ("human", "vehicle"):
        if any(one.kind == kind for one in found):
            continue
        sure = [one.probability or 0.0 for picture in pictures for one in picture if one.kind == kind and one.box]
        if sure:
            found.append(Observed(kind, probability=max(sure)))
    return found or [Observed("blank" if all(one.kind == "blank" for p in pictures for one in p) else "unknown")]


def _others(picture: Sequence[Observed], name: str) -> Iterator[Observed]:
    """The animals in a picture that somebody vouches for under another name."""
    named = [one for one in picture if one.kind == "animal" and one.name not in ("", name)]
    for other in dict.fromkeys(one.name for one in named):
        alike = [one for one in named if one.name == other]
        surest = max(alike, key=lambda one: one.probability or 0.0)
        yield surest._replace(box=None, individuals=len(alike))


def _of(verdict: Verdict | None, otherwise: Kind) -> Observed:
    """What a verdict says; `otherwise` where nobody vouches for a name."""
    if verdict is None or verdict.name is None:
        return Observed(otherwise)
    name = verdict.name.casefold()
    probability = verdict.certainty
    if name in EMPTY:
        return Observed("blank", probability=probability)
    if name in _PEOPLE:
        return Observed("human", probability=probability)
    if name in _VEHICLES:
        return Observed("vehicle", probability=probability)
    return Observed("animal", verdict.name, verdict.level or "", probability)
