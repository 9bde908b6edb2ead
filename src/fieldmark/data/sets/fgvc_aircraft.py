"""FGVC-Aircraft: Maji et al., "Fine-Grained Visual Classification of Aircraft", 2013, arXiv:1306.5151."""

from __future__ import annotations

from pathlib import Path

from fieldmark.core.errors import DataError
from fieldmark.data.catalog import Catalog
from fieldmark.data.sets.dataset import Dataset, Layout
from fieldmark.data.sets.files import assemble, box, lines

__all__ = ["FGVC_AIRCRAFT"]

_SPLITS = ("train", "val", "test")
_LEVELS = ("family", "manufacturer")
_NO_BOX = (float("nan"),) * 4


def _read(root: Path) -> Catalog:
    """The classes are the 100 variants; families and manufacturers lie above them. The three splits are official.

    Published results usually train on train and val together. The lowest 20 pixels of each photograph are a banner with
    the photographer's name, which is left in.
    """
    data = root / "data"
    classes = [" ".join(fields) for fields in lines(data / "variants.txt", 1)]
    index = {name: label for label, name in enumerate(classes)}
    samples, images = [], []
    for split in _SPLITS:
        for image, variant in lines(data / f"images_variant_{split}.txt", 2):
            if variant not in index:
                raise DataError(
                    f"{data / f'images_variant_{split}.txt'} names {variant!r}, which is not in variants.txt"
                )
            samples.append((f"data/images/{image}.jpg", index[variant], split))
            images.append(image)
    boxes = _boxes(data / "images_box.txt")
    return assemble(
        root,
        "data",
        samples,
        classes,
        boxes=[boxes.get(image, _NO_BOX) for image in images] if boxes else None,
        taxonomy=_taxonomy(data, dict(zip(images, (label for _, label, _ in samples), strict=True)), len(classes)),
    )


def _boxes(file: Path) -> dict[str, tuple[float, float, float, float]]:
    if not file.is_file():
        return {}
    try:
        return {image: box(*map(float, corners.split())) for image, corners in lines(file, 2)}
    except (ValueError, TypeError) as error:
        raise DataError(f"{file} does not hold four numbers for each image", "Unpack it again.") from error


def _taxonomy(data: Path, labels: dict[str, int], num_classes: int) -> dict[str, list[str]]:
    """Level → the name of each class there. The files give it image by image; a level without files is left out."""
    levels = {}
    for level in _LEVELS:
        files = [data / f"images_{level}_{split}.txt" for split in _SPLITS]
        above = {
            labels[image]: name for file in files if file.is_file() for image, name in lines(file, 2) if image in labels
        }
        if len(above) == num_classes:
            levels[level] = [above[label] for label in range(num_classes)]
    return levels


FGVC_AIRCRAFT = Dataset(
    name="fgvc_aircraft",
    title="FGVC-Aircraft",
    num_images=10_000,
    num_classes=100,
    annotations="boxes; family, manufacturer",
    terms="non-commercial research",
    home="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/",
    folder="fgvc-aircraft-2013b",
    layouts=(
        Layout(
            ("data/images/", "data/variants.txt", *(f"data/images_variant_{split}.txt" for split in _SPLITS)), _read
        ),
    ),
    download_gb=2.75,
    torchvision="FGVCAircraft",
)
