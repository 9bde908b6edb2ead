"""Oxford-IIIT Pet: Parkhi et al., "Cats and Dogs", 2012."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from fieldmark.core.errors import DataError
from fieldmark.data.catalog import Catalog
from fieldmark.data.sets.dataset import Dataset, Layout
from fieldmark.data.sets.files import assemble, box, lines

__all__ = ["OXFORD_IIIT_PET"]

_SPLITS = {"trainval": "train", "test": "test"}
_SPECIES = {"1": "cat", "2": "dog"}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_NO_BOX = (float("nan"),) * 4


def _read(root: Path) -> Catalog:
    """37 breeds, cat or dog above them. The official "trainval" is train; a validation split is cut from it.

    Boxes are those of the head, which were published for trainval only: do not crop to them.
    """
    folder = root / "annotations"
    rows = [(fields, split) for name, split in _SPLITS.items() for fields in lines(folder / f"{name}.txt", 4)]
    names: dict[int, str] = {}
    species: dict[int, str] = {}
    samples = []
    for (image, number, kind, _), split in rows:
        if not number.isdigit() or kind not in _SPECIES:
            problem = f"{folder}: {image} has class {number!r} and species {kind!r}"
            raise DataError(problem, "Expected a number, and 1 (cat) or 2 (dog). Unpack it again.")
        names[int(number)] = image.rsplit("_", 1)[0].replace("_", " ").title()
        species[int(number)] = _SPECIES[kind]
        samples.append((f"images/{image}.jpg", int(number), split))
    index = {number: label for label, number in enumerate(sorted(names))}
    return assemble(
        root,
        "annotations",
        [(path, index[number], split) for path, number, split in samples],
        [names[number] for number in index],
        boxes=_heads(folder / "xmls", [fields[0] for fields, _ in rows]),
        taxonomy={"species": [species[number] for number in index]},
    )


def _heads(folder: Path, images: list[str]) -> list[tuple[float, ...]] | None:
    if not folder.is_dir():
        return None
    return [_head(file) if (file := folder / f"{image}.xml").is_file() else _NO_BOX for image in images]


def _head(file: Path) -> tuple[float, ...]:
    try:
        corners = ElementTree.parse(file).find("object/bndbox")
        return _NO_BOX if corners is None else box(*(float(corners.findtext(name, "")) for name in _CORNERS))
    except (OSError, ElementTree.ParseError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {error}", "Unpack annotations.tar.gz again.") from error


OXFORD_IIIT_PET = Dataset(
    name="oxford_iiit_pet",
    title="Oxford-IIIT Pet",
    num_images=7_349,
    num_classes=37,
    annotations="boxes of heads (train only); cat or dog",
    terms="CC BY-SA 4.0; photographs belong to their owners",
    home="https://www.robots.ox.ac.uk/~vgg/data/pets/",
    folder="oxford-iiit-pet",
    layouts=(Layout(("images/", "annotations/trainval.txt", "annotations/test.txt"), _read),),
    download_gb=0.81,
    torchvision="OxfordIIITPet",
)
