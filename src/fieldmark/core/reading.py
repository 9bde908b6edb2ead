"""Reading files that may have come from anybody: what is wrong with one is said in a line, and nothing else happens.

What is read has a schema, which is a type: `read_json(path, dict[str, float])`, or a TypedDict that says which keys a
file has. Arrays have theirs in `fieldmark.core.arrays`.
"""

from __future__ import annotations

import json
import math
import os
import re
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

from fieldmark.core.errors import FieldmarkError, RunError
from fieldmark.core.wording import brief

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["MOST", "open_regular", "other_version", "parse_json", "parse_toml", "read_json", "read_regular", "reason"]

T = TypeVar("T")

_MOST_DIGITS = 1000
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]|[\ud800-\udfff]")

MOST = 256 * 2**20
"""The size in bytes from which a file is not what it should be, where nothing else is known."""


@contextmanager
def open_regular(path: Path, *, most: int = MOST) -> Iterator[IO[bytes]]:
    """A regular file, open for reading.

    Raises OSError if it cannot be read, FileNotFoundError if it is absent, and ValueError if it is something else, such
    as a pipe, which would never end, or if it has more bytes than `most`.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):  # to open a device may already be too much
        raise ValueError("it is not a regular file")
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):  # it may be another one by now
            raise ValueError("it is not a regular file")
        if about.st_size > most:
            raise ValueError(f"it has {about.st_size:,} bytes, where {most:,} are the most")
        yield file


def read_regular(path: Path, *, most: int = MOST) -> bytes:
    """The contents of a regular file; errors as of `open_regular`."""
    with open_regular(path, most=most) as file:
        return file.read(os.fstat(file.fileno()).st_size)


def read_json(
    path: Path, shape: type[T], *, error: type[FieldmarkError] = RunError, hint: str = "", most: int = MOST
) -> T:
    """The contents of a JSON file, which must be of this type.

    Raises FileNotFoundError or NotADirectoryError if there is none, and `error` with the `hint` for anything else that
    is wrong with it; without one, that of `other_version`.
    """
    try:
        return parse_json(read_regular(path, most=most), shape)
    except (FileNotFoundError, NotADirectoryError):
        raise
    except ValueError as problem:
        raise error(f"{path} cannot be read: {reason(problem)}", hint or other_version(str(path))) from None
    except OSError as problem:
        raise error(f"{path} cannot be read: {reason(problem)}", hint) from None


def other_version(source: str) -> str:
    """What to do where a file in the folder of a run is not what it should be; "" for one that lies elsewhere."""
    if not source.endswith((".json", ".toml")) or not Path(source).with_name("environment.json").is_file():
        return ""
    return (
        "If another version of Fieldmark wrote this run (environment.json names it), use that version. Else put the "
        "file back as it was, or train anew."
    )


def parse_json(data: bytes | str, shape: type[T]) -> T:
    """What JSON says, which must be of this type. Raises ValueError with the place, what is there and what should be.

    NaN, infinity and keys that occur twice are no JSON. The type has lists, not tuples, since JSON has no tuples.
    """
    from pydantic import ValidationError

    try:
        values = json.loads(
            data, object_pairs_hook=_unique, parse_constant=_finite, parse_float=_finite, parse_int=_whole
        )
        if _SURROGATE.search(data if isinstance(data, str) else data.decode()):
            _check_texts(values)
        _adapter(shape).validate_python(values, strict=True)  # type: ignore[arg-type]  # types have hashes
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ValueError(f"there is no key {place!r}") from None
        expected = first["msg"].replace("Input should", "it should")
        raise ValueError(f"{brief(place)[1:-1] or 'its content'} is {brief(first['input'])}, but {expected}") from None
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except UnicodeEncodeError:
        raise ValueError("a text in it has half a character (a lone surrogate)") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    return values  # with keys that the type does not name, which a file keeps when it is written again


def parse_toml(text: bytes | str) -> dict[str, Any]:
    """What TOML says. Raises ValueError, also for what is nested too deeply."""
    import tomllib

    try:
        return tomllib.loads(text if isinstance(text, str) else text.decode())
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def reason(problem: Exception) -> str:
    """Why something could not be read, in a line."""
    said = str(getattr(problem, "strerror", None) or problem)
    return " ".join(said.split()) or type(problem).__name__


@cache
def _adapter(shape: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(shape)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {brief(twice)} occurs twice")
    return found


def _check_texts(values: Any) -> None:
    """Raise UnicodeEncodeError for a text that no file could hold."""
    if isinstance(values, str):
        values.encode()
    elif isinstance(values, dict | list):
        for one in (*values, *values.values()) if isinstance(values, dict) else values:
            _check_texts(one)


def _whole(text: str) -> int:
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"{brief(text)} has too many digits")
    return int(text)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{brief(text)} is not a finite number")
    return number
