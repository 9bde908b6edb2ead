"""iNaturalist 2021: Van Horn et al., "Benchmarking Representation Learning for Natural World Image Collections", 2021.

The older competitions (2017 to 2019) are read by their JSON files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from typing_extensions import TypedDict

from fieldmark.core.errors import DataError
from fieldmark.data.catalog import Catalog
from fieldmark.data.scan import scan
from fieldmark.data.sets.dataset import Dataset, Layout
from fieldmark.data.sets.files import assemble, json_file, whole

__all__ = ["INATURALIST", "nested"]

_LEVELS = ("genus", "family", "order", "class", "phylum", "kingdom")
_TRAIN = ("2021_train", "train", "2021_train_mini", "train_mini")
_VALID = ("2021_valid", "val")
_SPECIES = "[0-9][0-9][0-9][0-9][0-9]_*_*_*_*_*_*_*"
"""00000_Animalia_Annelida_Clitellata_Haplotaxida_Lumbricidae_Lumbricus_terrestris"""


_SHOWN_JSON = "train2019.json, val2019.json and the images (2018 and 2017 alike)"


class Category(TypedDict):
    """A species; the names of the levels above it stand beside these keys."""

    id: int
    name: str


class Note(TypedDict):
    """The species of an image."""

    image_id: int
    category_id: int


class Image(TypedDict):
    """An image."""

    id: int
    file_name: str


class Listing(TypedDict):
    """One of the two files: what a split consists of."""

    categories: list[Category]
    annotations: list[Note]
    images: list[Image]


def nested(levels: dict[str, list[str]]) -> dict[str, tuple[str, ...]]:
    """`levels`, finest first, with names made different that stand for different things.

    Zoology and botany name apart: Morus is a genus of gannets and one of mulberries, here "Morus (Sulidae)" and
    "Morus (Moraceae)".
    """
    done: dict[str, tuple[str, ...]] = {}
    above: list[str] | None = None
    for level in reversed(levels):
        names = levels[level]
        if above is not None:
            parents = Counter(name for name, _ in set(zip(names, above, strict=True)))
            pairs = zip(names, above, strict=True)
            names = [f"{name} ({parent})" if parents[name] > 1 else name for name, parent in pairs]
        done[level] = tuple(names)
        above = names
    return {level: done[level] for level in levels}


def _read_2021(root: Path) -> Catalog:
    """Species folders that carry the whole taxonomy in their names.

    The test labels were never published: the official validation split, which everyone reports on, is the test split
    here, and a validation split is cut from train. The whole train split is used if the mini split is there too.
    """
    train = next((name for name in _TRAIN if (root / name).is_dir()), None)
    valid = next((name for name in _VALID if (root / name).is_dir()), None)
    found = {
        (name, *folders): images
        for name in (train, valid)
        if name
        for folders, images in scan(root / name).images.items()
    }
    species = sorted({parts[1] for parts in found if len(parts) == 2 and parts[1].count("_") == 7})
    fields = [name.split("_") for name in species]
    levels = {level: [names[6 - i] for names in fields] for i, level in enumerate(_LEVELS)}
    taxonomy = nested({"species": [f"{names[6]} {names[7]}" for names in fields], **levels})
    index = {name: label for label, name in enumerate(species)}
    samples = [
        ("/".join((*parts, image)), index[parts[1]], "test" if parts[0] == valid else "train")
        for parts in sorted(found)
        if parts[1:] and parts[1] in index
        for image in found[parts]
    ]
    catalog = assemble(root, train or valid or "", samples, taxonomy.pop("species"), taxonomy=taxonomy)
    return catalog if train and valid else whole(catalog, f"{root} holds only {train or valid}")


def _reader(year: int) -> Layout:
    """2017 to 2019: two JSON files and the folder of images, by its official name or by torchvision's."""

    def read(root: Path) -> Catalog:
        return _read_json(root, year)

    return Layout((f"train{year}.json", f"val{year}.json"), read, shown=_SHOWN_JSON)


def _read_json(root: Path, year: int) -> Catalog:
    """Levels are what the files name: all of them where the released names stand beside them (categories.json).

    The official validation split is the test split here, as in 2021.
    """
    names = (("train", "train"), ("val", "test"))
    listed = {split: json_file(root / f"{name}{year}.json", Listing) for name, split in names}
    try:
        given = root / "categories.json"
        categories = json_file(given, list[Category]) if given.is_file() else listed["train"]["categories"]
        categories = sorted(categories, key=lambda category: category["id"])
        index = {category["id"]: label for label, category in enumerate(categories)}
        samples = [sample for split, found in listed.items() for sample in _samples(root, year, split, found, index)]
        known = [level for level in _LEVELS if all(category.get(level) for category in categories)]
        # a supercategory may be a class or a kingdom: it stands only above the species
        named = cast("list[Mapping[str, object]]", categories)
        levels = {level: [str(one[level]) for one in named] for level in known or ("supercategory",)}
        taxonomy = nested({"species": [str(category["name"]) for category in categories], **levels})
    except (KeyError, TypeError) as error:
        problem = f"The JSON files of {year} in {root} are not the published ones: {error} is missing"
        raise DataError(problem, "Download them again.") from error
    return assemble(root, f"train{year}.json", samples, taxonomy.pop("species"), taxonomy=taxonomy)


def _samples(root: Path, year: int, split: str, found: Listing, index: Mapping[int, int]) -> list[tuple[str, int, str]]:
    label_of = {note["image_id"]: index[note["category_id"]] for note in found["annotations"]}
    renamed = (root / str(year)).is_dir()  # torchvision calls train_val2019 by its year
    samples = []
    for image in found["images"]:
        path = image["file_name"]
        samples.append((f"{year}/{path.partition('/')[2]}" if renamed else path, label_of[image["id"]], split))
    return samples


INATURALIST = Dataset(
    name="inaturalist",
    title="iNaturalist 2021",
    num_images=2_786_843,
    num_classes=10_000,
    annotations="genus, family, order, class, phylum, kingdom",
    terms="non-commercial research and education; each photograph under its own licence",
    home="https://github.com/visipedia/inat_comp",
    folder="",
    layouts=(
        Layout((f"2021_*/{_SPECIES}/",), _read_2021, shown="2021_train/ or 2021_train_mini/, 2021_valid/"),
        Layout((f"train*/{_SPECIES}/", "val/"), _read_2021, shown="train/ or train_mini/, val/"),
        *map(_reader, (2019, 2018, 2017)),
    ),
    download_gb=224,
    no_download="it is too large to download unasked (the mini train split is 42 GB, val 8 GB)",
)
