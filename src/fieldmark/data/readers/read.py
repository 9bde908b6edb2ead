"""`read`: recognise what a path holds, and read it into a `Catalog`."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fieldmark.core.errors import DataError, DataWarning, nearest
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.names import normal
from fieldmark.data.readers.coco import read_coco
from fieldmark.data.readers.columns import Columns
from fieldmark.data.readers.cub import CUB_FILES, read_cub
from fieldmark.data.readers.folder import read_folder
from fieldmark.data.readers.shards import check_finished, holds_shards, read_shards
from fieldmark.data.readers.sheet import TABLE_SUFFIXES, header_of
from fieldmark.data.readers.table import read_table
from fieldmark.data.remote import is_remote
from fieldmark.data.scan import holds_images, is_ignored, is_image_name, scan
from fieldmark.data.splits import split_called

__all__ = [
    "LAYOUTS",
    "DataWarning",
    "Layout",
    "catalog_table",
    "checked",
    "innermost",
    "no_such_path",
    "read",
    "visible",
]


class Layout(NamedTuple):
    """One way in which data can lie on disk."""

    description: str
    find: Callable[[Path], Path | None]
    """What to read, or None where the path is not of this layout."""
    read: Callable[[Path], Catalog]


def _table(path: Path) -> Path | None:
    return path if path.suffix.lower() in TABLE_SUFFIXES and path.is_file() else None


def _cub(path: Path) -> Path | None:
    return path if all((path / name).is_file() for name in CUB_FILES) else None


def _coco(path: Path) -> Path | None:
    return path if path.is_file() and path.suffix.lower() == ".json" else None


def catalog_table(path: Path) -> Path | None:
    """The table of a folder that says by its name that it is the folder's: catalog.csv, .tsv, .xlsx or .parquet."""
    return next((file for file in _tables(path) if file.stem.lower() == "catalog"), None)


def _lone_table(path: Path) -> Path | None:
    """The one table that has the columns path and label; an error where there is a second, or class folders too."""
    tables = _tables_with(path, ("path", "label"))
    if tables and len(folders := _image_folders(path)) > 1:
        raise DataError(
            f"{path} can be read in two ways: from the table {tables[0].name} or from the folders {first_few(folders)}",
            f"Give the path of the table, {tables[0]}, or move it elsewhere to use the folders.",
        )
    return tables[0] if tables else None


def _tables_with(folder: Path, columns: Collection[str]) -> list[Path]:
    """The table in a folder that has these columns, or none. Raises DataError where there is a second."""
    tables = [file for file in _tables(folder) if set(columns) <= set(_names(file))]
    if len(tables) > 1:
        raise DataError(
            f"{folder} holds {len(tables)} tables with the columns {' and '.join(columns)}: "
            f"{first_few(file.name for file in tables)}",
            "Give the path of one of them, or join them into catalog.csv with a column 'split'.",
        )
    return tables


def _shards(path: Path) -> Path | None:
    return path if holds_shards(path) else None


def _class_folders(path: Path) -> Path | None:
    return path if path.is_dir() and holds_images(path) else None


LAYOUTS = (
    Layout("a table (.csv, .tsv, .xlsx, .parquet)", _table, read_table),
    Layout("COCO Camera Traps (.json)", _coco, read_coco),
    Layout("CUB-200-2011 (images.txt, image_class_labels.txt, classes.txt)", _cub, read_cub),
    Layout("catalog.csv, .tsv, .xlsx or .parquet", catalog_table, read_table),
    Layout("one table with the columns path and label", _lone_table, read_table),
    Layout("class folders, with or without train, val and test above them", _class_folders, read_folder),
    Layout("tar shards, as WebDataset has them", _shards, read_shards),
)
"""The layouts, in the order in which they are tried."""


def read(path: Path | str, columns: Columns | None = None, *, fewest: int = 2) -> Catalog:
    """Read the data at `path`, by the first of LAYOUTS that fits; if `columns` are given, it must be a table or shards.
    At an address there are shards.

    If a folder holds nothing but one folder, that one is read, since archives often unpack that way. Raises DataError
    if nothing fits, or if there are fewer than `fewest` classes. Gives a DataWarning for what is left out, for classes
    that a split lacks (a class without train images stays: it cannot be predicted, and counts as an error), and for
    groups that lie in two splits.
    """
    if is_remote(path):
        return checked(read_shards(Path(path), columns), fewest)
    path = Path(os.path.abspath(Path(path).expanduser()))
    if not path.exists():
        raise no_such_path(path)
    path = innermost(path)
    if path.is_dir():
        check_finished(path, os.listdir(path))
    if columns:
        foreign = holds_shards(path) and not _tables(path)
        found = read_shards(path, columns) if foreign else read_table(_table_for(path, columns), columns)
        return checked(found, fewest)
    for layout in LAYOUTS:
        if (place := layout.find(path)) is not None:
            return checked(layout.read(place), fewest)
    looked_for = "; ".join(layout.description for layout in LAYOUTS)
    raise DataError(f"No data found at {path}, which {_contents(path)}", f"Looked for: {looked_for}.")


def _table_for(path: Path, columns: Columns) -> Path:
    """The table that `columns` are about."""
    lone = _table(path) or catalog_table(path)
    tables = [lone] if lone else _tables(path)
    if len(tables) > 1:
        names = list(dict.fromkeys(map(normal, columns.values())))
        several, tables = tables, _tables_with(path, names)
        if not tables:
            raise DataError(
                f"{path} holds {len(several)} tables, none with the columns {' and '.join(names)}: "
                f"{first_few(file.name for file in several)}",
                "Give the path of the table that --columns is about.",
            )
    if not tables:
        raise DataError(
            f"--columns says how to read a table, but {path} {_contents(path)}",
            f"Give the path of a table ({', '.join(TABLE_SUFFIXES)}), or leave --columns out.",
        )
    return tables[0]


def innermost(path: Path) -> Path:
    """Step into a folder as long as it holds one folder, no image and no table, and that folder is no class."""
    while path.is_dir() and _cub(path) is None:
        entries = visible(path)
        folders = [entry for entry in entries if entry.is_dir()]
        if len(folders) != 1 or split_called(folders[0].name) or _tables(path):
            break
        if any(is_image_name(entry.name) for entry in entries + visible(folders[0])):
            break
        path = folders[0]
    return path


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without what `scan` ignores."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"Cannot read the folder {folder}: {error.strerror}", "Check its permissions.") from error
    return [folder / name for name in names if not is_ignored(name)]


def _tables(folder: Path) -> list[Path]:
    return [path for path in visible(folder) if _table(path)] if folder.is_dir() else []


def _names(file: Path) -> list[str]:
    try:
        return header_of(file)
    except DataError:
        return []  # some other file that happens to end in .csv is no concern of ours


def _image_folders(path: Path) -> list[str]:
    """The folders that could be classes."""
    return ["/".join(parts) for parts in scan(path).images if parts and not split_called(parts[-1])]


def no_such_path(path: Path, names: Iterable[str] = ()) -> DataError:
    """The error if `path` does not exist. It suggests a similar name, from its folder or from `names` of data sets."""
    siblings = [entry.name for entry in visible(path.parent)] if path.parent.is_dir() else []
    known = [*siblings, *names]
    hint = nearest(path.name, known) if known else f"The folder {path.parent} does not exist or is empty."
    if not names:
        return DataError(f"There is nothing at {path}", hint if len(hint) < 200 else "Check the path.")
    if part_of := next((name for name in names if path.name.lower() in name), None):  # "cars", not "scarf"
        hint = f"Did you mean {part_of!r}?"
    elif not hint.startswith("Did"):
        hint = "Check the path; `fieldmark datasets` lists the data sets that have a name."
    return DataError(f"There is nothing at {path}, and no data set is called {path.name!r}", hint)


def _contents(path: Path) -> str:
    """What a path holds, in words: "holds 3 files (.mat, .txt) and 1 folder (jpg)"."""
    if path.is_file():
        return f"is a file ending in {path.suffix!r} (unpack an archive first)" if path.suffix else "is a file"
    entries = visible(path)
    folders = [entry.name for entry in entries if entry.is_dir()]
    suffixes = Counter(entry.suffix or entry.name for entry in entries if not entry.is_dir())
    if not entries:
        return "is empty"
    held = [
        f"{counted(number, noun)} ({first_few(names)})"
        for number, noun, names in ((suffixes.total(), "file", suffixes), (len(folders), "folder", folders))
        if number
    ]
    return f"holds {' and '.join(held)}"


def checked(catalog: Catalog, fewest: int = 2) -> Catalog:
    """The catalogue, after the checks that apply to every layout."""
    if len(catalog.classes) < fewest:
        raise DataError(
            f"{catalog.root} holds only one class, {catalog.classes[0]!r}",
            "At least two are needed: a folder for each class, or a table with the columns path and label, which "
            "--columns can name.",
        )
    for path in catalog.paths:
        if not path.isascii() and any("\ud800" <= letter <= "\udfff" for letter in path):
            raise DataError(f"A file name in {catalog.root} is not UTF-8: {path!r}", "Rename it.")
    _warn_of_missing_classes(catalog)
    _warn_of_groups_in_two_splits(catalog)
    return catalog


def _warn_of_missing_classes(catalog: Catalog) -> None:
    for split in SPLITS:
        present = np.unique(catalog.labels[catalog.rows(split)])
        missing = np.setdiff1d(np.arange(len(catalog.classes)), present)
        if len(present) and len(missing):
            names = first_few((catalog.classes[label] for label in missing), limit=5)
            warnings.warn(
                f"{len(missing):,} of {len(catalog.classes):,} classes have no {split} images: {names}",
                DataWarning,
                stacklevel=4,
            )


def _warn_of_groups_in_two_splits(catalog: Catalog) -> None:
    grouped = catalog.groups != ""
    pairs = set(zip(catalog.groups[grouped].tolist(), catalog.splits[grouped].tolist(), strict=True))
    across = sorted(group for group, number in Counter(group for group, _ in pairs).items() if number > 1)
    if across:
        warnings.warn(
            f"{counted(len(across), 'group')} with images in more than one split: {first_few(across)}",
            DataWarning,
            stacklevel=4,
        )
