"""Oxford Flowers-102.

Nilsback and Zisserman, "Automated Flower Classification over a Large Number of Classes", 2008.
"""

from __future__ import annotations

import csv
from pathlib import Path

from fieldmark.core.errors import DataError
from fieldmark.data.catalog import Catalog
from fieldmark.data.sets.dataset import Dataset, Layout
from fieldmark.data.sets.files import assemble, lines, mat_file

__all__ = ["FLOWERS102"]

_SPLITS = {"trnid": "train", "valid": "val", "tstid": "test"}


def _read(root: Path) -> Catalog:
    """The official splits, with 10, 10 and at least 20 images of each class.

    The names are torchvision's, as the official files hold numbers only, or those of a `class_names.csv` (number,
    name) beside them.
    """
    (labels,) = mat_file(root / "imagelabels.mat", "labels")
    numbers = mat_file(root / "setid.mat", *_SPLITS)
    split_of = {int(i): split for split, ids in zip(_SPLITS.values(), numbers, strict=True) for i in ids}
    if strangers := [i for i in split_of if not 1 <= i <= len(labels)]:
        raise DataError(f"{root / 'setid.mat'} lists image {strangers[0]}, but {len(labels)} images have labels")
    samples = [(f"jpg/image_{i:05}.jpg", int(labels[i - 1]) - 1, split_of[i]) for i in sorted(split_of)]
    return assemble(root, "setid.mat", samples, _names(root / "class_names.csv"))


def _names(file: Path) -> list[str]:
    if file.is_file():
        rows = csv.reader(line for (line,) in lines(file, 1))
        named = {int(row[0]): row[1] for row in rows if len(row) == 2 and row[0].isdigit()}
        return [named[number] for number in sorted(named)]
    from torchvision.datasets import Flowers102

    return list(Flowers102.classes)


FLOWERS102 = Dataset(
    name="flowers102",
    title="Oxford Flowers-102",
    num_images=8_189,
    num_classes=102,
    annotations="",
    terms="none stated; photographs collected for research",
    home="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    folder="flowers-102",
    layouts=(Layout(("jpg/", "imagelabels.mat", "setid.mat"), _read),),
    download_gb=0.35,
    torchvision="Flowers102",
)
