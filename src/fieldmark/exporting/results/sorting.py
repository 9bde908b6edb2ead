"""Photographs sorted into a folder for each verdict, as links or as copies. The photographs stay where and as they are.

DIR/Herring Gull/…                      what is vouched for
DIR/unsure/Herring Gull/…               what is most likely
DIR/unlike anything known/…
DIR/nothing found, person, vehicle/…    by the boxes of a detector
DIR/not readable/…
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Collection, Iterator
from pathlib import Path

from fieldmark.answering.record import Header
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.claims import check_claimable, claim
from fieldmark.core.errors import DataError, StorageError
from fieldmark.core.listener import Listener
from fieldmark.core.storage import explained, make_folder, replacing
from fieldmark.core.wording import OBEYED, counted
from fieldmark.data.shards import member_of
from fieldmark.exporting.results.answered import Answered, Row

__all__ = ["UNLIKE", "UNSURE", "check_sortable", "folder_names", "sort_photographs"]

UNSURE, UNLIKE, NOTHING, UNREADABLE = "unsure", "unlike anything known", "nothing found", "not readable"
_OURS = UNSURE, UNLIKE, NOTHING, UNREADABLE
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
"""Names of devices on Windows."""
_LONGEST = 120
"""Bytes of a name, where file systems allow 255 and names of classes may have any length."""


def folder_names(names: Collection[str]) -> dict[str, str]:
    """A folder for each name, which every file system allows; different ones for different names, whatever their case.

    A name that cannot be one as it is gets a few digits of its hash.
    """
    found: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        safe = _safe(name)
        if safe != name or safe.casefold() in taken:
            safe = f"{safe} {hashlib.sha256(name.encode()).hexdigest()[:8]}".strip()
        found[name] = safe
        taken.add(safe.casefold())
    return found


def _safe(name: str) -> str:
    text = _FORBIDDEN.sub("_", OBEYED.sub("_", name)).strip(" .")
    text = text.encode()[:_LONGEST].decode(errors="ignore").strip(" .")
    return f"{text}_" if not text or _RESERVED.fullmatch(text) else text


def check_sortable(folder: Path, header: Header, speaker: Speaker, *, copies: bool) -> None:
    """Raise StorageError if photographs with such answers cannot be sorted into this folder."""
    copies = copies or not _can_link(folder.parent)
    check_claimable(folder, _what(header, speaker, copies=copies), option="--sort-into")


def sort_photographs(
    answered: Answered, folder: Path, *, copies: bool = False, listener: Listener | None = None
) -> int:
    """Link or copy each picture into the folder of its verdict, or of each of its boxes; return how many there are.

    Where the file system has no links, copies are made. A picture that is there already is passed over, so it may be
    stopped and begun again; pictures that are missing are counted in a warning. The folder must be new, empty or one
    that was made for the same verdicts: StorageError for any other, and for a full disk. Raises DataError for
    pictures in shards.
    """
    listener = listener or Listener()
    if not copies and not _can_link(folder.parent):
        listener.note(f"{folder} is on a file system without links: photographs are copied")
        copies = True
    if inside := [answer.path for answer in answered.kept if member_of(answer.path)]:
        raise DataError(
            f"Pictures in shards cannot be sorted into folders, as {counted(len(inside), 'picture')} would have to be",
            "Unpack the shards, and ask about the folder.",
        )
    claim(folder, _what(answered.kept.header, answered.speaker, copies=copies), option="--sort-into")
    taxonomy = answered.speaker.bundle.taxonomy
    detected = {look.detection.category for answer in answered.kept for look in answer.looks if look.detection}
    names = folder_names(
        dict.fromkeys([*_OURS, *(n for level in taxonomy.levels for n in level.names), *sorted(detected)])
    )
    count = missing = 0
    with listener.progress("Sorting") as tick:
        for number, row in enumerate(answered.rows(), 1):
            source = Path(os.path.abspath(row.answer.path))
            missing += not row.answer.skipped and not source.is_file()
            for place in dict.fromkeys(_places(row, answered, names)):
                _put(source, folder.joinpath(*place), _called(answered, row.answer.path), copies=copies)
                count += 1
            tick(number, len(answered.kept))
    if missing:
        result = "not copied" if copies else "linked to nothing"
        listener.warn(f"{counted(missing, 'picture')} {result}: no longer where it was when it was answered")
    return count


def _what(header: Header, speaker: Speaker, *, copies: bool) -> str:
    """What the folder is for. Under other options, pictures would lie in other folders, beside their old places."""
    promise = "" if speaker.thresholds is None else speaker.thresholds.promise.accuracy
    among = "" if speaker.among is None else speaker.among.tolist()
    told = f"{header}{promise}{among}"
    kind = "copies" if copies else "links"
    return (
        f"{kind} of photographs sorted by verdict ({hashlib.sha256(told.encode('utf-8', 'replace')).hexdigest()[:12]})"
    )


def _places(row: Row, answered: Answered, names: dict[str, str]) -> Iterator[tuple[str, ...]]:
    if row.answer.skipped:
        yield (UNREADABLE,)
        return
    looks = row.sure_looks(answered.kept.header.confidence)
    if not looks:
        yield (NOTHING,)
    for look, verdict in looks:
        if verdict is None:
            assert look.detection is not None
            yield (names[look.detection.category],)
        elif verdict.name is not None:
            yield (names[verdict.name],)
        else:
            yield (UNLIKE,) if verdict.familiar is False else (UNSURE, names[verdict.label])


def _called(answered: Answered, path: str) -> str:
    """The name of a picture among those of all folders: that of its folders and its own."""
    root = answered.kept.header.root
    below = os.path.relpath(path, root) if root and os.path.isabs(path) == os.path.isabs(root) else path
    parts = [part for part in Path(below).parts if part not in (os.pardir, os.sep, Path(below).anchor)]
    name = "__".join(parts)
    if len(os.fsencode(name)) <= 200:
        return name
    stem, suffix = os.path.splitext(parts[-1])
    return f"{stem[:40]}__{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}{suffix}"


def _put(source: Path, folder: Path, name: str, *, copies: bool) -> None:
    make_folder(folder)
    target = folder / name
    if os.path.lexists(target) and not _is_there(source, target, copies=copies):
        target = target.with_stem(f"{target.stem} {hashlib.sha256(os.fsencode(source)).hexdigest()[:8]}")
    if os.path.lexists(target):
        if _is_there(source, target, copies=copies):
            return
        raise StorageError(f"{target} is in the way: it is not what would be put there", "Sort into a new folder.")
    if copies:
        _copy(source, target)
        return
    with explained(target):
        target.symlink_to(source)


def _can_link(folder: Path) -> bool:
    make_folder(folder)
    with explained(folder), tempfile.TemporaryDirectory(dir=folder, prefix=".try.") as scratch:
        try:
            (Path(scratch) / "link").symlink_to("nowhere")
        except OSError:
            return False
    return True


def _is_there(source: Path, target: Path, *, copies: bool) -> bool:
    if not copies:
        return target.is_symlink() and os.readlink(target) == str(source)
    if target.is_symlink() or not target.is_file() or not source.is_file():
        return False
    return source.stat().st_size == target.stat().st_size and _digest(source) == _digest(target)


def _digest(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _copy(source: Path, target: Path) -> None:
    """In one step. A picture that is gone is passed over."""
    try:
        opened = source.open("rb")
    except OSError:
        return
    with opened, explained(target), replacing(target) as file:
        shutil.copyfileobj(opened, file)
