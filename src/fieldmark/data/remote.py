"""Object stores and whatever else fsspec reaches, such as `s3://bucket/birds`, beside folders of this machine.

Paths travel as `Path`, which makes `s3:/bucket` of `s3://bucket`; `url_of` gives the address back. A *place* below is
an absolute path or an address, as text.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from fieldmark.core.errors import DataError
from fieldmark.core.reading import reason

__all__ = [
    "WAITING",
    "Entry",
    "below",
    "entry",
    "is_remote",
    "listed",
    "open_for_reading",
    "open_for_writing",
    "place_of",
    "read_range",
    "real_place",
    "remove",
    "url_of",
    "with_files",
]

T = TypeVar("T")

_URL = re.compile(r"([a-z][a-z0-9+-]+):/+(.+)", re.DOTALL)
"""A protocol of two letters at least: one is a drive of Windows."""
WAITING = 16
"""Threads that ask for pictures at the same time. They wait for most of it, so there are more than cores."""

_WAITS = (0.5, 1.0, 2.0)
"""Seconds before another try; packages for object stores repeat requests, too."""
_STAMPS = ("ETag", "etag", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
"""What stores tell of the state of a file; of these, the first."""

_ARCHIVES = {"zip", "libarchive"}
"""Protocols whose addresses end with the file that they look into, so that nothing can be put behind them."""


class Entry(NamedTuple):
    """What is known of a file without opening it."""

    size: int
    stamp: str
    """Another one where the file has changed; "" where the store tells nothing."""


def url_of(path: Path | str) -> str | None:
    """The address that a path stands for; None for a path on this machine."""
    text = path if isinstance(path, str) else path.as_posix()
    found = _URL.fullmatch(text) if ":/" in text else None  # every path of a catalogue is asked, and few are addresses
    return f"{found[1]}://{found[2]}" if found else None


def is_remote(path: Path | str) -> bool:
    """Whether a path is an address."""
    return url_of(path) is not None


def place_of(path: Path | str) -> str:
    """A path as a place."""
    return url_of(path) or os.path.abspath(os.path.expanduser(path))


def real_place(path: Path | str) -> str:
    """A path as the place that it leads to: one for all links to it, and for all ways to write it."""
    return url_of(Path(path)) or os.path.realpath(os.path.expanduser(path))


def below(root: Path | str, path: str) -> str:
    """A path that is relative to a root, absolute or an address, as one that is not relative."""
    return path if is_remote(path) else os.path.join(root, path)


def read_range(place: str, start: int, end: int) -> bytes:
    """The bytes of a file from `start` to before `end`, fewer where it ends earlier.

    Raises FileNotFoundError if there is none, OSError if one on this machine cannot be read, and DataError if a store
    does not answer, after some tries.
    """
    if not is_remote(place):  # read for each picture of a training, so nothing stands between it and the disk
        with open(place, "rb", buffering=0) as file:
            file.seek(start)
            return file.read(end - start)
    return with_files(place, lambda files, path: bytes(files.cat_file(path, start=start, end=end)))


def entry(place: str) -> Entry | None:
    """What is known of a file; None if there is none. Raises DataError if a store does not answer."""
    try:
        return with_files(place, lambda files, path: _entry(files.info(path)))
    except (FileNotFoundError, NotADirectoryError):
        return None


def listed(place: str) -> dict[str, Entry]:
    """The files in and below a folder by their names in it, sorted; {} if there is none. Errors as of `entry`."""

    def find(files: Any, path: str) -> dict[str, Entry]:
        root = files._strip_protocol(path).rstrip("/") + "/"
        found = files.find(path, detail=True)
        return {name.removeprefix(root): _entry(about) for name, about in sorted(found.items())}

    try:
        return with_files(place, find)
    except (FileNotFoundError, NotADirectoryError):
        return {}


def remove(place: str) -> None:
    """Remove a file, if there is one."""
    if entry(place) is not None:
        with_files(place, lambda files, path: files.rm_file(path))


def with_files(place: str, act: Callable[[Any, str], T]) -> T:
    """What `act` makes of the file system of a place and the path there; it is tried again where a store fails.

    Raises FileNotFoundError, OSError for a place on this machine, and DataError for anything else.
    """
    for wait in (*_WAITS, None):
        try:
            return act(*_opened(place))
        except (FileNotFoundError, NotADirectoryError, DataError):
            raise
        except Exception as error:  # packages for stores have errors of their own
            if not is_remote(place):
                raise
            if wait is None or isinstance(error, PermissionError):
                raise DataError(
                    f"{place} cannot be reached: {reason(error)}",
                    "Check the address, the network and what you may read there. A training that had begun goes on "
                    "with --resume.",
                ) from error
            time.sleep(wait)
    raise AssertionError


def open_for_reading(place: str) -> IO[bytes]:
    """A file, any bytes of which can be read. Errors as of `with_files`."""
    return with_files(place, lambda files, path: files.open(path, "rb"))


def open_for_writing(place: str) -> IO[bytes]:
    """A new file, which is there when it is closed. Errors as of `with_files`."""
    return with_files(place, lambda files, path: files.open(path, "wb"))


def _opened(place: str) -> tuple[Any, str]:
    """fsspec keeps what it has opened, and opens it anew in a process that was forked."""
    import fsspec

    if place.partition(":")[0] in _ARCHIVES:
        raise DataError(f"{place} is in an archive, of which nothing is read", "Unpack it, and name the folder.")
    try:
        if is_remote(place):
            return fsspec.core.url_to_fs(place)
        return fsspec.filesystem("file", auto_mkdir=True), place
    except ImportError as error:
        raise DataError(f"{place} needs a package that is not installed", f"{reason(error).rstrip('.')}.") from error
    except ValueError as error:
        hint = "Addresses begin with s3://, gs://, az://, hf://, https:// or another protocol of fsspec."
        raise DataError(f"{place} cannot be opened: {reason(error)}", hint) from error


def _entry(about: dict[str, Any]) -> Entry:
    stamp = next((str(about[key]) for key in _STAMPS if about.get(key)), "")
    return Entry(int(about.get("size") or 0), stamp)
