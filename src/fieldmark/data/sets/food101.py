"""Food-101.

Bossard, Guillaumin and Van Gool, "Food-101 – Mining Discriminative Components with Random Forests", 2014.
"""

from __future__ import annotations

from pathlib import Path

from fieldmark.core.errors import DataError
from fieldmark.data.catalog import Catalog
from fieldmark.data.sets.dataset import Dataset, Layout
from fieldmark.data.sets.files import assemble, json_file

__all__ = ["FOOD101"]


def _read(root: Path) -> Catalog:
    """The official parts, 750 / 250 of each class; the train labels are noisy on purpose, those of test were checked.

    There is no validation part. "apple_pie" becomes "apple pie".
    """
    listed = {part: json_file(root / "meta" / f"{part}.json") for part in ("train", "test")}
    for part, names in listed.items():
        if not isinstance(names, dict) or not all(isinstance(images, list) for images in names.values()):
            raise DataError(
                f"{root / 'meta' / part}.json holds no classes", "Expected class → images. Unpack it again."
            )
    classes = sorted(set().union(*listed.values()))
    index = {name: label for label, name in enumerate(classes)}
    samples = sorted(
        (f"images/{image}.jpg", index[name], part)
        for part, names in listed.items()
        for name, images in names.items()
        for image in images
    )
    return assemble(root, "meta", samples, [name.replace("_", " ") for name in classes])


FOOD101 = Dataset(
    name="food101",
    title="Food-101",
    num_images=101_000,
    num_classes=101,
    annotations="",
    terms="scientific fair use; photographs belong to Foodspotting's users",
    home="https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/",
    folder="food-101",
    layouts=(Layout(("images/", "meta/train.json", "meta/test.json"), _read),),
    download_gb=5.0,
    torchvision="Food101",
)
