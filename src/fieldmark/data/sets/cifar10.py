"""CIFAR-10: Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.

The originals are pickles, and a pickle can run any code when it is opened. So a file is opened only where its MD5 is
the published one, and its pictures are then written once as class folders of PNG files, since a catalogue points to
files.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fieldmark.core.errors import DataError
from fieldmark.core.reading import read_regular
from fieldmark.core.storage import cache_folder, new_folder
from fieldmark.data.readers.folder import read_folder
from fieldmark.data.sets.dataset import Dataset, Layout, Tell

__all__ = ["CIFAR10", "as_pictures"]

_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch")
_META = "batches.meta"


def as_pictures(folder: Path, tell: Tell) -> Path:
    """Class folders of the pictures in the pickled batches: `train/<class>/<number>.png` in the user's cache folder.

    They are written once. Raises DataError, before anything is unpickled, where a file is not the published one.
    """
    pictures = cache_folder() / "datasets" / "cifar10"
    if pictures.is_dir():
        return pictures
    tell(f"Writing the pictures in {folder} to PNG files in {pictures}: this is done once and takes a minute or two")
    opened = {name: _opened(folder / name, md5) for name, md5 in _published().items()}
    classes = opened.pop(_META)["label_names"]
    with new_folder(pictures) as scratch:
        for split in ("train", "test"):
            for name in classes:
                (scratch / split / name).mkdir(parents=True)
        for number, pixels, label, split in _pictures(opened):
            file = scratch / split / classes[label] / f"{number:05}.png"
            Image.fromarray(pixels).save(file, compress_level=1)
    return pictures


def _published() -> dict[str, str]:
    """The MD5 of each file, as torchvision knows them."""
    from torchvision.datasets import CIFAR10 as Official

    batches = dict(Official.train_list + Official.test_list)
    return {**batches, _META: Official.meta["md5"]}


def _opened(file: Path, md5: str) -> dict[str, Any]:
    """What the pickle holds. The very bytes that were checked are opened, not the file a second time."""
    try:
        data = read_regular(file)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{file} cannot be read: {reason}", "Unpack cifar-10-python.tar.gz again.") from error
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != md5:
        raise DataError(
            f"{file} is not the published file: its MD5 is {found}, not {md5}. It is a pickle, which could run any "
            "code, so it was not opened",
            "Unpack cifar-10-python.tar.gz again, or provide class folders: train/<class>/…, test/<class>/….",
        )
    opened: dict[str, Any] = pickle.loads(data, encoding="latin1")
    return opened


def _pictures(batches: dict[str, dict[str, Any]]) -> Iterator[tuple[int, np.ndarray[Any, Any], int, str]]:
    """The number within the split, pixels (32, 32, 3), label and split, in official order."""
    counts = {"train": 0, "test": 0}
    for name, batch in batches.items():
        split = "test" if name == "test_batch" else "train"
        pixels = np.asarray(batch["data"], np.uint8).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        for picture, label in zip(np.ascontiguousarray(pixels), batch["labels"], strict=True):
            yield counts[split], picture, label, split
            counts[split] += 1


CIFAR10 = Dataset(
    name="cifar10",
    title="CIFAR-10",
    num_images=60_000,
    num_classes=10,
    annotations="",
    terms="none stated; asks for a citation",
    home="https://www.cs.toronto.edu/~kriz/cifar.html",
    folder="cifar-10-batches-py",
    layouts=(Layout((*_BATCHES, _META), read_folder, as_pictures),),
    download_gb=0.17,
    torchvision="CIFAR10",
)
