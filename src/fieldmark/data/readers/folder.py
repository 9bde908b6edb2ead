"""Class folders: `robin/*.jpg`, `train/robin/*.jpg`, `genus/species/*.jpg` and any combination of these.

The folders that hold images are the classes; those above them are the taxonomy, called genus, family and order from
the class upwards (then "level 5" and so on), whatever the trade: a car's make stands where a bird's genus does.

A class is called after its folder. Folders that are named like genera and epithets, `Passerina/ciris`, give both:
"Passerina ciris". (The parent of every class is a single capitalised word, and every class consists of lower-case words
that do not repeat it.)
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import Catalog, Split
from fieldmark.data.names import normal
from fieldmark.data.scan import Parts, Scan, scan
from fieldmark.data.splits import split_called
from fieldmark.data.taxonomy import Taxonomy

__all__ = ["natural_key", "read_folder"]

_LEVELS = ("genus", "family", "order")


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sort key by which "class2" stands before "class10", whatever the case."""
    pieces = re.split(r"([0-9]+)", name.casefold())
    return [int(piece) if index % 2 else piece for index, piece in enumerate(pieces)], name


def read_folder(root: Path) -> Catalog:
    """Read class folders, with or without train, val and test folders (`split_called`) above them.

    Folders nested to an even depth give a taxonomy. Two folders of one name under different parents are two classes,
    "parent/name". Classes are the union over all splits. Left out with a DataWarning: folders without images, images
    beside the class folders, and whatever `scan` leaves out. Raises DataError if there are no class folders, if
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
    _warn_of_joined_folders(root, labelled)
    names = _class_names(set(labelled.values()))
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
    split_of = {name: split for name in tops if (split := split_called(name))}
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
    return tuple(normal(part) or part for part in parts)


def _warn_of_joined_folders(root: Path, labelled: Mapping[Parts, Parts]) -> None:
    """A name in two forms in two splits comes of copying; side by side it is worth a word."""
    beside: dict[tuple[Parts, Parts], list[str]] = {}
    for parts, node in labelled.items():
        beside.setdefault((parts[:-1], node), []).append(parts[-1])
    for (_, node), names in beside.items():
        if len(names) > 1:
            warnings.warn(
                f"The folders {' and '.join(map(repr, names))} in {root} are one class, {node[-1]!r}: their names "
                "differ only by blanks or by how their letters are encoded",
                DataWarning,
                stacklevel=3,
            )


def _no_class_folders(root: Path, found: Scan) -> DataError:
    hint = "Expected a folder for each class, as in robin/1.jpg, or a table with the columns path and label."
    if not found.images:
        only = f", only {'; '.join(reasons)}" if (reasons := found.reasons()) else ""
        return DataError(f"There are no images in {root}{only}", hint)
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
    if all(split_called(parts[-1]) for parts in labelled):
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
    left_out += found.reasons()
    if left_out:
        warnings.warn(f"Left out of {root}: {'; '.join(left_out)}", DataWarning, stacklevel=3)


def _class_names(nodes: Collection[Parts]) -> dict[Parts, str]:
    """The name of each class folder: its own, or genus and epithet."""
    if not all(len(node) > 1 and _is_epithet(node[-1], of=node[-2]) for node in nodes):
        return _short_names(nodes)
    whole = {node: (*node[:-2], f"{node[-2]} {node[-1]}") for node in nodes}
    names = _short_names(set(whole.values()))
    return {node: names[parts] for node, parts in whole.items()}


def _is_epithet(name: str, *, of: str) -> bool:
    """Whether a folder is named like the species "ciris" `of` the genus "Passerina"."""
    genus = of.isalpha() and of == of.capitalize() != of.lower()
    words = re.split(r"[ _-]", name)
    return genus and name == name.lower() and all(map(str.isalpha, words)) and of.lower() not in words


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
