"""Class folders: `robin/*.jpg`, `train/robin/*.jpg`, `genus/species/*.jpg` and any combination of these.

The folders that hold images are the classes; those above them are the taxonomy, called genus, family and order from
the class upwards (then "level 5" and so on), whatever the trade: a car's make stands where a bird's genus does.
"""

from __future__ import annotations

import os
import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import Catalog, Split
from fieldmark.data.splits import SPLIT_NAMES
from fieldmark.data.taxonomy import Taxonomy

__all__ = ["IMAGE_EXTENSIONS", "Scan", "is_image_name", "natural_key", "read_folder", "scan"]

IMAGE_EXTENSIONS = frozenset(
    {
        "jpg",
        "jpeg",
        "jpe",
        "jfif",
        "mpo",
        "png",
        "webp",
        "avif",
        "tif",
        "tiff",
        "bmp",
        "gif",
        "ppm",
        "pgm",
        "pbm",
        "pnm",
    }
)
"""Of the formats that decode.py opens."""
_OTHER_IMAGES = frozenset({"heic", "heif", "jp2", "jxl", "dng", "cr2", "cr3", "nef", "arw", "raf", "psd"})
_IGNORED = frozenset({"__macosx", "thumbs.db", "desktop.ini"})
_LEVELS = ("genus", "family", "order")

Parts = tuple[str, ...]
"""A folder's names from the root down."""


@dataclass(frozen=True)
class Scan:
    """What lies in a folder."""

    images: dict[Parts, list[str]] = field(default_factory=dict)
    """Folder → the images directly in it, sorted by name; no folder without images is listed."""
    empty: list[Parts] = field(default_factory=list)
    """Folders with no image in or below them, the topmost ones."""
    other_images: Counter[str] = field(default_factory=Counter)
    """Extension → number of images of a format that is not read."""


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sort key by which "class2" stands before "class10", whatever the case."""
    pieces = re.split(r"([0-9]+)", name.casefold())
    return [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)], name


def scan(root: Path) -> Scan:
    """All images in and below `root`. Hidden files are ignored; a link that leads back to a folder above is not taken.

    A broken link with an image's name counts as an image, so that reading it says what is wrong. Raises DataError
    where a folder may not be read.
    """
    found = Scan()
    _visit(root, (), frozenset(), found)
    return found


def _visit(folder: Path | str, parts: Parts, above: frozenset[tuple[int, int]], found: Scan) -> bool:
    """Add what lies in and below `folder` to `found`; return whether there was an image."""
    try:
        status = os.stat(folder)
        here = (status.st_dev, status.st_ino)
        if here in above:
            return False
        with os.scandir(folder) as entries:
            listed = [(entry.name, entry.is_dir()) for entry in entries if not _is_ignored(entry.name)]
    except OSError as error:
        raise DataError(f"Cannot read the folder {folder}: {error.strerror}", "Check its permissions.") from error
    files = [name for name, is_folder in listed if not is_folder]
    if images := sorted(name for name in files if is_image_name(name)):
        found.images[parts] = images
    found.other_images.update(extension for extension in map(_extension, files) if extension in _OTHER_IMAGES)
    num_empty = len(found.empty)
    inside = [
        _visit(os.path.join(folder, name), (*parts, name), above | {here}, found)
        for name in sorted(name for name, is_folder in listed if is_folder)
    ]
    has_images = bool(images) or any(inside)
    if not has_images:
        found.empty[num_empty:] = [parts]
    return has_images


def is_image_name(name: str) -> bool:
    """Whether a file of this name is an image that is read; hidden files are not."""
    return not _is_ignored(name) and _extension(name) in IMAGE_EXTENSIONS


def _extension(name: str) -> str:
    return os.path.splitext(name)[1][1:].lower()


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _IGNORED


def read_folder(root: Path) -> Catalog:
    """Read class folders, with or without train, val and test folders (SPLIT_NAMES) above them.

    Folders nested to an even depth give a taxonomy. Two folders of one name under different parents are two classes,
    "parent/name". Classes are the union over all splits. Left out with a DataWarning: folders without images, images
    beside the class folders, formats that are not read. Raises DataError if there are no class folders, if
    images lie beside the folders of a level, or if only some of the top folders are splits.
    """
    found = scan(root)
    split_of = _splits_on_top(root, found)
    depth = 1 if split_of else 0
    labelled = {parts: _normal(parts[depth:]) for parts in found.images if len(parts) > depth}
    if not labelled:
        raise _no_class_folders(root, found)
    _refuse_mixed_folders(root, labelled)
    _warn_of_what_is_left_out(root, found, set(found.images) - set(labelled))
    names = _short_names(set(labelled.values()))
    nodes = sorted(names, key=lambda node: natural_key(names[node]))
    classes = tuple(names[node] for node in nodes)
    index = {node: label for label, node in enumerate(nodes)}
    samples = sorted(
        ("/".join((*parts, image)), index[node], split_of.get(parts[0], ""))
        for parts, node in labelled.items()
        for image in found.images[parts]
    )
    return Catalog(
        name=root.name,
        root=root,
        paths=tuple(path for path, _, _ in samples),
        labels=np.array([label for _, label, _ in samples], dtype=np.int64),
        classes=classes,
        splits=np.array([split for _, _, split in samples], dtype="<U5"),
        groups=np.full(len(samples), "", dtype="<U1"),
        taxonomy=Taxonomy.of(classes, _taxonomy(nodes)),
    )


def _splits_on_top(root: Path, found: Scan) -> dict[str, Split]:
    """The split of each top folder; empty if the top folders are classes or taxonomy.

    A folder is a split by its name and by holding folders with images: `train/*.jpg` beside `bus/*.jpg` is a class.
    """
    tops = {parts[0] for parts in found.images if parts}
    deep = {parts[0] for parts in found.images if len(parts) > 1}
    split_of = {name: SPLIT_NAMES[name.lower()] for name in tops if name.lower() in SPLIT_NAMES}
    has_train = any(split_of.get(name) == "train" for name in deep)
    if not (has_train or (split_of.keys() == tops and deep)):
        return {}
    if others := sorted(tops - split_of.keys()):
        raise DataError(
            f"{root} holds the splits {first_few(sorted(split_of))}, but also {first_few(others)} with images",
            "Move the other folders into a split, or out of the way.",
        )
    return split_of


def _normal(parts: Parts) -> Parts:
    """The same name for the same letters: macOS writes é as two characters."""
    return tuple(unicodedata.normalize("NFC", part) for part in parts)


def _no_class_folders(root: Path, found: Scan) -> DataError:
    hint = "Expected a folder for each class, as in robin/1.jpg, or a table with the columns path and label."
    if not found.images:
        formats = (
            f" (only .{first_few(sorted(found.other_images))}, which Fieldmark does not read)"
            if found.other_images
            else ""
        )
        return DataError(f"There are no images in {root}{formats}", hint)
    parts, images = next(iter(found.images.items()))
    return DataError(f"{root.joinpath(*parts)} holds {counted(len(images), 'image')} but no class folders", hint)


def _refuse_mixed_folders(root: Path, labelled: Mapping[Parts, Parts]) -> None:
    for parts in labelled:
        for depth in range(1, len(parts)):
            if parts[:depth] in labelled:
                raise DataError(
                    f"{root.joinpath(*parts[:depth])} holds both images and a folder with images, {parts[depth]!r}",
                    "A folder is either a class or a level above classes. Move the images or the folder.",
                )
    if all(parts[-1].lower() in SPLIT_NAMES for parts in labelled):
        raise DataError(
            f"In {root}, the folders {first_few(sorted({parts[-1] for parts in labelled}))} are inside class folders",
            "Put the class folders inside the splits, as in train/robin/1.jpg.",
        )


def _warn_of_what_is_left_out(root: Path, found: Scan, unlabelled: Collection[Parts]) -> None:
    left_out = []
    if unlabelled:
        number = sum(len(found.images[parts]) for parts in unlabelled)
        where = first_few(sorted("/".join(parts) or "the top folder" for parts in unlabelled))
        left_out.append(f"{counted(number, 'image')} outside class folders (in {where})")
    if found.empty:
        folders = first_few(sorted("/".join(parts) for parts in found.empty))
        left_out.append(f"{counted(len(found.empty), 'folder')} without images ({folders})")
    if found.other_images:
        formats = first_few(f".{extension}" for extension in sorted(found.other_images))
        left_out.append(
            f"{counted(found.other_images.total(), 'image')} in formats that Fieldmark does not read ({formats})"
        )
    if left_out:
        warnings.warn(f"Left out of {root}: {'; '.join(left_out)}", DataWarning, stacklevel=3)


def _short_names(nodes: Collection[Parts]) -> dict[Parts, str]:
    """Each folder's own name, preceded by its parents' as far as needed to tell it from others of that name."""
    names: dict[Parts, str] = {}
    length = 1
    while len(names) < len(nodes):
        alike = Counter(node[-length:] for node in nodes)
        names |= {node: "/".join(node[-length:]) for node in nodes if node not in names and alike[node[-length:]] == 1}
        length += 1
    return names


def _taxonomy(classes: list[Parts]) -> dict[str, tuple[str, ...]]:
    """The levels above the classes, finest first; a level with a single name says nothing and is dropped."""
    depths = {len(node) for node in classes}
    if len(depths) > 1:
        examples = first_few("/".join(next(node for node in classes if len(node) == depth)) for depth in sorted(depths))
        warnings.warn(
            f"The folders give no taxonomy, because the classes lie at different depths: {examples}",
            DataWarning,
            stacklevel=3,
        )
        return {}
    levels = {}
    for above in range(1, depths.pop()):
        names = _short_names({node[:-above] for node in classes})
        if len(names) > 1:
            level = _LEVELS[above - 1] if above <= len(_LEVELS) else f"level {above + 1}"
            levels[level] = tuple(names[node[:-above]] for node in classes)
    return levels
