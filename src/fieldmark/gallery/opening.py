"""Which store the name of a gallery means: a folder, `postgresql://…` or `qdrant:FOLDER`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fieldmark.core.errors import RunError
from fieldmark.gallery.folder import FolderStore
from fieldmark.gallery.log import NAME
from fieldmark.gallery.store import Description, Store
from fieldmark.runs.opening import opened_run

__all__ = ["default_place", "is_gallery", "open_store", "space_place"]

_POSTGRES, _QDRANT = ("postgresql://", "postgres://"), "qdrant:"


def open_store(place: Path | str, *, writing: bool = False, new: Description | None = None) -> Store:
    """Open a store, for `writing` or reading; make a `new` one where there is none.

    Raises RunError if there is none, and StorageError if nothing can be written or a database does not answer.
    """
    name = str(place)
    if name.startswith(_POSTGRES):
        from fieldmark.gallery.postgres import PostgresStore

        return PostgresStore(name, new=new)
    if name.startswith(_QDRANT):
        from fieldmark.gallery.qdrant import QdrantStore

        return QdrantStore(Path(name.removeprefix(_QDRANT)), new=new)
    if "://" in name:
        raise RunError(
            f"A gallery cannot be kept in {name.partition('://')[0]}://…",
            "Give a folder, postgresql://USER:PASSWORD@HOST/DATABASE or qdrant:FOLDER.",
        )
    return FolderStore(Path(place), writing=writing, new=new)


def default_place(run: Path, name: str = "gallery") -> Path:
    """The gallery of a run or, for a bundle alone, beside it."""
    opened = opened_run(run)
    return opened.folder / name if opened.exists else run.with_name(f"{run.name}-{name}")


def is_gallery(place: Path | str) -> bool:
    """Whether a place names a database, or is a folder that holds a gallery."""
    return str(place).startswith((*_POSTGRES, _QDRANT)) or (Path(place) / NAME).is_file()


def space_place(place: Path | str, parts: Sequence[str], part: str | None) -> str:
    """Where the vectors of a part are kept, by its number among the parts, beside those of wholes, which are at `place`
    itself."""
    name = str(place)
    if part is None:
        return name
    number = parts.index(part) + 1
    if name.startswith(_POSTGRES):
        url, _, gallery = name.partition("#")
        return f"{url}#{gallery or 'default'}-part-{number}"
    return f"{name.rstrip('/')}-parts/{number}"
