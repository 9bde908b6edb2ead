"""Which pictures are asked about, all of them or a shard, with what a detector found; and asking, each only once.

A list of pictures is held in memory: 300,000 paths of a hundred letters take 50 MB.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

from fieldmark.answering.answers import Answer, Picture
from fieldmark.answering.record import SUFFIX, Kept, Record, is_record
from fieldmark.answering.things import Tell, Thing, Things, named
from fieldmark.core.errors import DataError, FieldmarkError
from fieldmark.core.listener import Listener
from fieldmark.core.wording import counted, first_few
from fieldmark.data.detections import Detected
from fieldmark.data.readers.columns import Columns
from fieldmark.data.readers.detections import read_detections

__all__ = [
    "Answers",
    "Pictures",
    "Shard",
    "answer",
    "detected_in",
    "listed",
    "record_beside",
    "records_in",
    "root_of",
    "warn_of_gaps",
]


class Shard(NamedTuple):
    """The i-th of n shards of any number of pictures.

    A picture's shard follows from its path alone. So the jobs of an array need not see the same folder at the same
    moment, and pictures that are added later move no others.
    """

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Of "3/8". Raises FieldmarkError."""
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text.strip())
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise FieldmarkError(f"--shard {text!r} is not understood", "Write it as in --shard 3/8, from 1/8 to 8/8.")
        return cls(int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def has(self, path: str) -> bool:
        """Whether a picture belongs to this shard."""
        digest = hashlib.blake2b(os.fsencode(path), digest_size=8).digest()
        return int.from_bytes(digest, "big") % self.of == self.number - 1


def root_of(things: Things) -> Path | None:
    """The one folder that is asked about, or None."""
    one = (
        things[0]
        if isinstance(things, Sequence) and not isinstance(things, (str, bytes)) and len(things) == 1
        else things
    )
    return Path(one) if isinstance(one, (str, Path)) and os.path.isdir(one) else None


def listed(things: Things, tell: Tell, columns: Columns | None) -> list[str]:
    """The paths of all pictures, each once. Raises DataError for pictures that are no files."""
    paths: dict[str, None] = {}
    for thing in named(things, tell, columns):
        if not isinstance(thing.source, Path):
            raise DataError(f"{thing.name} is no file", "Only files have answers that can be continued: give paths.")
        paths[thing.name] = None
    return list(paths)


def detected_in(boxes: Path, root: Path | None) -> dict[str, Detected]:
    """What a file says was detected, by the paths of pictures, which are relative to `root` there. Raises DataError."""
    if root is None:
        raise DataError(
            "--boxes needs the one folder that its paths are relative to", "Name that folder and nothing else."
        )
    found = {_path_in(root, one.path): one for one in read_detections(boxes)}
    if not found:
        raise DataError(f"{boxes} lists no pictures", "Give the file that a detector wrote.")
    return found


def _path_in(root: Path, path: str) -> str:
    """A path that Windows wrote has backslashes, which elsewhere can be part of a name."""
    place = os.path.join(root, path)
    return os.path.join(root, path.replace("\\", "/")) if "\\" in path and not os.path.lexists(place) else place


@dataclass(frozen=True)
class Pictures:
    """The pictures that have no answer yet, however often they are gone through."""

    paths: Sequence[str]
    detected: Mapping[str, Detected]
    passed_over: Collection[str]

    def __iter__(self) -> Iterator[Picture]:
        for path in self.paths:
            if path not in self.passed_over:
                yield Picture(Thing(path, Path(path)), self.detected.get(path))


class Answers(Protocol):
    """Answers pictures, some at a time and each once."""

    def __call__(self, pictures: Iterable[Picture], *, confidence: float = 0.0) -> Iterator[list[Answer]]: ...


def answer(by: Answers, asked: Pictures, confidence: float, record: Record, listener: Listener) -> bool:
    """Answer for the pictures that have no answer in the record yet. False if a request to stop came before the end."""
    total, there = len(asked.paths), sum(path in record.answered for path in asked.paths)
    if there:
        listener.note(f"{counted(there, 'picture')} of {total:,} are answered already")
    with listener.stoppable() as stopped, listener.progress("Answering") as tick:
        for some in by(asked, confidence=confidence):
            record.append(some)
            there += len(some)
            tick(there, total)
            if stopped() and there < total:
                return False
    return True


def record_beside(out: Path, shard: Shard | None) -> Path:
    """The record of what becomes `out`: season.answers.jsonl of season.csv and of season.html."""
    which = "" if shard is None else f".{shard.number}-of-{shard.of}"
    return out.parent / f"{out.stem}{which}{SUFFIX}"


def records_in(things: Things, options: Mapping[str, object]) -> list[Path]:
    """The records of answers, if that is what was given.

    Raises FieldmarkError for records beside photographs, and with `options` that only photographs have.
    """
    several = [things] if isinstance(things, (str, Path)) else things
    if not isinstance(several, Sequence) or isinstance(several, bytes):
        return []
    found = [Path(one) for one in several if isinstance(one, (str, Path)) and is_record(one)]
    if found and len(found) < len(several):
        raise FieldmarkError(
            f"{found[0]} is a record of answers, but not all that was given is one",
            "Give photographs, whose answers are computed, or records, whose answers are written.",
        )
    if found and (useless := [name for name, given in options.items() if given]):
        raise FieldmarkError(
            f"{' and '.join(useless)} cannot be given with records of answers, which are only written",
            "Give photographs, or only the records.",
        )
    return found


def warn_of_gaps(kept: Kept, listener: Listener) -> None:
    """Say if shards are missing, or answers in their records."""
    if kept.unfinished:
        named = first_few(map(str, kept.unfinished))
        listener.warn(f"These records are not finished; pictures are missing from them: {named}")
        if kept.damaged:
            lines = f"{counted(kept.damaged, 'line')} of them cannot be read"
            listener.warn(f"{lines}: run again with --resume to answer their pictures")
    shards = {Shard.parse(one) for one in kept.shards if one}
    for count in {one.of for one in shards}:
        if lacking := [str(Shard(i, count)) for i in range(1, count + 1) if Shard(i, count) not in shards]:
            listener.warn(f"Of {count:,} shards these are missing: {first_few(lacking)}")
