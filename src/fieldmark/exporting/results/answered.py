"""`Answered`: a record of answers with the verdicts that a user asked for, read picture by picture.

Without bursts, memory does not grow with the number of pictures; with them, it is that of the largest folder.

Shapes: N pictures of a folder, U events.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.answers import Answer, Look, Seen, evidence_from
from fieldmark.answering.record import Kept
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.version import version
from fieldmark.data.bursts import grouped
from fieldmark.data.shards import member_of
from fieldmark.evaluation.verdict import Verdict

__all__ = ["Answered", "Event", "Row"]

_AT_ONCE = 256


class Row(NamedTuple):
    """A picture with its verdicts."""

    answer: Answer
    verdicts: tuple[Verdict | None, ...]
    """One for each look; None for what was not classified."""

    @property
    def looks(self) -> list[tuple[Look, Verdict | None]]:
        """Each look with its verdict."""
        return list(zip(self.answer.looks, self.verdicts, strict=True))

    def sure_looks(self, confidence: float | None) -> list[tuple[Look, Verdict | None]]:
        """Those at the whole picture, and at boxes of which the detector is at least so sure."""
        least = confidence or 0.0
        return [pair for pair in self.looks if not pair[0].detection or pair[0].detection.confidence >= least]


class Event(NamedTuple):
    """Pictures of one thing: a folder, or a burst."""

    name: str
    rows: tuple[Row, ...]
    """At least one, none of them skipped."""
    verdict: Verdict | None
    """The pooled verdict; None if nothing in them was classified."""


@final
@dataclass(frozen=True)
class Answered:
    """What there is to write."""

    kept: Kept
    speaker: Speaker
    bursts: bool = False
    """Whether the photographs of a folder show one thing."""
    gap: float | None = None
    """How many seconds may pass between frames of one burst in a folder; None if there are no such bursts."""

    @property
    def classifier(self) -> str:
        """Who classified."""
        return f"Fieldmark {version()}, model {self.kept.header.state[:16]}"

    @property
    def has_events(self) -> bool:
        """Whether photographs of one thing also get a common answer."""
        return self.bursts or self.gap is not None

    def rows(self) -> Iterator[Row]:
        """Every picture, by folder and name."""
        source = iter(self.kept)
        while some := list(islice(source, _AT_ONCE)):
            yield from self._rows(some)

    def told(self) -> Iterator[Row | Event]:
        """Every picture and, with bursts, the events of each folder after its pictures."""
        if not self.has_events:
            yield from self.rows()
            return
        for rows, events in self.by_folder():
            yield from rows
            # a photograph on its own has had its answer
            yield from (event for event in events if self.gap is None or len(event.rows) > 1)

    def by_folder(self) -> Iterator[tuple[list[Row], list[Event]]]:
        """The pictures of each folder, and its events; without bursts, each picture is one."""
        for _, answers in groupby(self.kept, lambda answer: _place(answer.path)):
            rows = self._rows(list(answers))
            read = [row for row in rows if not row.answer.skipped]
            if not self.has_events:
                yield rows, [Event(row.answer.path, (row,), _surest(row)[1]) for row in read]
            elif read:
                yield rows, self._events(read)
            else:
                yield rows, []

    def _rows(self, answers: Sequence[Answer]) -> list[Row]:
        seen = [(answer, look.seen) for answer in answers for look in answer.looks if look.seen]
        verdicts = iter(self._spoken([answer.path for answer, _ in seen], [one for _, one in seen]))
        return [
            Row(answer, tuple(next(verdicts) if look.seen else None for look in answer.looks)) for answer in answers
        ]

    def _spoken(self, names: Sequence[str], seen: Sequence[Seen]) -> list[Verdict]:
        spoken = self.speaker.verdicts(names, evidence_from(seen)) if seen else []
        return [replace(one, frames=1) for one in spoken] if self.has_events else spoken

    def _events(self, rows: Sequence[Row]) -> list[Event]:
        names, groups = self._groups([row.answer for row in rows])
        members: list[list[Row]] = [[] for _ in names]
        for row, group in zip(rows, groups.tolist(), strict=True):
            members[group].append(row)
        shown = [(group, seen) for row, group in zip(rows, groups.tolist(), strict=True) if (seen := _surest(row)[0])]
        verdicts: dict[int, Verdict] = {}
        if shown:
            which, dense = np.unique([group for group, _ in shown], return_inverse=True)
            evidence = evidence_from(seen for _, seen in shown)
            pooled = self.speaker.pooled([names[group] for group in which], dense, evidence)
            verdicts = dict(zip(which.tolist(), pooled, strict=True))
        return [
            Event(name, tuple(inside), verdicts.get(group))
            for group, (name, inside) in enumerate(zip(names, members, strict=True))
        ]

    def _groups(self, answers: Sequence[Answer]) -> tuple[list[str], NDArray[np.int64]]:
        """The names of a folder's events (U), and the event (N,) of each picture."""
        paths = [answer.path for answer in answers]
        if self.gap is not None and all(answer.sequence for answer in answers):
            names, groups = np.unique([answer.sequence for answer in answers], return_inverse=True)
            return names.tolist(), groups.astype(np.int64)
        return grouped(paths, [answer.taken for answer in answers], None if self.bursts else self.gap)


def _surest(row: Row) -> tuple[Seen | None, Verdict | None]:
    """What was classified in a picture; of several boxes, the one that the detector is surest of."""
    seen = [(look, verdict) for look, verdict in row.looks if look.seen]
    if not seen:
        return None, None
    look, verdict = max(seen, key=lambda pair: pair[0].detection.confidence if pair[0].detection else 0.0)
    return look.seen, verdict


def _place(path: str) -> str:
    """Where a picture lies together with its neighbours in a record: its folder or, of one in a shard, the shard."""
    member = member_of(path)
    return os.path.dirname(path) if member is None else member.tar
