"""What is Fieldmark's own. Nothing is taken for ours by its name: a folder is made in an empty place, and marked.

    FOLDER/.fieldmark   the mark, which says what the folder is for; written before anything else
    FOLDER/.lock        held by the one process that writes; see `fieldmark.core.locks`

A folder that is neither empty nor marked is refused, and nothing in it is touched. Pages and pictures that are written
into folders of the user's own carry a signature, and replace no file without one.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.locks import lock
from fieldmark.core.storage import explained, make_folder, replacing
from fieldmark.core.wording import first_few

__all__ = ["check_claimable", "check_replaceable", "claim", "claimed", "contents", "fill"]

_MARK, _LOCK = ".fieldmark", ".lock"
_OF_THE_SYSTEM = {".DS_Store", "Thumbs.db", "desktop.ini", "lost+found"}
"""What file managers and file systems put into any folder. It is never touched."""

_SIGNATURES = (b'<meta name="generator" content="Fieldmark">', b"Software\x00Fieldmark", b"\x12\x09Fieldmark")
"""In the head of every page, of PNG files that are signed, and of ONNX graphs, as their producer; the first bytes of a
file hold it."""
_HEAD = 4096


def contents(folder: Path) -> list[Path]:
    """What is in the folder besides its mark, its lock and what the system puts there, sorted; [] if it is absent."""
    passed_over = {_MARK, _LOCK, *_OF_THE_SYSTEM}
    return [path for path in _listed(folder) if path.name not in passed_over]


def claim(folder: Path, what: str, *, option: str = "--out") -> None:
    """Make and mark a folder for `what` ("scores"), or make sure that Fieldmark made it for that.

    `option` names the folder on the command line. Raises StorageError for any other folder that is not empty.
    """
    check_claimable(folder, what, option=option)
    make_folder(folder)
    _mark(folder, what)


def check_claimable(folder: Path, what: str, *, option: str = "--out") -> None:
    """Raise StorageError if `claim` would, and change nothing."""
    _check(folder, what, lambda: False, option)


def fill(folder: Path, files: Mapping[str, bytes | Path]) -> None:
    """Write these files, or copies of them, into a claimed folder, by their paths in it; what else was there goes.

    Something that an earlier export left may be wrong by now, or private. Only hidden files stay, of which none is made
    here, and what the system puts there: a page may be published from a Git repository. Raises StorageError.
    """
    for name, given in files.items():
        with replacing(folder / name) as file:
            if isinstance(given, bytes):
                file.write(given)
            else:
                with given.open("rb") as source:
                    shutil.copyfileobj(source, file)
    written = {_identity(folder / name) for name in files}  # some systems take names in capitals for the same
    with explained(folder):
        _remove_others(folder, written)


def _remove_others(folder: Path, kept: set[tuple[int, int]]) -> None:
    """Remove files other than these, and the folders that become empty. No link is followed."""
    for path in contents(folder):
        if path.name.startswith("."):
            continue
        if path.is_dir() and not path.is_symlink():
            _remove_others(path, kept)
            if not any(path.iterdir()):
                path.rmdir()
        elif path.is_symlink() or _identity(path) not in kept:
            path.unlink()


def _identity(path: Path) -> tuple[int, int]:
    about = os.stat(path)
    return about.st_dev, about.st_ino


def check_replaceable(path: Path, *beside: Path) -> None:
    """Raise StorageError if a file is at `path` that Fieldmark has not signed, or if files are only `beside` it.

    A page of an earlier run of the same command is replaced; a file of the user's own never is.
    """
    if path.is_file():
        with explained(path), path.open("rb") as file:
            head = file.read(_HEAD)
        foreign = None if any(signature in head for signature in _SIGNATURES) else path
    else:
        foreign = next((other for other in (path, *beside) if other.exists()), None)
    if foreign:
        raise StorageError(
            f"{foreign} is in the way: Fieldmark did not write it, and does not replace it",
            "Move it, or choose another --out.",
        )


@contextlib.contextmanager
def claimed(
    folder: Path,
    what: str,
    *,
    busy: RunError,
    known: Callable[[], bool] = lambda: False,
    option: str = "--out",
) -> Iterator[None]:
    """The same, and hold the folder while this lasts: nobody else writes there, and `busy` is raised if somebody does.

    The lock is held before anything is written. `known` recognises a folder that has lost its mark by what is in it.
    `option` names the folder on the command line. If nothing was written at the end, the folder is left as it was
    found.
    """
    _check(folder, what, known, option)
    found = folder.is_dir()
    make_folder(folder)
    with contextlib.ExitStack() as stack:
        with explained(folder):
            alone = stack.enter_context(lock(folder / _LOCK, wait=False))
        if not alone:
            raise busy
        stack.callback(_leave_if_empty, folder, keep=found)
        _check(folder, what, known, option)  # again, since now nobody else can change what it says
        _mark(folder, what)
        yield


def _listed(folder: Path) -> list[Path]:
    with contextlib.suppress(FileNotFoundError):
        return sorted(folder.iterdir())
    return []


def _text(what: str) -> bytes:
    return f"Fieldmark made this folder for {what}, and replaces its own files in it.\n".encode()


def _mark(folder: Path, what: str) -> None:
    """Write the mark, unless it is there. In place: whoever looks meanwhile sees nothing else that is unmarked."""
    if not _is_marked(folder, what):
        with explained(folder):
            (folder / _MARK).write_bytes(_text(what))


def _is_marked(folder: Path, what: str) -> bool:
    mark = folder / _MARK
    return mark.is_file() and mark.stat().st_size == len(_text(what)) and mark.read_bytes() == _text(what)


def _check(folder: Path, what: str, known: Callable[[], bool], option: str = "--out") -> None:
    """Raise StorageError if the folder is neither empty, but for the traces of a start, nor ours."""
    with explained(folder):
        # the mark comes second: it is older than whatever another process has put there by the first look
        if all(_says_nothing(path, what) for path in _listed(folder)) or _is_marked(folder, what) or known():
            return
        names = [path.name for path in contents(folder)] or [_MARK]
    raise StorageError(
        f"{folder} is not empty, and Fieldmark did not make it for {what}: it holds {first_few(names)}",
        f"Choose a new folder, or an empty one, with {option}.",
    )


def _says_nothing(path: Path, what: str) -> bool:
    """Whether this is no work of anybody: of the system, or what a start writes first, an empty lock and a mark."""
    beginning = {_LOCK: b"", _MARK: _text(what)}.get(path.name)
    if beginning is None or path.is_symlink():
        return path.name in _OF_THE_SYSTEM
    try:
        status = path.stat()
        short = stat.S_ISREG(status.st_mode) and status.st_size <= len(beginning)
        return short and beginning.startswith(path.read_bytes())
    except FileNotFoundError:  # another process has just taken it back
        return True


def _leave_if_empty(folder: Path, *, keep: bool) -> None:
    """Take back the mark and the lock if nothing else is there; and the folder, unless it is to be kept."""
    with contextlib.suppress(OSError):  # whatever is in the way, the user hears of the first problem
        if contents(folder):
            return
        for name in (_MARK, _LOCK):
            (folder / name).unlink(missing_ok=True)
        if not keep:
            folder.rmdir()
