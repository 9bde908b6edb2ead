"""Stanford Cars: Krause et al., "3D Object Representations for Fine-Grained Categorization", 2013."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from fieldmark.core.errors import DataError
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.folder import read_folder
from fieldmark.data.sets.dataset import CLASS_FOLDERS, Dataset, Layout
from fieldmark.data.sets.files import assemble, box, mat_file
from fieldmark.data.taxonomy import Taxonomy

__all__ = ["STANFORD_CARS", "taxonomy"]

_TWO_WORDS = ("AM General", "Aston Martin", "Land Rover")
_CORNERS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
_YEAR = re.compile(r" (19|20)\d\d$")
_KIT = ("cars_train/", "cars_test/", "devkit/cars_meta.mat", "devkit/cars_train_annos.mat")
_TEST_LABELS = "cars_test_annos_withlabels.mat"
_SHOWN_KIT = ", ".join((*_KIT, f"{_TEST_LABELS} (there or in devkit/)"))
_A_CLASS = "AM General Hummer SUV 2000"
"""The first of them."""


def taxonomy(classes: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """ "Audi S4 Sedan 2012" → model "Audi S4 Sedan", make "Audi". Years of one model are different classes."""
    models = [_YEAR.sub("", name) for name in classes]
    makes = [next((m for m in _TWO_WORDS if model.startswith(m)), model.split(" ")[0]) for model in models]
    return {"model": tuple(models), "make": tuple(makes)}


def _read(root: Path) -> Catalog:
    """The layout that torchvision reads: two folders of images and the development kit, without a validation split."""
    test = next(file for file in (root / _TEST_LABELS, root / "devkit" / _TEST_LABELS) if file.is_file())
    (classes,) = mat_file(root / "devkit" / "cars_meta.mat", "class_names")
    (train_rows,) = mat_file(root / "devkit" / "cars_train_annos.mat", "annotations")
    (test_rows,) = mat_file(test, "annotations")
    rows = [(row, "train") for row in train_rows] + [(row, "test") for row in test_rows]
    _check_fields(test, test_rows, "fname", "class", *_CORNERS)
    samples = [(f"cars_{split}/{row['fname']}", int(row["class"]) - 1, split) for row, split in rows]
    return _assembled(root, "devkit", samples, classes, [row for row, _ in rows])


def _read_joint(root: Path) -> Catalog:
    """The joint layout: all images in one folder, and one file that says which of them are test images."""
    file = root / "cars_annos.mat"
    rows, classes = mat_file(file, "annotations", "class_names")
    _check_fields(file, rows, "relative_im_path", "class", "test", *_CORNERS)
    samples = [
        (str(row["relative_im_path"]), int(row["class"]) - 1, "test" if int(row["test"]) else "train") for row in rows
    ]
    return _assembled(root, file.name, samples, classes, list(rows))


def _check_fields(file: Path, rows: Any, *names: str) -> None:
    lacking = [name for name in names if name not in (rows.dtype.names or ())]
    if lacking:
        hint = "The test labels are in cars_test_annos_withlabels.mat, not in cars_test_annos.mat."
        raise DataError(f"{file}: annotations lack {', '.join(lacking)}", hint)


def _assembled(root: Path, source: str, samples: list[tuple[str, int, str]], classes: Any, rows: list[Any]) -> Catalog:
    names = [str(name) for name in classes]
    boxes = [box(*(float(row[corner]) for corner in _CORNERS)) for row in rows]
    return assemble(root, source, samples, names, boxes=boxes, taxonomy=taxonomy(names))


def _read_folders(root: Path) -> Catalog:
    """Class folders by the official names in train and test; no boxes."""
    catalog = read_folder(root)
    return replace(catalog, taxonomy=Taxonomy.of(catalog.classes, taxonomy(catalog.classes)))


STANFORD_CARS = Dataset(
    name="stanford_cars",
    title="Stanford Cars",
    num_images=16_185,
    num_classes=196,
    annotations="boxes; model, make",
    terms="non-commercial research",
    home="Kaggle, where copies are kept (https://ai.stanford.edu/~jkrause/cars/car_dataset.html is gone)",
    folder="stanford_cars",
    layouts=(
        *(Layout((*_KIT, place + _TEST_LABELS), _read, shown=_SHOWN_KIT) for place in ("", "devkit/")),
        Layout(("car_ims/", "cars_annos.mat"), _read_joint),
        Layout((f"train/{_A_CLASS}/", f"test/{_A_CLASS}/"), _read_folders, shown=CLASS_FOLDERS),
    ),
    download_gb=1.95,
    no_download="its official download is gone",
)
