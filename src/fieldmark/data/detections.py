"""Where a detector has found something in pictures: what is cut out and classified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from fieldmark.data.bursts import Taken

__all__ = ["ANIMAL", "PERSON", "VEHICLE", "Box", "Detected", "Detection"]

ANIMAL: Final = "animal"
"""What is classified."""
PERSON: Final = "person"
VEHICLE: Final = "vehicle"

Box = tuple[float, float, float, float]
"""Left, top, width and height as shares of the upright picture, from 0 to 1."""


class Detection(NamedTuple):
    """Something that a detector has found."""

    category: str
    """What it is: "animal", "person", "vehicle" or another word of the detector's."""
    confidence: float
    box: Box


@dataclass(frozen=True)
class Detected:
    """What a file of detections says about one picture."""

    path: str
    """As the file has it."""
    detections: tuple[Detection, ...] | None
    """Everything that was found, the surest first; None if the picture was not searched, so that all of it counts."""
    failure: str = ""
    """Why the picture could not be searched."""
    taken: Taken | None = None
    """When the picture was taken, if the file says so."""
    sequence: str = ""
    """What the picture's burst is called, if the file says so."""
    video: Mapping[str, Any] | None = None
    """All that the file says about a video, with the categories' names; its frames are not read."""
