"""CUB-200-2011, or a subset of it in the same layout; `fieldmark.data.readers.cub` reads it."""

from __future__ import annotations

from fieldmark.data.readers.cub import CUB_FILES, read_cub
from fieldmark.data.sets.dataset import Dataset, Layout

__all__ = ["CUB"]

CUB = Dataset(
    name="cub",
    title="CUB-200-2011",
    num_images=11_788,
    num_classes=200,
    annotations="boxes; 15 key points; genus by English name",
    terms="non-commercial research and education",
    home="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    folder="CUB_200_2011",
    layouts=(Layout(("images/", *CUB_FILES), read_cub),),
    download_gb=1.15,
    no_download="torchvision offers no download of it",
)
