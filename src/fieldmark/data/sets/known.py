"""`DATASETS`: the data sets that are known by name."""

from __future__ import annotations

import re
from pathlib import Path

from fieldmark.data.sets.cifar10 import CIFAR10
from fieldmark.data.sets.cub import CUB
from fieldmark.data.sets.dataset import Dataset
from fieldmark.data.sets.fgvc_aircraft import FGVC_AIRCRAFT
from fieldmark.data.sets.flowers102 import FLOWERS102
from fieldmark.data.sets.food101 import FOOD101
from fieldmark.data.sets.inaturalist import INATURALIST
from fieldmark.data.sets.oxford_iiit_pet import OXFORD_IIIT_PET
from fieldmark.data.sets.stanford_cars import STANFORD_CARS

__all__ = ["DATASETS", "is_named_after", "named"]

DATASETS: dict[str, Dataset] = {
    dataset.name: dataset
    for dataset in (CIFAR10, CUB, FGVC_AIRCRAFT, FLOWERS102, FOOD101, INATURALIST, OXFORD_IIIT_PET, STANFORD_CARS)
}
"""The data sets, in the order in which they are listed."""


def named(name: str | Path) -> Dataset | None:
    """The data set of this name, ignoring case and the signs between words, as in torchvision's "FGVCAircraft"."""
    letters = _letters(str(name))
    for dataset in DATASETS.values():
        if letters in {_letters(own) for own in _names(dataset)}:
            return dataset
    return None


def is_named_after(folder: Path, dataset: Dataset) -> bool:
    """Whether a folder bears the name of a data set, or its name and more: "cifar10-jpeg" for CIFAR-10."""
    words = _words(folder.name)
    return any(
        _letters(folder.name) == _letters(own) or f"{words} ".startswith(f"{_words(own)} ") for own in _names(dataset)
    )


def _names(dataset: Dataset) -> list[str]:
    return [name for name in (dataset.name, dataset.folder, dataset.title) if name]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _words(name: str) -> str:
    return " ".join(re.findall(r"[a-z0-9]+", name.lower()))
