r"""`Log`: the file that is the truth about a gallery. It is only ever appended to, and tells what a crash has left.

    record     marker, length of the payload, CRC-32, where its addition begins, payload
    payload    HEADER: a `Description` as JSON, the first record
               ADD: id; path, digest, label and group, each with its length; the vector
               REMOVE: id
               SEAL: nothing; whoever writes leaves it behind when the file is closed

An addition is one write of several records, synced before it is acknowledged; the next one is written only then. So a
record that cannot be read is the torn end of an addition that nobody was told of if nothing follows it but records of
the same addition. If anything later follows, it was acknowledged, and the file is damaged.
"""

from __future__ import annotations

import contextlib
import os
import struct
import zlib
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.reading import open_regular, parse_json, reason
from fieldmark.core.storage import explained, json_bytes
from fieldmark.gallery.store import FORMAT, Absent, Description, Entry

__all__ = ["NAME", "Addition", "LogReader", "LogWriter", "Removal", "write_log"]

NAME = "vectors.log"
AGAIN = "Restore it from a copy, or delete the folder and index the photographs again."

_MARKER = b"\xf5FMG"
_HEAD = struct.Struct("<4sIIQ")
_CHECKED = struct.Struct("<IQ")
_HEADER, _ADD, _REMOVE, _SEAL = range(4)
_FIXED = struct.Struct("<BQ4I")
_SHORT = struct.Struct("<BQ")
_ABSENT = 2**32 - 1
_LARGEST = 2**24
"""No payload is longer, in bytes."""
_MOST = 2**50
_CHUNK = 2**20


class Addition(NamedTuple):
    """A picture with its vector (D,)."""

    entry: Entry
    vector: NDArray[np.floating]


class Removal(NamedTuple):
    """The end of a picture."""

    id: int


class LogReader:
    """What a log holds, from its beginning to the last acknowledged record. Needs no lock."""

    def __init__(self, path: Path) -> None:
        """Raises RunError if there is none, or if it does not begin as one."""
        self.path = path
        self.end = 0
        """How far it was read, in bytes."""
        self.torn = False
        """Whether something follows that a crash has left, or another process is writing."""
        with contextlib.closing(self._payloads()) as payloads:
            first = next(payloads, None)
        try:
            if first is None or first[0] != _HEADER:
                raise ValueError("it has no header")
            self.description = parse_json(first[1:], Description)
            if self.description["format"] != FORMAT:
                raise ValueError(f"it is of format {self.description['format']}, and this version reads {FORMAT}")
        except ValueError as error:
            raise RunError(f"{path} is not a gallery that can be read: {error}", AGAIN) from None

    def read(self) -> Iterator[Addition | Removal]:
        """What was added and removed since this was read last. Raises RunError for a damaged record."""
        dtype, dimension = np.dtype(self.description["dtype"]), self.description["dimension"]
        for payload in self._payloads():
            try:
                kind = payload[0]
                if kind == _ADD:
                    yield _addition(payload, dtype, dimension)
                elif kind == _REMOVE:
                    yield Removal(_SHORT.unpack(payload)[1])
                elif kind != _SEAL:
                    raise ValueError("it is of an unknown kind")
            except (ValueError, struct.error) as error:
                raise self._damaged(self.end - len(payload) - _HEAD.size, str(error)) from None

    def _payloads(self) -> Generator[bytes]:
        try:
            with open_regular(self.path, most=_MOST) as file:
                size = os.fstat(file.fileno()).st_size
                file.seek(self.end)
                while self.end < size:
                    payload = _payload(file, self.end, size)
                    if payload is None:
                        if not _is_torn(file, self.end, size):
                            raise self._damaged(self.end, "its checksum does not match")
                        self.torn = True
                        return
                    self.end += _HEAD.size + len(payload)
                    yield payload
        except FileNotFoundError:
            raise Absent(f"There is no gallery at {self.path.parent}", "Make one with: fieldmark index RUN") from None
        except (OSError, ValueError) as error:
            raise RunError(f"{self.path} cannot be read: {reason(error)}", AGAIN) from None

    def _damaged(self, at: int, problem: str) -> RunError:
        return RunError(f"{self.path} is damaged: the record at byte {at:,} cannot be read ({problem})", AGAIN)


class LogWriter:
    """Appends to a log, which has been read to its end. Only for whoever holds the lock of the folder."""

    def __init__(self, reader: LogReader) -> None:
        """Cuts off what a crash has left, and warns of it."""
        self.path, self.end = reader.path, reader.end
        self._dtype = np.dtype(reader.description["dtype"])
        with explained(self.path):
            self._file = self.path.open("r+b", buffering=0)
            lost = self._file.seek(0, os.SEEK_END) - self.end
            if lost:
                self._file.truncate(self.end)
                os.fsync(self._file.fileno())
            self._file.seek(self.end)
        self.cut = lost
        """How many bytes were cut off."""
        self._begun = False

    def append(self, changes: Iterable[Addition | Removal]) -> None:
        """Write changes as one addition. Once this returns, they survive a crash. Raises StorageError."""
        self._begun = True
        self._write(_encoded(change, self._dtype) for change in changes)

    def close(self) -> None:
        """Seal what was written, so that damage to it is never taken for the work of a crash."""
        if self._file.closed:
            return
        with contextlib.suppress(StorageError):
            if self._begun:
                self._write([bytes([_SEAL])])
        self._file.close()

    def _write(self, payloads: Iterable[bytes]) -> None:
        data = b"".join(_record(payload, self.end) for payload in payloads)
        try:
            with explained(self.path):
                written = 0
                while written < len(data):  # a write may stop short, where the disk is nearly full
                    written += self._file.write(data[written:]) or 0
                os.fsync(self._file.fileno())
        except BaseException:  # whatever of it was written would stand between two additions
            self._file.truncate(self.end)
            self._file.seek(self.end)
            raise
        self.end += len(data)


def write_log(path: Path, description: Description, changes: Iterable[Addition | Removal] = ()) -> None:
    """Write a new log in one step, in place of another one if there is one."""
    dtype, beginning = np.dtype(description["dtype"]), path.with_name(f".{path.name}.new")
    with explained(path):
        with beginning.open("wb") as file:
            file.write(_record(bytes([_HEADER]) + json_bytes(description), 0))
            for change in changes:
                file.write(_record(_encoded(change, dtype), 0))
            file.write(_record(bytes([_SEAL]), file.tell()))
            file.flush()
            os.fsync(file.fileno())
        os.replace(beginning, path)
        if hasattr(os, "O_DIRECTORY"):
            handle = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


# ---- bytes


def _record(payload: bytes, beginning: int) -> bytes:
    assert len(payload) <= _LARGEST
    check = zlib.crc32(payload, zlib.crc32(_CHECKED.pack(len(payload), beginning)))
    return _HEAD.pack(_MARKER, len(payload), check, beginning) + payload


def _payload(file: IO[bytes], at: int, size: int) -> bytes | None:
    """The payload of the record at the place of the file; None if none that is whole begins there."""
    found = _record_at(file, at, size)
    return None if found is None else found[0]


def _record_at(file: IO[bytes], at: int, size: int) -> tuple[bytes, int] | None:
    """The payload, and where its addition begins. Reads on from the place of the file, which must be `at`."""
    head = file.read(_HEAD.size)
    if len(head) < _HEAD.size:
        return None
    marker, length, check, beginning = _HEAD.unpack(head)
    if marker != _MARKER or not 0 < length <= _LARGEST or at + _HEAD.size + length > size:
        return None
    payload = file.read(length)
    if len(payload) < length or check != zlib.crc32(payload, zlib.crc32(_CHECKED.pack(length, beginning))):
        return None
    return payload, beginning


def _is_torn(file: IO[bytes], at: int, size: int) -> bool:
    """Whether all that can be read after a record that cannot belongs to the same addition."""
    begin, kept = at + 1, b""
    while begin < size:
        file.seek(begin)
        kept = file.read(_CHUNK)
        place = kept.find(_MARKER)
        while place >= 0:
            file.seek(begin + place)
            found = _record_at(file, begin + place, size)
            if found is not None and found[1] > at:
                return False
            place = kept.find(_MARKER, place + 1)
        begin += max(1, len(kept) - len(_MARKER) + 1)
    return True


def _encoded(change: Addition | Removal, dtype: np.dtype[np.floating]) -> bytes:
    if isinstance(change, Removal):
        return _SHORT.pack(_REMOVE, change.id)
    entry, vector = change
    texts = [
        None if one is None else one.encode("utf-8", "surrogateescape")
        for one in (entry.path, entry.digest, entry.label, entry.group)
    ]
    lengths = [_ABSENT if one is None else len(one) for one in texts]
    head = _FIXED.pack(_ADD, entry.id, *lengths)
    return head + b"".join(one for one in texts if one is not None) + np.asarray(vector, dtype).tobytes()


def _addition(payload: bytes, dtype: np.dtype[np.floating], dimension: int) -> Addition:
    _, number, *lengths = _FIXED.unpack_from(payload)
    at, texts = _FIXED.size, []
    for length in lengths:
        texts.append(None if length == _ABSENT else payload[at : at + length].decode("utf-8", "surrogateescape"))
        at += 0 if length == _ABSENT else length
    if len(payload) - at != dimension * dtype.itemsize:
        raise ValueError(f"it has no vector of {dimension:,} numbers")
    path, digest, label, group = texts
    if not path or not digest:
        raise ValueError("it has no path or no digest")
    return Addition(Entry(path, digest, label, group, number), np.frombuffer(payload, dtype, dimension, at))
