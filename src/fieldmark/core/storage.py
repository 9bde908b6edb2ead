"""Writing files so that nothing is ever half-written: to a temporary file, synced, then renamed."""

from __future__ import annotations

import contextlib
import csv
import errno
import glob
import hashlib
import io
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.locks import lock
from fieldmark.core.reading import MOST, open_regular, reason
from fieldmark.core.wording import OBEYED, counted

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

__all__ = [
    "append_line",
    "append_row",
    "array_bytes",
    "as_json",
    "cache_folder",
    "check_writable",
    "csv_line",
    "explained",
    "from_cell",
    "json_bytes",
    "make_folder",
    "new_folder",
    "read_rows",
    "read_tensors",
    "replacing",
    "sha256_of",
    "sweep",
    "tensor_bytes",
    "tensor_digest",
    "to_cell",
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

_SCRATCH = re.compile(r"\..+\.[a-z0-9_]{8}\.part")
"""The names that `tempfile` makes below: of a file that is being written, beside its place."""
_DIGEST = "sha256"
_LARGEST_TABLE = 16 * MOST
"""The size in bytes of a table from which it cannot be one of ours."""


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Raise StorageError, which says why `path` cannot be written, for an OSError."""
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
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def check_writable(folder: Path) -> None:
    """Make the folder and try to write there, before the work rather than after it; StorageError if that fails."""
    try:
        make_folder(folder)
        with explained(folder), tempfile.NamedTemporaryFile(dir=folder, prefix=".try.", suffix=".part"):
            pass
    except StorageError as error:
        raise StorageError(error.problem, "Name another place with --out.") from None


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `path` in one step at the end. If something fails, nothing is left of it.

    What killed processes left of the same folder is removed; the lock on each shows whether its process lives.
    """
    make_folder(path.parent)
    with explained(path):
        scratch = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    with explained(path), lock(scratch.with_suffix(".lock")):
        for other in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
            if other != scratch and _SCRATCH.fullmatch(other.name) and (live := other.with_suffix(".lock")).exists():
                with lock(live, wait=False) as dead:
                    if dead:
                        shutil.rmtree(other, ignore_errors=True)
                        live.unlink(missing_ok=True)
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
            scratch.with_suffix(".lock").unlink(missing_ok=True)


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left in this folder; whatever cannot be removed stays.

    Only for whoever alone writes there: of a live process, it would take what is being written.
    """
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _SCRATCH.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                path.unlink()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """A file to fill, which takes the place of `path` in one step at the end: nobody ever sees half of it.

    If something fails, `path` stays as it was. Raises StorageError where it cannot be written.
    """
    make_folder(path.parent)
    with explained(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:100]}.", suffix=".part")
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path` in one step: a reader sees the old file or the new one, never half of it."""
    with replacing(path) as file:
        file.write(data)


def as_json(value: Any, *, indent: int | None = None, ascii: bool = False) -> str:
    """`value` as JSON, with null for numbers that are not finite, and escapes for characters that a terminal obeys.

    With `ascii`, for a stream of whatever encoding, other characters are escaped too.
    """
    try:
        text = json.dumps(value, indent=indent, ensure_ascii=ascii, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent, ensure_ascii=ascii, allow_nan=False)
    return OBEYED.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


def _finite(value: Any) -> Any:
    """`value` with None for each number that is not finite."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, in one step."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """The contents of a file that `write_json` writes."""
    return (as_json(value, indent=2) + "\n").encode()


def append_line(path: Path, value: Mapping[str, Any]) -> None:
    """Append `value` as one JSON line and sync it. An incomplete line before it stays on its own line."""
    with explained(path), path.open("a+b") as file:
        torn = b"\n" if _is_torn(file) else b""
        file.write(torn + as_json(value).encode() + b"\n")
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
    return "".join(_csv_lines([cells]))


class _Lines(list[str]):
    """What `csv.writer` writes its lines to."""

    def write(self, line: str) -> None:
        self.append(line.removesuffix("\r\n") + "\n")


def _csv_lines(rows: Iterable[Iterable[Any]]) -> list[str]:
    lines = _Lines()
    writer = csv.writer(lines, lineterminator="\r\n")  # with "\n" alone, "\r" would not be quoted
    writer.writerows(map(to_cell, cells) for cells in rows)
    return lines


def read_rows(path: Path, columns: Iterable[str], *, hint: str = "") -> list[dict[str, str]]:
    """The rows of a CSV file that `write_rows` wrote, by column; it has these columns, and maybe more.

    Raises RunError with the `hint` if it is absent or damaged.
    """
    try:
        with open_regular(path, most=_LARGEST_TABLE) as file:
            lines = io.TextIOWrapper(file, encoding="utf-8", newline="")
            header, *rows = [[from_cell(cell) for cell in row] for row in csv.reader(lines) if row] or [[]]
        if lacking := [name for name in columns if name not in header]:
            raise ValueError(f"it has no column {lacking[0]!r}")
        if torn := next((at for at, row in enumerate(rows, 1) if len(row) != len(header)), None):
            wrong = counted(len(rows[torn - 1]), "cell")
            raise ValueError(f"row {torn:,} below the header has {wrong}, but there are {len(header)} columns")
    except UnicodeError:
        raise RunError(f"{path} cannot be read: it is not UTF-8", hint) from None
    except (OSError, ValueError, csv.Error) as error:
        raise RunError(f"{path} cannot be read: {reason(error)}", hint) from None
    return [dict(zip(header, row, strict=True)) for row in rows]


def append_row(path: Path, header: Iterable[str], row: Sequence[Any]) -> None:
    """Append a row to a CSV file and sync it; a new file begins with the header. What a crash left of a row is removed.

    Line breaks in cells become blanks, so that a line is a row. One process at a time may append.
    """
    with explained(path), path.open("a+b") as file:
        if _is_torn(file):
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
        head = "" if file.seek(0, os.SEEK_END) else csv_line(header)
        line = csv_line(" ".join(cell.split()) if isinstance(cell, str) else cell for cell in row)
        file.write((head + line).encode("utf-8", "surrogateescape"))
        file.flush()
        os.fsync(file.fileno())


def write_rows(path: Path, header: Iterable[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file in one step. No spreadsheet will run what its cells hold."""
    write_bytes(path, "".join(_csv_lines([header, *rows])).encode())


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> None:
    """Write tensors as safetensors, in one step, with a digest by which `read_tensors` notices damage."""
    about = dict(metadata or {})
    write_bytes(path, tensor_bytes(tensors, about | {_DIGEST: _digest(_flat(tensors), about)}))


def tensor_bytes(tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None) -> bytes:
    """Tensors as safetensors. Memory layout is not kept: tensors come back contiguous."""
    from safetensors.torch import save

    return save(_flat(tensors), metadata=dict(metadata or {}))


def _flat(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata that `write_tensors` wrote. Raises ValueError if a single bit has changed since."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            about = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (a file of safetensors is no dict and cannot be iterated)
    except SafetensorError as error:
        raise ValueError(str(error)) from None
    if (digest := about.pop(_DIGEST, None)) is None:
        raise ValueError("it has no checksum: it is damaged, or another version wrote it")
    if digest != _digest(tensors, about):
        raise ValueError("its contents do not match their checksum")
    return tensors, about


def tensor_digest(tensors: Mapping[str, Tensor]) -> str:
    """The SHA-256 of tensors with their names, types and shapes, wherever they are and however they lie in memory."""
    return _digest(_flat(tensors), {})


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """The SHA-256 of contiguous tensors, their names, types and shapes, and the metadata."""
    import torch

    digest = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def array_bytes(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as safetensors."""
    from safetensors.numpy import save

    return save({name: np.ascontiguousarray(values) for name, values in arrays.items()})
