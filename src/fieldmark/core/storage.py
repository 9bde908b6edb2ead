"""Writing files so that nothing is ever half-written: to a temporary file, synced, then renamed."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.errors import StorageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "append_line",
    "cache_folder",
    "csv_line",
    "from_cell",
    "make_folder",
    "new_folder",
    "read_json",
    "read_rows",
    "to_cell",
    "write_arrays",
    "write_bytes",
    "write_json",
    "write_rows",
    "write_tensors",
]

_REASONS = {
    errno.ENOSPC: ("the disk is full", "Free some space or choose another folder; what was saved before is intact."),
    errno.EDQUOT: ("the disk quota is used up", "Free some space or choose another folder."),
    errno.EROFS: ("the file system is read-only", "Choose a folder that you may write to."),
    errno.EACCES: ("permission denied", "Choose a folder that you may write to."),
    errno.EPERM: ("permission denied", "Choose a folder that you may write to."),
    errno.ENOTDIR: ("there is a file where a folder is needed", "Choose another folder."),
    errno.EEXIST: ("there is a file where a folder is needed", "Choose another folder."),
}


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error), "Choose another folder."))
        raise StorageError(f"Cannot write {path}: {reason}", hint) from error


def cache_folder() -> Path:
    """The user's cache folder: `FIELDMARK_CACHE`, else `XDG_CACHE_HOME/fieldmark`, else `~/.cache/fieldmark`."""
    if own := os.environ.get("FIELDMARK_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fieldmark"


def make_folder(path: Path) -> Path:
    """Create `path` and its parents; raise StorageError if that is not possible."""
    with _explained(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `path` in one step at the end. If something fails, nothing is left of it."""
    make_folder(path.parent)
    with _explained(path):
        scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
        try:
            yield scratch
            os.chmod(scratch, 0o755)
            if hasattr(os, "sync"):  # thousands of files at once
                os.sync()
            with contextlib.suppress(FileExistsError):  # two at work on it: the first one's will do
                if not path.exists():
                    scratch.rename(path)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` in one step: a reader sees the old file or the new one, never half of it."""
    make_folder(path.parent)
    with _explained(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, in one step."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append `value` as one JSON line and sync it. An incomplete line before it stays on its own line."""
    with _explained(path), path.open("a+b") as file:
        torn = b"\n" if _is_torn(file) else b""
        file.write(torn + json.dumps(value, ensure_ascii=False).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _is_torn(file: IO[bytes]) -> bool:
    """Whether the last line has no end: the machine died while writing it."""
    if file.seek(0, os.SEEK_END) == 0:
        return False
    file.seek(-1, os.SEEK_END)
    return file.read(1) != b"\n"


_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
_ESCAPED = re.compile(r"'+[=+\-@\t\r]")


def to_cell(value: Any) -> Any:
    """A value as it is written into a CSV file: text that a spreadsheet would run as a formula gets an apostrophe.

    Numbers such as -3.2 stay as they are. `from_cell` undoes it, whatever the text was.
    """
    risky = isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value)
    return f"'{value}" if risky else value


def from_cell(text: str) -> str:
    """The text of a CSV cell without the apostrophe of `to_cell`."""
    return text[1:] if _ESCAPED.match(text) else text


def csv_line(cells: Iterable[Any]) -> str:
    """A line of CSV whose cells no spreadsheet runs."""
    line = io.StringIO(newline="")
    csv.writer(line, lineterminator="\r\n").writerow(map(to_cell, cells))  # with "\n" alone, "\r" would not be quoted
    return line.getvalue().removesuffix("\r\n") + "\n"


def read_rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file that `write_rows` wrote, by column."""
    with path.open(newline="", encoding="utf-8") as file:
        header, *rows = [[from_cell(cell) for cell in row] for row in csv.reader(file) if row] or [[]]
    return [dict(zip(header, row, strict=False)) for row in rows]


def write_rows(path: Path, header: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file in one step. No spreadsheet will run what its cells hold."""
    write_bytes(path, "".join(map(csv_line, [header, *rows])).encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, in one step. Memory layout is not kept: tensors come back contiguous."""
    from safetensors.torch import save

    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(flat, metadata=dict(metadata or {})))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as safetensors, in one step."""
    from safetensors.numpy import save

    write_bytes(path, save({name: np.ascontiguousarray(values) for name, values in arrays.items()}))
