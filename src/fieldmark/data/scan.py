"""`scan`: which files in a folder are pictures. Audits, training, answers and Python all take theirs from here.

- A picture is a regular file, or a link to one, with one of the extensions in `formats.py`.
- Hidden files and folders are passed over, and so are those of operating systems, network drives and archivers.
- Links to folders are followed, unless they lead back to a folder above, or to one that is read anyway: each folder is
  read once. A link that leads nowhere, or to itself, costs that link and nothing else.
- Whatever looks like a picture, or might lead to some, and is left out is listed with the reason (`LeftOut`).
- No file is opened.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from enum import Enum
from operator import attrgetter
from pathlib import Path

from fieldmark.core.errors import DataError
from fieldmark.core.wording import first_few
from fieldmark.data import formats

__all__ = ["LeftOut", "Parts", "Scan", "holds_images", "is_ignored", "is_image_name", "matching", "scan"]

_READ = formats.IMAGE_EXTENSIONS | formats.HEIC_EXTENSIONS | formats.RAW_EXTENSIONS
_NOT_READ = frozenset("crw erf iiq j2k jp2 jpx jxl jxr kdc mrw psd raw x3f".split())  # noqa: SIM905  (as a person would list them)
_EXTENSIONS = _READ | _NOT_READ
"""Of all that people take for a picture."""

_SYSTEM = frozenset(
    {
        "__macosx",
        "$recycle.bin",
        "system volume information",
        "recycler",
        "lost+found",
        "thumbs.db",
        "desktop.ini",
        "@eadir",
        "#recycle",
        "#snapshot",
        "@recycle",
        "@recently-snapshot",
        "@__thumb",
        "network trash folder",
        "temporary items",
    }
)
"""Made by macOS, Windows, Linux, and the network drives of Synology and QNAP."""

Parts = tuple[str, ...]
"""A folder's names from the root down."""


class LeftOut(Enum):
    """Why something that looks like a picture, or like a folder of pictures, is left out; in words for one and many."""

    FORMAT = "image in a format that Fieldmark does not read", "images in formats that Fieldmark does not read"
    HEIC = (
        "HEIC image, which Fieldmark reads after pip install 'fieldmark[heic]'",
        "HEIC images, which Fieldmark reads after pip install 'fieldmark[heic]'",
    )
    LINK = "link that leads nowhere", "links that lead nowhere"
    LOOP = "link that leads back to a folder above it", "links that lead back to a folder above them"
    TWICE = "link to a folder that is read anyway", "links to folders that are read anyway"
    NO_FILE = "pipe or device with the name of an image", "pipes or devices with names of images"

    def words(self, paths: list[str]) -> str:
        """How many there are, what they are and the first of them."""
        return f"{len(paths):,} {self.value[len(paths) != 1]} ({first_few(paths)})"


@dataclass(frozen=True)
class Scan:
    """What lies in a folder."""

    root: Path
    images: dict[Parts, list[str]] = field(default_factory=dict)
    """Folder → the images directly in it, sorted by name; no folder without images is listed."""
    empty: list[Parts] = field(default_factory=list)
    """Folders with no image in or below them, the topmost ones."""
    left_out: dict[LeftOut, list[str]] = field(default_factory=dict)
    """Why → what was left out for that reason, relative to the root."""

    @property
    def paths(self) -> list[str]:
        """All images, sorted, with forward slashes and relative to the root."""
        return sorted("/".join((*parts, name)) for parts, names in self.images.items() for name in names)

    def reasons(self, at: str = "") -> list[str]:
        """What was left out and why, in words; `at` is put before each path."""
        found = [(why, sorted(self.left_out[why])) for why in LeftOut if why in self.left_out]
        return [why.words([os.path.join(at, path) for path in paths]) for why, paths in found]


def is_image_name(name: str) -> bool:
    """Whether a file of this name is an image that can be read here; hidden files are not."""
    return not is_ignored(name) and _judged(name) is True


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is hidden, or an operating system's own."""
    return name.startswith(".") or name.lower() in _SYSTEM


def scan(root: Path) -> Scan:
    """All images in and below `root`, and what was left out. Raises DataError if a folder may not be read."""
    return _scan(root, _judged)


def holds_images(root: Path) -> bool:
    """Whether there is an image in or below `root`; the walk ends at the first one. Raises DataError for a folder
    before it that cannot be read."""
    found = Scan(root)
    return any(found.images for _ in _walk(found, _judged))


def matching(pattern: str) -> list[str]:
    """The files and folders that match a glob, sorted; "**" stands for any number of folders, none included.

    Neither "*" nor "**" finds what is hidden or an operating system's own, and "**" goes as `scan` does. Links that
    lead nowhere are among them. Raises DataError if a folder may not be read.
    """
    before, after = _divided(pattern)
    tops = [top for top in glob.glob(before) if not _goes_through_ignored(top, before)] if before else [""]
    if not after:
        return sorted(tops)
    files = [(top, path) for top in tops if os.path.isdir(top or os.curdir) for path in _every_file(top)]
    return sorted(os.path.join(top, path) for top, path in files if _fits(path.split("/"), after))


# ---- the walk

_Identity = tuple[int, int] | str
_Judgement = LeftOut | bool
"""Whether a file is taken; a reason where one would expect it to be."""


def _scan(root: Path, judge: Callable[[str], _Judgement]) -> Scan:
    """`judge` says of a regular file by its name whether it is taken."""
    found = Scan(root)
    read = list(_walk(found, judge))
    filled = {parts[:depth] for parts in found.images for depth in range(len(parts) + 1)}
    found.empty.extend(sorted(p for p in read if p not in filled and (not p or p[:-1] in filled)))
    return found


def _walk(found: Scan, judge: Callable[[str], _Judgement]) -> Iterator[Parts]:
    """Each folder that is read, after what lies in it was added to `found`."""
    root, above = found.root, _above(found.root)
    read: dict[_Identity, Parts] = {}
    folders: deque[Parts] = deque([()])
    links: deque[Parts] = deque()  # come last, so that a folder is found where it lies, not where a link shows it
    while folders or links:
        parts = folders.popleft() if folders else links.popleft()
        folder = os.path.join(root, *parts)
        identity = _identity(folder)
        if identity in read or identity in above:
            inner = identity in above or parts[: len(read[identity])] == read[identity]
            found.left_out.setdefault(LeftOut.LOOP if inner else LeftOut.TWICE, []).append("/".join(parts))
            continue
        read[identity] = parts
        for entry in _visible(folder):
            if _is(entry.is_dir):
                (links if entry.is_symlink() else folders).append((*parts, entry.name))
            elif (judgement := _judged_file(entry, judge)) is True:
                found.images.setdefault(parts, []).append(entry.name)
            elif judgement:
                found.left_out.setdefault(judgement, []).append("/".join((*parts, entry.name)))
        yield parts


def _above(root: Path) -> set[_Identity]:
    found = set[_Identity]()
    for folder in Path(os.path.realpath(root)).parents:
        with suppress(DataError):  # it matters to nobody
            found.add(_identity(folder))
    return found


def _identity(folder: Path | str) -> _Identity:
    """The same for a folder and all links to it: where it really lies, if the drive numbers nothing."""
    with _explained(folder):
        status = os.stat(folder)
    return (status.st_dev, status.st_ino) if status.st_ino else os.path.realpath(folder)


def _visible(folder: str) -> list[os.DirEntry[str]]:
    with _explained(folder), os.scandir(folder) as entries:
        return sorted((entry for entry in entries if not is_ignored(entry.name)), key=attrgetter("name"))


def _judged_file(entry: os.DirEntry[str], judge: Callable[[str], _Judgement]) -> _Judgement:
    if _is(entry.is_file):
        return judge(entry.name)
    if entry.is_symlink() and not os.path.exists(entry.path):
        return LeftOut.LINK
    return LeftOut.NO_FILE if judge(entry.name) else False


def _judged(name: str) -> _Judgement:
    """Whether a file of this name is an image."""
    _, dot, extension = name.lower().rpartition(".")
    if not dot or extension not in _EXTENSIONS:
        return False
    if formats.can_read(extension):
        return True
    return LeftOut.HEIC if extension in formats.HEIC_EXTENSIONS else LeftOut.FORMAT


def _is(ask: Callable[[], bool]) -> bool:
    """What an entry says of itself; a link to itself can be asked nothing."""
    try:
        return ask()
    except OSError:
        return False


@contextmanager
def _explained(folder: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DataError(f"Cannot read the folder {folder}: {error.strerror}", "Check its permissions.") from error


# ---- globs


def _divided(pattern: str) -> tuple[str, list[str]]:
    """What is before the first "**", and the names from there on."""
    drive, rest = os.path.splitdrive(pattern)
    names = rest.replace(os.sep, "/").split("/")
    if "**" not in names:
        return pattern, []
    at = names.index("**")
    before = "/".join(names[:at])
    return drive + (before or "/" * (at > 0)), [name for name in names[at:] if name]


def _goes_through_ignored(found: str, pattern: str) -> bool:
    """Whether something that is ignored stands where the pattern leaves open what it is."""
    names = zip(_names(found), _names(pattern), strict=True)
    return any(glob.has_magic(asked) and is_ignored(name) and not asked.startswith(".") for name, asked in names)


def _names(path: str) -> list[str]:
    return [name for name in path.replace(os.sep, "/").split("/") if name]


def _every_file(top: str) -> list[str]:
    found = _scan(Path(top), lambda name: True)
    return [*found.paths, *found.left_out.get(LeftOut.LINK, []), *found.left_out.get(LeftOut.NO_FILE, [])]


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether a path, as names, fits a pattern in which "**" stands for any number of them."""
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_fits(names[start:], pattern[1:] or ["*"]) for start in range(len(names)))
    return bool(names) and fnmatch.fnmatch(names[0], pattern[0]) and _fits(names[1:], pattern[1:])
