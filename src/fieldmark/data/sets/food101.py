"""Food-101.

Bossard, Guillaumin and Van Gool, "Food-101 – Mining Discriminative Components with Random Forests", 2014.
"""

from __future__ import annotations

from pathlib import Path

from fieldmark.data.catalog import Catalog
from fieldmark.data.sets.dataset import Dataset, Layout
from fieldmark.data.sets.files import assemble, json_file

__all__ = ["FOOD101"]


def _read(root: Path) -> Catalog:
    """The official splits, with 750 and 250 images of each class; train labels are noisy, test labels were checked.

    There is no validation split. "apple_pie" becomes "apple pie".
    """
    listed = {split: json_file(root / "meta" / f"{split}.json", dict[str, list[str]]) for split in ("train", "test")}
    classes = sorted(set().union(*listed.values()))
    index = {name: label for label, name in enumerate(classes)}
    samples = sorted(
        (f"images/{image}.jpg", index[name], split)
        for split, names in listed.items()
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
