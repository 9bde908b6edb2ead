"""Shards: pictures that lie in tar files, several thousand in each, and their addresses.

    /data/birds/train-000012.tar/1536+48211/wren/0001.jpg
    └──────────── tar ─────────┘ └ where ─┘ └── name ──┘

An address is a path: that of the tar, the picture's first byte and the number of its bytes, and its name in there. So
it can stand wherever the path of a picture can, in a table and in a `Catalog`, on this machine and in an object store,
and nobody needs an index to read it. Any picture is one read, whatever the order.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from fieldmark.core.errors import DataError, ImageError
from fieldmark.core.reading import open_regular, reason
from fieldmark.data.limits import MAX_BYTES, refuse_above
from fieldmark.data.remote import Entry, below, entry, place_of, read_range, url_of

__all__ = [
    "BLOCK",
    "INDEX",
    "UNFINISHED",
    "Member",
    "absent",
    "is_there",
    "member_of",
    "open_picture",
    "read_member",
    "stamp_of",
]

BLOCK = 512
"""A tar consists of blocks of so many bytes; one with the name and size stands before each file in it."""

INDEX, UNFINISHED = "catalog.parquet", "UNFINISHED"
"""The files beside our own shards: the table, and what says that it is still to come."""

_ADDRESS = re.compile(r"(.+?\.tar)/(\d+)\+(\d+)/(.+)", re.DOTALL)
_AGAIN = "Copy or make the shards again. If only the table is wrong, remove it: shards say themselves what they hold."


class Member(NamedTuple):
    """A file in a tar."""

    tar: str
    """The place of the tar."""
    start: int
    size: int
    name: str

    def __str__(self) -> str:
        return f"{self.tar}/{self.start}+{self.size}/{self.name}"

    @property
    def end(self) -> int:
        """Where the bytes end in the tar."""
        return self.start + self.size


def member_of(path: Path | str) -> Member | None:
    """What an address stands for; None for any other path."""
    text = path if isinstance(path, str) else path.as_posix()
    found = _ADDRESS.fullmatch(text) if ".tar/" in text else None
    return Member(url_of(found[1]) or found[1], int(found[2]), int(found[3]), found[4]) if found else None


def folder_of(path: str) -> str:
    """Where a picture lies: its folder or, of one in a shard, the shard with the folder of its name."""
    if (member := member_of(path)) is None:
        return Path(path).parent.as_posix()
    return f"{member.tar}/{os.path.dirname(member.name)}"


def read_member(member: Member) -> bytes:
    """The bytes of a picture in a shard.

    Raises ImageError if there is no such tar. Raises DataError if a store does not answer, and if the tar holds another
    file there, or ends before: then it is not this picture that is wrong, but the shard.
    """
    refuse_above(str(member), member.size >> 20, MAX_BYTES >> 20, "MB")
    try:
        data = read_range(member.tar, member.start - BLOCK, member.end)
    except FileNotFoundError as error:
        raise ImageError(f"{member.tar}, which holds {member.name}, does not exist", "Check the path.") from error
    except OSError as error:
        raise ImageError(
            f"{member.tar} cannot be read: {reason(error)}", "Check the permissions and the disk."
        ) from error
    if len(data) < BLOCK + member.size:
        raise _cut_short(member.tar, member.start - BLOCK + len(data), member)
    if not _is_header_of(data[:BLOCK], member):
        raise DataError(
            f"{member.tar} does not hold {member.name} where its index says: they do not belong together", _AGAIN
        )
    return data[BLOCK:]


def _cut_short(tar: str, size: int, member: Member) -> DataError:
    return DataError(
        f"{tar} is cut short: it ends after {size:,} bytes, but {member.name} ends at {member.end:,}", _AGAIN
    )


def _is_header_of(block: bytes, member: Member) -> bool:
    """Whether a tar's block says what is known of the file behind it. Long names and those in other letters than ASCII
    are written in several ways, so they are not compared."""
    try:
        size = int(block[124:136].strip(b"\0 ") or b"-", 8)
    except ValueError:
        return False
    name, own = block[:100].rstrip(b"\0").rpartition(b"/")[2], member.name.encode(errors="surrogateescape")
    return size == member.size and (name == own.rpartition(b"/")[2] or len(own) >= 100 or not own.isascii())


@contextmanager
def open_picture(path: Path) -> Iterator[IO[bytes]]:
    """The file of a picture, or its bytes in a shard, open; errors as of `open_regular` and `read_member`."""
    if (member := member_of(path)) is not None:
        yield io.BytesIO(read_member(member))
        return
    with open_regular(path, most=MAX_BYTES) as file:
        yield file


def is_there(path: Path) -> bool:
    """Whether the file of a picture is there, or the shard that holds it."""
    member = member_of(path)
    return os.path.isfile(path) if member is None else entry(member.tar) is not None


def absent(root: Path, paths: Sequence[str]) -> list[int]:
    """The rows of pictures that are not there; each shard is looked at once. Raises DataError if one is cut short."""
    sizes: dict[str, int | None] = {}
    found = []
    for row, path in enumerate(paths):
        file = below(root, path)
        if (member := member_of(file)) is None:
            there = os.path.isfile(file)
        else:
            if member.tar not in sizes:
                about = entry(member.tar)
                sizes[member.tar] = None if about is None else about.size
            size = sizes[member.tar]
            there = size is not None
            if size is not None and size < member.end:
                raise _cut_short(member.tar, size, member)
        if not there:
            found.append(row)
    return found


def stamp_of(place: str, shards: dict[str, Entry | None]) -> tuple[int | str, ...]:
    """What tells that a picture's file is still the one that it was; `shards` remembers what was asked about tars.

    A file of the same size may be given the old time, but not the old time of change, nor the number of another.
    (Windows has a time of creation in its place, which with the number says almost as much.) Raises OSError if there is
    none.
    """
    if (member := member_of(place)) is None:
        status = os.stat(place)
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino
    if member.tar not in shards:
        shards[member.tar] = entry(place_of(member.tar))
    return shards[member.tar] or ()
