"""The record of answers: what `predict --out` knows while it runs and afterwards. It is only ever appended to.

A record is JSON lines. The first is the `Header`; each other is the answer for one picture and ends with the CRC-32 of
what is before it. Answers are synced batch by batch. A line that is torn or damaged is no answer: its picture is
answered again when the work goes on. So wherever a machine dies, no picture is answered twice or left out.

What a network said is kept, not the verdict: accuracy, checklist, bursts and the form of a file are decided when a file
is written, from this record and the bundle, and may be decided again without computing anything.

Memory: the places of answers, about 600 bytes a picture, with its path.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, final

from fieldmark.answering.answers import Answer
from fieldmark.answering.lines import HeaderLine, answer_of, checked, line_of, path_of, told_of
from fieldmark.core.errors import RunError
from fieldmark.core.locks import lock
from fieldmark.core.reading import parse_json, reason
from fieldmark.core.storage import as_json, explained, make_folder, write_bytes
from fieldmark.runs.bundle import Bundle

__all__ = ["SUFFIX", "Header", "Kept", "Record", "is_record", "open_record", "read_answers", "remembering"]

SUFFIX = ".answers.jsonl"
"""How the names of records end."""
_VERSION = 1
_MOST_OPEN = 64


@dataclass(frozen=True)
class Header:
    """What all answers of a record have in common."""

    state: str
    """`Bundle.state` of what answered."""
    shard: str | None = None
    """The shard of the pictures, such as "3/8"; None for all of them."""
    boxes: str | None = None
    """The SHA-256 of the file with the boxes; None for whole pictures."""
    confidence: float | None = None
    """How sure a detector must be of a box that is classified."""
    root: str | None = field(default=None, compare=False)
    """The folder that was asked about; None if it was something else. Formats with relative paths begin there."""

    def differs_from(self, other: Header, *, joined: bool = False) -> list[str]:
        """In what, in words. Records that are `joined` may be of different shards."""
        told = {
            "state": "the model, or what is enrolled in it",
            "boxes": "the file of --boxes",
            "confidence": "--confidence",
        }
        told |= {} if joined else {"shard": "--shard"}
        return [words for key, words in told.items() if getattr(self, key) != getattr(other, key)]


def is_record(path: Path | str) -> bool:
    """Whether a file of this name is a record of answers."""
    return str(path).endswith(SUFFIX)


@final
@dataclass
class Record:
    """A record that is held by this process and appended to."""

    path: Path
    header: Header
    answered: set[str]
    """The pictures that have an answer."""
    wrote: set[tuple[str, str]] = field(default_factory=set)
    """The name and the SHA-256 of every file that was written from it, or nearly: a kill may have come before."""

    def append(self, found: Iterable[Answer]) -> None:
        """Add answers, and return once they are on the disk. Raises StorageError."""
        new = list(found)
        self._append([line_of(told_of(one)) for one in new])
        self.answered.update(one.path for one in new)

    def append_wrote(self, name: str, digest: str) -> None:
        """Remember a file that is being written, so that it may be replaced later."""
        self._append([line_of({"wrote": name, "sha256": digest})])
        self.wrote.add((name, digest))

    def finish(self) -> None:
        """Say that all pictures that were asked about have answers."""
        self._append([line_of({"finished": len(self.answered)})])

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
    with _held(path) as alone:
        if not alone:
            raise RunError(f"Another process is writing {path}", "Wait until it has finished.")
        is_new = not os.path.lexists(path)
        record = _begun(path, header, resume)
        try:
            yield record
        except BaseException:  # whatever ended it, a record without answers would stand in the way of the next start
            if is_new and not record.answered:
                _remove(path)  # work that is refused leaves nothing that would have to be resumed
            raise


@contextmanager
def remembering(kept: Kept) -> Iterator[Record | None]:
    """Hold the first record to remember what is written from all; None if another process does, or it is read-only."""
    path = kept.files[0]
    if not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
        yield None
        return
    with _held(path) as alone:
        yield _whole(path, kept) if alone else None


@contextmanager
def _held(path: Path) -> Iterator[bool]:
    """Hold the lock of a record; False if another process does."""
    place = path.with_name(f".{path.name}.lock")
    with ExitStack() as stack:
        with explained(path):
            alone = stack.enter_context(lock(place, wait=False))
        if alone:
            stack.callback(_remove, place)
        yield alone


def _remove(place: Path) -> None:
    with suppress(OSError):  # where a file that is held cannot be removed, it stays, and nobody minds
        place.unlink()


def _begun(path: Path, header: Header, resume: bool) -> Record:
    if not os.path.lexists(path):
        told = {"fieldmark": "answers", "version": _VERSION, **asdict(header)}
        write_bytes(path, line_of(told))
        return Record(path, header, set())
    if not resume:
        raise RunError(
            f"{path} holds answers already", "Add --resume to go on with them, or choose another name with --out."
        )
    kept = read_answers([path])
    if different := header.differs_from(kept.header):
        raise RunError(
            f"{path} was begun with other settings; what differs: {', '.join(different)}",
            "Use what it was begun with, or begin anew with another --out.",
        )
    return _whole(path, kept)


def _whole(path: Path, kept: Kept) -> Record:
    """The record as it was read, after what is torn at its end was cut off."""
    with explained(path), path.open("rb+") as file:
        file.truncate(sum(len(line) for line in file if line.endswith(b"\n")))
    return Record(path, kept.header, set(kept.places), set(kept.wrote))


# ---- reading


@final
@dataclass
class Kept:
    """The answers in one or more records, read one by one, folder by folder."""

    header: Header
    places: dict[str, tuple[int, int, int]]
    """Which record, where and how long: of each picture's answer."""
    files: Sequence[Path]
    wrote: set[tuple[str, str]]
    skipped: dict[str, str]
    """Why pictures have no answer, by their paths."""
    num_classes: int | None = None
    """How many numbers an answer has, if it is known."""
    shards: tuple[str | None, ...] = ()
    """Which shard each record holds."""
    unfinished: tuple[Path, ...] = ()
    """The records that lack answers: their work was stopped, or lines were damaged, and it has not gone on yet."""
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
                    yield answer_of(line, self.num_classes)
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
    wrote: set[tuple[str, str]] = set()
    skipped: dict[str, str] = {}
    headers: list[tuple[Path, Header]] = []
    damaged = twice = 0
    unfinished: dict[Path, None] = {}
    for which, path in enumerate(paths):
        count, done = 0, None
        try:
            with path.open("rb") as file:
                headers.append((path, _header(file.readline(), path)))
                at = file.tell()
                for line in file:
                    body = line.removesuffix(b"\n")
                    if not line.endswith(b"\n") or (values := checked(body)) is None:
                        damaged += 1
                    elif "fieldmark" in values:  # records were put one behind the other
                        headers.append((path, _header(line, path)))
                        unfinished |= {path: None} if done != count else {}
                        count, done = 0, None
                    elif "finished" in values:
                        done = values["finished"]
                    elif "wrote" in values:
                        wrote.add((values["wrote"], values["sha256"]))
                    else:
                        count += 1
                        name = path_of(values)
                        twice += name in places
                        if name not in places and "skipped" in values:
                            skipped[name] = values["skipped"]
                        places.setdefault(name, (which, at, len(body)))
                    at += len(line)
        except OSError as error:
            raise RunError(f"{path} cannot be read: {reason(error)}", "") from None
        unfinished |= {path: None} if done != count else {}
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
    values = checked(line.removesuffix(b"\n"))
    try:
        if values is None:
            raise ValueError("its first line is not that of a record")
        told = parse_json(as_json(values), HeaderLine)
        if told["version"] > _VERSION:
            raise ValueError("a later version of Fieldmark wrote it")
    except ValueError as error:
        raise RunError(f"{path} is no record of answers: {reason(error)}", "Give a file that predict wrote.") from None
    return Header(told["state"], told["shard"], told["boxes"], told["confidence"], told["root"])
