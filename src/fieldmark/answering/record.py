"""The record of answers: what `predict --out` knows while it runs and afterwards. It is only ever appended to.

A record is JSON lines. The first is the `Header`; each other is the answer for one picture and ends with the CRC-32 of
what is before it. Answers are synced batch by batch. A line that is torn or damaged is no answer: its picture is
answered again when the work goes on. So wherever a machine dies, no picture is answered twice or left out.

What a network said is kept, not the verdict: accuracy, checklist, bursts and the form of a file are decided when a file
is written, from this record and the bundle, and may be decided again without computing anything.

Memory: the places of answers, about 600 bytes a picture, with its path.
"""

from __future__ import annotations

import base64
import os
import re
import zlib
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Annotated, Any, Literal, NotRequired, final

import numpy as np
from annotated_types import Ge, Len
from numpy.typing import NDArray
from typing_extensions import TypedDict

from fieldmark.answering.answers import Answer, Look, Seen
from fieldmark.core.errors import RunError
from fieldmark.core.locks import lock
from fieldmark.core.reading import parse_json, reason
from fieldmark.core.storage import as_json, explained, make_folder, write_bytes
from fieldmark.core.wording import written
from fieldmark.data.bursts import Taken
from fieldmark.data.detections import Detection
from fieldmark.runs.bundle import Bundle

__all__ = ["SUFFIX", "Header", "Kept", "Record", "is_record", "open_record", "read_answers"]

SUFFIX = ".answers.jsonl"
"""How the names of records end."""
_VERSION = 1
_ENDING = re.compile(rb',"crc":"([0-9a-f]{8})"\}$')
_MOST_OPEN = 64


@dataclass(frozen=True)
class Header:
    """What all answers of a record have in common."""

    state: str
    """`Bundle.state` of what answered."""
    shard: str | None = None
    """The part of the pictures, such as "3/8"; None for all of them."""
    boxes: str | None = None
    """The SHA-256 of the file with the boxes; None for whole pictures."""
    confidence: float | None = None
    """How sure a detector must be of a box that is classified."""
    root: str | None = field(default=None, compare=False)
    """The folder that was asked about; None if it was something else. Formats with relative paths begin there."""

    def differs_from(self, other: Header, *, joined: bool = False) -> list[str]:
        """In which parts, in words. Records that are `joined` may be of different shards."""
        told = {
            "state": "the model, or what is enrolled in it",
            "boxes": "the file of --boxes",
            "confidence": "--confidence",
        }
        told |= {} if joined else {"shard": "--shard"}
        return [words for key, words in told.items() if getattr(self, key) != getattr(other, key)]


class _HeaderLine(TypedDict):
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
    seconds: float
    camera: str
    zone: NotRequired[str]


class _AnswerLine(TypedDict):
    path: str
    raw: NotRequired[str]
    skipped: NotRequired[str]
    size: NotRequired[Annotated[list[Annotated[int, Ge(1)]], Len(2, 2)]]
    taken: NotRequired[_TakenLine]
    sequence: NotRequired[str]
    looks: NotRequired[list[_LookLine]]


class _WroteLine(TypedDict):
    wrote: str
    sha256: str


class _FinishedLine(TypedDict):
    finished: int


_KINDS = {b'{"wrote"': _WroteLine, b'{"fieldmark"': _HeaderLine, b'{"finished"': _FinishedLine}


def is_record(path: Path | str) -> bool:
    """Whether a file of this name is a record of answers."""
    return str(path).endswith(SUFFIX)


@final
@dataclass
class Record:
    """A record that is held by this process and appended to."""

    path: Path
    answered: set[str]
    """The pictures that have an answer."""
    wrote: dict[str, str] = field(default_factory=dict)
    """The SHA-256 of the files that were written from it, by their names."""

    def append(self, found: Iterable[Answer]) -> None:
        """Add answers, and return once they are on the disk. Raises StorageError."""
        new = list(found)
        self._append([_line(_told(one)) for one in new])
        self.answered.update(one.path for one in new)

    def append_wrote(self, name: str, digest: str) -> None:
        """Remember a file that is being written, so that it may be replaced later."""
        self._append([_line({"wrote": name, "sha256": digest})])
        self.wrote[name] = digest

    def finish(self) -> None:
        """Say that all pictures that were asked about have answers."""
        self._append([_line({"finished": len(self.answered)})])

    def _append(self, lines: Sequence[bytes]) -> None:
        with explained(self.path), self.path.open("ab") as file:
            file.write(b"".join(lines))
            file.flush()
            os.fsync(file.fileno())


@contextmanager
def open_record(path: Path, header: Header, *, resume: bool) -> Iterator[Record]:
    """Hold a record, a new one or, with `resume`, the one that is there; what is torn at its end is cut off.

    Raises RunError if there is one already that is not to be resumed, if its header says something else, and if another
    process is at work on it; StorageError if it cannot be written.
    """
    make_folder(path.parent)
    place = path.with_name(f".{path.name}.lock")
    with explained(path), lock(place, wait=False) as alone:
        if not alone:
            raise RunError(f"Another process is writing {path}", "Wait until it has finished.")
        try:
            yield _begun(path, header, resume)
        finally:
            with suppress(OSError):  # where a file that is held cannot be removed, it stays, and nobody minds
                place.unlink()


def _begun(path: Path, header: Header, resume: bool) -> Record:
    if not os.path.lexists(path):
        told = {"fieldmark": "answers", "version": _VERSION, **asdict(header)}
        write_bytes(path, _line(told))
        return Record(path, set())
    if not resume:
        raise RunError(
            f"{path} holds answers already", "Add --resume to go on with them, or choose another name with --out."
        )
    kept = read_answers([path])
    if different := header.differs_from(kept.header):
        raise RunError(
            f"{path} was begun with something else: this differs now: {', '.join(different)}",
            "Use what it was begun with, or begin anew with another --out.",
        )
    with path.open("rb+") as file:
        file.seek(0)
        whole = 0
        for line in file:
            whole += len(line) if line.endswith(b"\n") else 0
        file.truncate(whole)
    return Record(path, set(kept.paths), kept.wrote)


# ---- reading


@final
@dataclass
class Kept:
    """The answers in one or more records, read one by one, folder by folder."""

    header: Header
    places: dict[str, tuple[int, int, int]]
    """Which record, where and how long: of each picture's answer."""
    files: Sequence[Path]
    wrote: dict[str, str]
    skipped: dict[str, str]
    """Why pictures have no answer, by their paths."""
    num_classes: int | None = None
    """How many numbers an answer has, if it is known."""
    shards: tuple[str | None, ...] = ()
    """Which part each record holds."""
    unfinished: tuple[Path, ...] = ()
    """The records of work that was stopped, and has not gone on yet."""
    damaged: int = 0
    """How many lines are no answers."""
    twice: int = 0
    """How many pictures have more than one answer, of which the first counts."""

    @property
    def paths(self) -> list[str]:
        """The pictures, sorted by folder and name."""
        return sorted(self.places, key=os.path.split)

    def __len__(self) -> int:
        return len(self.places)

    def __iter__(self) -> Iterator[Answer]:
        """The answers in the order of `paths`. Raises RunError for one that changed meanwhile."""
        opened: OrderedDict[int, IO[bytes]] = OrderedDict()
        try:
            for path in self.paths:
                which, at, length = self.places[path]
                if which not in opened:
                    if len(opened) == _MOST_OPEN:
                        opened.popitem(last=False)[1].close()
                    opened[which] = self.files[which].open("rb")
                opened[which].seek(at)
                line = opened[which].read(length)
                try:
                    yield _answer_of(line, self.num_classes)
                except ValueError as error:
                    raise RunError(
                        f"{self.files[which]} has a damaged answer for {path}: {error}", "Begin anew."
                    ) from None
        finally:
            for file in opened.values():
                file.close()


def read_answers(paths: Sequence[Path], bundle: Bundle | None = None) -> Kept:
    """The answers in records of one model, which must be that of the `bundle`. Raises RunError."""
    places: dict[str, tuple[int, int, int]] = {}
    wrote: dict[str, str] = {}
    skipped: dict[str, str] = {}
    headers: list[tuple[Path, Header]] = []
    damaged = twice = 0
    unfinished = []
    for which, path in enumerate(paths):
        count = finished = 0
        try:
            with path.open("rb") as file:
                headers.append((path, _header(file.readline(), path)))
                at = file.tell()
                for line in file:
                    body = line.removesuffix(b"\n")
                    if not line.endswith(b"\n") or (values := _checked(body)) is None:
                        damaged += 1
                    elif "fieldmark" in values:  # records were put one behind the other
                        headers.append((path, _header(line, path)))
                    elif "finished" in values:
                        finished = values["finished"]
                    elif "wrote" in values:
                        wrote[values["wrote"]] = values["sha256"]
                    else:
                        count += 1
                        name = _path_of(values)
                        twice += name in places
                        if name not in places and "skipped" in values:
                            skipped[name] = values["skipped"]
                        places.setdefault(name, (which, at, len(body)))
                    at += len(line)
        except OSError as error:
            raise RunError(f"{path} cannot be read: {reason(error)}", "") from None
        if finished < count or not finished:
            unfinished.append(path)
    _check_alike(headers, bundle)
    return Kept(
        headers[0][1],
        places,
        paths,
        wrote,
        skipped,
        len(bundle.classes) if bundle else None,
        tuple(header.shard for _, header in headers),
        tuple(unfinished),
        damaged,
        twice,
    )


def _check_alike(headers: Sequence[tuple[Path, Header]], bundle: Bundle | None) -> None:
    first_path, first = headers[0]
    for path, header in headers:
        if bundle is not None and header.state != bundle.state:
            raise RunError(
                f"{path} holds answers of another model, or of this one before something in it changed",
                "Give the run that answered.",
            )
        if different := header.differs_from(first, joined=True):
            raise RunError(
                f"{first_path} and {path} cannot be joined, since they differ in this: {', '.join(different)}",
                "Join records of one model and the same options.",
            )


def _header(line: bytes, path: Path) -> Header:
    values = _checked(line.removesuffix(b"\n"))
    try:
        if values is None:
            raise ValueError("its first line is not that of a record")
        told = parse_json(as_json(values), _HeaderLine)
        if told["version"] > _VERSION:
            raise ValueError("a later version of Fieldmark wrote it")
    except ValueError as error:
        raise RunError(f"{path} is no record of answers: {reason(error)}", "Give a file that predict wrote.") from None
    return Header(told["state"], told["shard"], told["boxes"], told["confidence"], told["root"])


# ---- lines


def _line(values: dict[str, Any]) -> bytes:
    text = as_json(values).encode()
    return text[:-1] + b',"crc":"%08x"}\n' % zlib.crc32(text)


def _checked(line: bytes) -> dict[str, Any] | None:
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


def _path_of(values: dict[str, Any]) -> str:
    return os.fsdecode(base64.b64decode(values["raw"])) if "raw" in values else str(values["path"])


def _told(one: Answer) -> dict[str, Any]:
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


def _answer_of(line: bytes, num_classes: int | None) -> Answer:
    """Raises ValueError for a line that is no answer of so many classes."""
    if (values := _checked(line)) is None:
        raise ValueError("its line has changed")
    looks = tuple(_look_of(one) for one in values.get("looks", ()))
    if num_classes and any(look.seen and len(look.seen.logits) != num_classes for look in looks):
        raise ValueError(f"it is not for {num_classes:,} classes")
    when = values.get("taken")
    return Answer(
        _path_of(values),
        looks,
        values.get("skipped", ""),
        tuple(values["size"]) if "size" in values else None,
        Taken(float(when["seconds"]), when["camera"], when.get("zone", "")) if when else None,
        values.get("sequence", ""),
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
