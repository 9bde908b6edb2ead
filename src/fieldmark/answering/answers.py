"""`answers`: pictures in, everything that their verdicts are made from out. It fits on a line of a record.

A picture is looked at as a whole or, where a detector has found animals, box by box.

Shapes: K classes, V values of an attribute.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.boxes import Boxed
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import BATCH, Shown, stream
from fieldmark.answering.things import Thing
from fieldmark.answering.verdicts import Evidence, evidence_of
from fieldmark.core.errors import ImageError
from fieldmark.core.machine import num_decoders
from fieldmark.data.bursts import Taken, taken
from fieldmark.data.detections import ANIMAL, Detected, Detection

__all__ = ["Answer", "Look", "Picture", "Seen", "answers", "evidence_from", "num_looks"]

_AT_ONCE = 256
"""Answers that come together where nothing is looked at."""


class Seen(NamedTuple):
    """What verdicts on one look need."""

    logits: NDArray[np.float32]
    """(K,)."""
    near: float
    """The cosine to the nearest class mean."""
    attributes: tuple[NDArray[np.float32], ...] = ()
    """Logits (V,) of each attribute."""


class Look(NamedTuple):
    """A picture or a box in it."""

    detection: Detection | None
    """What a detector has found; None for a whole picture."""
    seen: Seen | None
    """None for what was not classified: people, vehicles, and boxes of which the detector was not sure enough."""


@dataclass(frozen=True)
class Answer:
    """What is known of a picture after it was looked at."""

    path: str
    looks: tuple[Look, ...] = ()
    """One without boxes, as many as there are boxes with them; none if it was skipped."""
    skipped: str = ""
    """Why there is no answer."""
    size: tuple[int, int] | None = None
    """Width and height in pixels, if it was decoded."""
    taken: Taken | None = None
    sequence: str = ""
    """What a file of detections calls its burst."""
    video: Mapping[str, Any] | None = None
    """What a file of detections says about a video, which is skipped."""


class Picture(NamedTuple):
    """A picture to look at, and what was detected in it, if anybody searched."""

    thing: Thing
    detected: Detected | None = None


@dataclass
class _Pending:
    """A picture whose looks are not all there yet."""

    picture: Picture
    looks: list[Look]
    waits: int
    """How many looks are still to come."""
    size: tuple[int, int] | None = None
    error: ImageError | None = None
    rows: list[int] = field(default_factory=list)
    """The places in `looks` of those that are to come."""


class _Asked(NamedTuple):
    """One look of a pending picture."""

    of: _Pending
    at: int
    boxed: Boxed
    """The picture, shared by its looks."""


def answers(
    predictor: Predictor, pictures: Iterable[Picture], *, confidence: float = 0.0, batch_size: int = BATCH
) -> Iterator[list[Answer]]:
    """Answer pictures, some at a time: those in which nothing is to be classified, then the others in order; each once.

    Animals are classified that the detector is at least so confident of. `pictures` are gone through twice; unless they
    are an iterator, which is listed first, memory does not grow with their number. A picture that cannot be read is
    `skipped`, and so is one that the detector could not search.
    """
    pictures = list(pictures) if isinstance(pictures, Iterator) else pictures
    every = (_pending(picture, confidence) for picture in pictures)
    nothing = (_answer(picture) for picture in every if not picture.waits)
    while some := list(islice(nothing, _AT_ONCE)):
        yield some
    pending: deque[_Pending] = deque()

    def asked() -> Iterator[_Asked]:
        for picture in pictures:
            one = _pending(picture, confidence)
            if one.waits:
                pending.append(one)
            boxed = Boxed(picture.thing, len(one.rows))
            yield from (_Asked(one, at, boxed) for at in one.rows)

    def see(one: _Asked) -> Shown:
        detection = one.of.looks[one.at].detection
        return predictor.see(one.of.picture.thing) if detection is None else one.boxed.see(predictor, detection.box)

    threads = num_decoders()
    for answered in stream(
        asked(), see, predictor.engine, batch_size=batch_size, threads=threads, together=lambda one: id(one.boxed)
    ):
        known = evidence_of(predictor.bundle, answered.output) if answered.output else None
        row = 0
        for one, error in zip(answered.things, answered.errors, strict=True):
            one.of.waits -= 1
            if error is not None:
                one.of.error = error
                continue
            assert known is not None
            one.of.looks[one.at] = one.of.looks[one.at]._replace(seen=_row(known, row))
            one.of.size = answered.shown[row].size
            row += 1
        done = []
        while pending and not pending[0].waits:
            done.append(_answer(pending.popleft()))
        if done:
            yield done


def num_looks(picture: Picture, confidence: float) -> int:
    """How many times the network looks at a picture: once as a whole, or at each animal that was detected in it."""
    return _pending(picture, confidence).waits


def _pending(picture: Picture, confidence: float) -> _Pending:
    found = picture.detected
    if found is not None and found.failure:
        return _Pending(picture, [], 0)
    if found is None or found.detections is None:
        return _Pending(picture, [Look(None, None)], 1, rows=[0])
    rows = [at for at, one in enumerate(found.detections) if one.category == ANIMAL and one.confidence >= confidence]
    return _Pending(picture, [Look(one, None) for one in found.detections], len(rows), rows=rows)


def _answer(one: _Pending) -> Answer:
    thing, found = one.picture
    failure = f"{thing.name} was not searched by the detector: {found.failure}" if found and found.failure else ""
    sequence = found.sequence if found else ""
    if one.error or failure:
        video = found.video if found else None
        return Answer(thing.name, skipped=str(one.error) if one.error else failure, sequence=sequence, video=video)
    when = (found.taken if found else None) or (taken(thing.source) if isinstance(thing.source, Path) else None)
    return Answer(thing.name, tuple(one.looks), size=one.size, taken=when, sequence=sequence)


def _row(known: Evidence, row: int) -> Seen:
    return Seen(
        known.logits[row].astype(np.float32, copy=False),
        float(known.near[row]),
        tuple(values[row].astype(np.float32, copy=False) for values in known.attributes),
    )


def evidence_from(seen: Iterable[Seen]) -> Evidence:
    """The same as arrays, for at least one look."""
    rows = list(seen)
    return Evidence(
        np.stack([one.logits for one in rows]),
        np.array([one.near for one in rows]),
        tuple(np.stack(values) for values in zip(*(one.attributes for one in rows), strict=True)),
    )
