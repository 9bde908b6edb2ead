"""Photographs with what is known about each: label and group from class folders or tables, the SHA-256 of its file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from fieldmark.answering.things import Thing, Things, named
from fieldmark.core.errors import DataError
from fieldmark.core.storage import sha256_of
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.columns import Columns
from fieldmark.data.readers.read import read
from fieldmark.data.readers.sheet import TABLE_SUFFIXES
from fieldmark.data.readers.table import read_table
from fieldmark.gallery.store import Entry

__all__ = ["Photograph", "of_catalog", "photographs"]


class Photograph(NamedTuple):
    """A picture and what is known about it."""

    thing: Thing
    label: str | None = None
    group: str | None = None
    digest: str = ""
    """The SHA-256 of its file; "" if there is none, or if it was not looked at."""

    @property
    def path(self) -> str:
        """The file's, absolute; for anything else, its name."""
        source = self.thing.source
        return os.path.abspath(source) if isinstance(source, Path) else self.thing.name

    def identified(self) -> Photograph:
        """The same with its digest, if its file can be read."""
        try:
            return self._replace(digest=sha256_of(self.thing.source)) if isinstance(self.thing.source, Path) else self
        except OSError:
            return self

    def entry(self) -> Entry:
        """What a gallery keeps of it."""
        return Entry(self.path, self.digest, self.label, self.group)


def photographs(
    things: Things, *, columns: Columns | None = None, labels: bool = True, tell: Callable[[str], None]
) -> Iterator[Photograph]:
    """Whatever `named` takes, with labels and groups where a table or class folders give them.

    What was made of folders and tables is told, since a folder's name need not be a label; without `labels`, none are
    read. Raises DataError as `named` does.
    """
    several = things if isinstance(things, list | tuple) else [things]
    for one in several:
        catalog = _catalog(one, columns, tell) if labels and isinstance(one, str | Path) else None
        if catalog is not None:
            yield from of_catalog(catalog)
        else:
            yield from map(Photograph, named(one, tell, columns))


def of_catalog(catalog: Catalog) -> Iterator[Photograph]:
    """The pictures of a catalogue."""
    for row, (label, group) in enumerate(zip(catalog.labels.tolist(), catalog.groups.tolist(), strict=True)):
        file = catalog.file(row)
        yield Photograph(Thing(str(file), file), catalog.classes[label], group or None)


def _catalog(path: str | Path, columns: Columns | None, tell: Callable[[str], None]) -> Catalog | None:
    """A folder or table read as for training; None if it gives no labels."""
    place = Path(path)
    is_table = place.suffix.lower() in TABLE_SUFFIXES and place.is_file()
    if not (is_table or place.is_dir()):
        return None
    try:
        catalog = read_table(place, columns) if is_table else read(place)  # one label is enough in a table
    except DataError as error:
        tell(f"{path}: no labels are known ({error.problem})")
        return None
    groups = set(catalog.groups.tolist()) - {""}
    tell(
        f"{path}: {counted(len(catalog), 'photograph')} with {counted(len(catalog.classes), 'label')} "
        f"({first_few(catalog.classes)})" + (f" in {counted(len(groups), 'group')}" if groups else "")
    )
    return catalog
