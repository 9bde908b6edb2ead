"""A page for looking through answers: small pictures by verdict, what is unsure first.

However many answers there are, at most `MOST` pictures are shown, of every verdict some: the least sure ones. Where
there are more verdicts than that, those that come last have a count and no picture.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import numpy as np

from fieldmark.answering.boxes import window
from fieldmark.core.errors import DataError, ImageError
from fieldmark.core.listener import Listener
from fieldmark.core.wording import written
from fieldmark.data.decode import decode
from fieldmark.data.detections import Box
from fieldmark.evaluation.verdict import Verdict
from fieldmark.exporting.results.answered import Answered, Row
from fieldmark.pages import picture, render

__all__ = ["MOST", "compose_page"]

MOST: Final = 1500
"""Pictures on a page, which has about 7 kB for each."""
_AT_LEAST = 12
"""Pictures of each verdict, if there are so many and the page has room for them."""
_SIDE, _DETAIL = 200, 320
"""Pixels of a picture's longer side, and of the short side from which a box is cut."""
_UNSURE, _UNLIKE = "Unsure", "Unlike anything known"


@dataclass(frozen=True)
class _Item:
    """A picture or a box that may be shown."""

    path: str
    said: str
    sure: str
    rest: str
    box: Box | None
    """What is shown of the picture; None for all of it."""


@dataclass
class _Group:
    """A verdict."""

    name: str
    rank: int
    """Where it stands: what needs a look comes first."""
    count: int = 0
    least: list[tuple[float, int, _Item]] = field(default_factory=list)
    """The least sure items, as a heap of the negative sureness."""


def compose_page(answered: Answered, out: Path, listener: Listener) -> str:
    """The page as HTML, which will be at `out`: it links to the photographs from there."""
    groups, skipped = _grouped(answered)
    order = sorted(groups, key=lambda group: (group.rank, -group.count, group.name))
    chosen = [(group, item) for group, items in _chosen(order) for item in items]
    items = []
    with listener.progress("Drawing the page") as tick:
        for number, (group, item) in enumerate(chosen, 1):
            items.append(_shown(item, order.index(group), out))
            tick(number, len(chosen))
    thresholds = answered.speaker.thresholds
    return render(
        "answers.html",
        num_pictures=len(answered.kept) - len(skipped),
        num_shown=len(items),
        num_answers=sum(group.count for group in groups),
        notes=thresholds.notes if thresholds else ("Not calibrated: these are plain softmax probabilities",),
        skipped=[(written(path), written(why)) for path, why in skipped[:MOST]],
        num_skipped=len(skipped),
        page={"groups": [{"name": group.name, "count": group.count} for group in order], "items": items},
    )


def _grouped(answered: Answered) -> tuple[list[_Group], list[tuple[str, str]]]:
    """The answers by verdict, and what was skipped. Memory does not grow with the number of answers."""
    groups: dict[str, _Group] = {}
    skipped: list[tuple[str, str]] = []
    numbers = count()
    for row in answered.rows():
        if row.answer.skipped:
            skipped.append((row.answer.path, row.answer.skipped))
        for name, rank, sureness, item in _items(row, answered.kept.header.confidence):
            group = groups.setdefault(name, _Group(name, rank))
            group.count += 1
            heapq.heappush(group.least, (-sureness, next(numbers), item))
            if len(group.least) > MOST:
                heapq.heappop(group.least)  # the surest
    return list(groups.values()), skipped


def _items(row: Row, confidence: float | None) -> Iterator[tuple[str, int, float, _Item]]:
    """Group, rank, sureness and item of each look; a picture in which nothing was found is one, too."""
    if row.answer.skipped:
        return
    looks = row.sure_looks(confidence)
    if not looks:
        yield "Nothing found", 3, 1.0, _Item(row.answer.path, "nothing found", "", "", None)
    for look, verdict in looks:
        box = look.detection.box if look.detection else None
        if verdict is None:
            assert look.detection is not None
            sure, name = look.detection.confidence, look.detection.category
            yield name.capitalize(), 3, sure, _Item(row.answer.path, name, _percent(sure), "", box)
            continue
        group, rank = (verdict.name, 2) if verdict.name is not None else (_UNSURE, 0)
        if verdict.familiar is False:
            group, rank = _UNLIKE, 1
        sureness = verdict.probability if verdict.sureness is None else verdict.sureness
        said = "" if verdict.sureness is None else _percent(verdict.sureness)
        yield group, rank, sureness, _Item(row.answer.path, _said(verdict), said, _rest(verdict), box)


def _said(verdict: Verdict) -> str:
    """The answer; its group says already whether somebody vouches for it."""
    return verdict.said if verdict.name is not None or verdict.familiar is False else f"likely {verdict.label}"


def _rest(verdict: Verdict) -> str:
    """What else it may be."""
    if verdict.familiar is False:
        return f"looks most like {verdict.label}"
    others = [one for one in verdict.candidates if one.label != (verdict.name or verdict.label)]
    told = [f"{one.label} {_percent(one.probability)}" for one in others[:2] if one.probability > 0.01]
    return f"or {', '.join(told)}" if told else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"


def _chosen(groups: list[_Group]) -> list[tuple[_Group, list[_Item]]]:
    """Of each group the least sure items: some of each, and then as many as there is room for, in order."""
    each = max(1, min(_AT_LEAST, MOST // max(1, len(groups))))
    numbers, room = [0] * len(groups), MOST
    for most in (each, MOST):
        for at, group in enumerate(groups):
            more = min(len(group.least), most, numbers[at] + room) - numbers[at]
            numbers[at] += more
            room -= more
    return [
        (group, [item for _, _, item in sorted(group.least, key=lambda one: (-one[0], one[1]))[:number]])
        for group, number in zip(groups, numbers, strict=True)
    ]


def _shown(item: _Item, group: int, out: Path) -> dict[str, Any]:
    return {
        "group": group,
        "path": written(item.path),
        "link": _link(item.path, out),
        "said": item.said,
        "sure": item.sure,
        "rest": item.rest,
        "picture": _picture(item),
    }


def _picture(item: _Item) -> str | None:
    """A small picture without any metadata; None if it cannot be had."""
    try:
        pixels = decode(Path(item.path), short_side=_SIDE if item.box is None else _DETAIL).pixels
    except (ImageError, DataError):  # of a shard, or of the store that it is in
        return None
    if item.box is not None:
        left, top, right, bottom = window(pixels.shape[1], pixels.shape[0], item.box, crop=1.0)
        pixels = np.ascontiguousarray(pixels[top:bottom, left:right])
    return str(picture(pixels, side=_SIDE, quality=72))


def _link(path: str, out: Path) -> str:
    """From the page to the photograph."""
    try:
        below = os.path.relpath(path, out.parent)
    except ValueError:  # another drive
        below = os.path.abspath(path)
    return "./" + quote(os.fsencode(below.replace(os.sep, "/"))) if not os.path.isabs(below) else Path(below).as_uri()
