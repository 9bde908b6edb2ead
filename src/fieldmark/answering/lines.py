"""The lines of a record of answers: JSON, each with the CRC-32 of what is before it."""

from __future__ import annotations

import base64
import os
import re
import zlib
from collections.abc import Mapping
from contextlib import suppress
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
from annotated_types import Ge, Interval, Len, Predicate
from numpy.typing import NDArray
from typing_extensions import TypedDict

from fieldmark.answering.answers import Answer, Look, Seen
from fieldmark.core.reading import parse_json
from fieldmark.core.storage import as_json
from fieldmark.core.wording import written
from fieldmark.data.bursts import OFFSET, Taken
from fieldmark.data.detections import Detection

__all__ = ["HeaderLine", "answer_of", "checked", "line_of", "path_of", "told_of"]

_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800
"""Between them lies what a calendar can say, in seconds."""
_ENDING = re.compile(rb',"crc":"([0-9a-f]{8})"\}$')


def _is_base64(text: str) -> bool:
    with suppress(ValueError):
        base64.b64decode(text, validate=True)
        return True
    return False


def _is_offset(text: str) -> bool:
    return OFFSET.fullmatch(text) is not None


def _is_whole(look: Mapping[str, object]) -> bool:
    """Whether nothing is left out that belongs to a box, or to what was said of it."""
    needed = {"box": {"category", "confidence"}, "logits": {"near"}}
    return all(others <= look.keys() for key, others in needed.items() if key in look)


class HeaderLine(TypedDict):
    """What answers have in common."""

    fieldmark: Literal["answers"]
    version: int
    state: str
    shard: str | None
    boxes: str | None
    confidence: float | None
    root: str | None


class _LookLine(TypedDict):
    category: NotRequired[str]
    confidence: NotRequired[float]
    box: NotRequired[Annotated[list[float], Len(4, 4)]]
    logits: NotRequired[str]
    near: NotRequired[float]
    attributes: NotRequired[list[str]]


class _TakenLine(TypedDict):
    seconds: Annotated[float, Interval(ge=_YEAR_1, lt=_YEAR_10000)]
    camera: str
    zone: NotRequired[Annotated[str, Predicate(_is_offset)]]


class _InVideoLine(TypedDict):
    category: str


class _VideoLine(TypedDict):
    detections: list[_InVideoLine]


class _AnswerLine(TypedDict):
    path: str
    raw: NotRequired[Annotated[str, Predicate(_is_base64)]]
    skipped: NotRequired[str]
    size: NotRequired[Annotated[list[Annotated[int, Ge(1)]], Len(2, 2)]]
    taken: NotRequired[_TakenLine]
    sequence: NotRequired[str]
    video: NotRequired[_VideoLine]
    looks: NotRequired[list[Annotated[_LookLine, Predicate(_is_whole)]]]


class _WroteLine(TypedDict):
    wrote: str
    sha256: str


class _FinishedLine(TypedDict):
    finished: int


_KINDS = {b'{"wrote"': _WroteLine, b'{"fieldmark"': HeaderLine, b'{"finished"': _FinishedLine}


def line_of(values: dict[str, Any]) -> bytes:
    """A line with its CRC-32."""
    text = as_json(values).encode()
    return text[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(text)


def checked(line: bytes) -> dict[str, Any] | None:
    """The values of a whole line; None for a damaged one."""
    ending = _ENDING.search(line)
    if ending is None:
        return None
    text = line[: ending.start()] + b"}"
    if zlib.crc32(text) != int(ending[1], 16):
        return None
    kind: Any = next((shape for start, shape in _KINDS.items() if line.startswith(start)), _AnswerLine)
    with suppress(ValueError):  # a damaged line: its picture is answered again
        values: dict[str, Any] = dict(parse_json(text, kind))
        return values
    return None


def path_of(values: dict[str, Any]) -> str:
    """The path of an answer, which need not be UTF-8."""
    return os.fsdecode(base64.b64decode(values["raw"])) if "raw" in values else str(values["path"])


def told_of(one: Answer) -> dict[str, Any]:
    """The values of an answer's line."""
    values: dict[str, Any] = {"path": written(one.path)}
    if values["path"] != one.path:  # it is not UTF-8
        values["raw"] = base64.b64encode(os.fsencode(one.path)).decode()
    if one.skipped:
        values["skipped"] = written(one.skipped)
    if one.size:
        values["size"] = list(one.size)
    if one.taken:
        values["taken"] = {"seconds": one.taken.seconds, "camera": written(one.taken.camera)}
        values["taken"] |= {"zone": one.taken.zone} if one.taken.zone else {}
    if one.sequence:
        values["sequence"] = written(one.sequence)
    if one.video:
        values["video"] = dict(one.video)
    if not one.skipped:
        values["looks"] = [_told_look(look) for look in one.looks]
    return values


def _told_look(look: Look) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if look.detection:
        category, confidence, box = look.detection
        values |= {"category": category, "confidence": confidence, "box": list(box)}
    if look.seen:
        values |= {"logits": _packed(look.seen.logits), "near": look.seen.near}
        values |= {"attributes": list(map(_packed, look.seen.attributes))} if look.seen.attributes else {}
    return values


def _packed(numbers: NDArray[np.float32]) -> str:
    return base64.b64encode(numbers.astype("<f4", copy=False).tobytes()).decode()


def _unpacked(text: str) -> NDArray[np.float32]:
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32, copy=False)


def answer_of(line: bytes, num_classes: int | None) -> Answer:
    """The answer of a line. Raises ValueError for a line that is no answer of so many classes."""
    if (values := checked(line)) is None:
        raise ValueError("its line has changed")
    looks = tuple(_look_of(one) for one in values.get("looks", ()))
    if num_classes and any(look.seen and len(look.seen.logits) != num_classes for look in looks):
        raise ValueError(f"it is not for {num_classes:,} classes")
    when = values.get("taken")
    return Answer(
        path_of(values),
        looks,
        values.get("skipped", ""),
        tuple(values["size"]) if "size" in values else None,
        Taken(float(when["seconds"]), when["camera"], when.get("zone", "")) if when else None,
        values.get("sequence", ""),
        values.get("video"),
    )


def _look_of(values: dict[str, Any]) -> Look:
    detection = seen = None
    if "box" in values:
        x, y, width, height = map(float, values["box"])
        detection = Detection(values["category"], float(values["confidence"]), (x, y, width, height))
    if "logits" in values:
        more = tuple(map(_unpacked, values.get("attributes", ())))
        seen = Seen(_unpacked(values["logits"]), float(values["near"]), more)
    return Look(detection, seen)
