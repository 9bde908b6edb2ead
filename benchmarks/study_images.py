"""The images of the recipe study: packed small, kept on the device, cut and augmented there.

No test split is opened. Flowers-102 is scored on its official validation split; of CUB-50 and Cars-60, which have none,
a third of the training split is held out.
"""

import io
import math
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms.v2.functional import resize

__all__ = ["SETS", "augmented", "batches", "divided", "pack", "unpack"]

SETS = {"CUB-50": "CUB_200_2011_first50", "Flowers-102": "flowers-102", "Cars-60": "cars-60/cars.csv"}
PACKED_SIDE, LONGEST = 192, 1.5  # no photograph is enlarged


def pack(path):
    """{"CUB-50/jpegs", "/ends", "/labels", "/official_val"} of the training and validation images of each set."""
    from fieldmark import read

    arrays = {}
    for name, place in SETS.items():
        catalog = read(Path(os.environ["FIELDMARK_DATA"]) / place)
        rows = np.flatnonzero(np.isin(catalog.splits, ("train", "val")))
        files = []
        for row in rows.tolist():
            with Image.open(catalog.file(row)) as image:
                image = image.convert("RGB")
            width, height = image.size
            across, down = min(width, int(LONGEST * height)), min(height, int(LONGEST * width))
            left, top = (width - across) // 2, (height - down) // 2
            ratio = min(1, PACKED_SIDE / min(across, down))
            size = round(across * ratio), round(down * ratio)
            small = image.resize(size, Image.Resampling.BICUBIC, box=(left, top, left + across, top + down))
            buffer = io.BytesIO()
            small.save(buffer, "JPEG", quality=88)
            files.append(buffer.getvalue())
        arrays |= {
            f"{name}/jpegs": np.frombuffer(b"".join(files), np.uint8),
            f"{name}/ends": np.cumsum([len(file) for file in files]),
            f"{name}/labels": catalog.labels[rows],
            f"{name}/official_val": catalog.splits[rows] == "val",
        }
        print(name, len(rows), "images,", sum(map(len, files)) >> 20, "MB", flush=True)
    np.savez(path, **arrays)


def unpack(path, name, device):
    """Images (3, H, W) uint8 on the device, and labels; and which rows are of an official validation split."""
    with np.load(path) as packed:
        data, ends = packed[f"{name}/jpegs"].tobytes(), packed[f"{name}/ends"]
        labels, official = packed[f"{name}/labels"], packed[f"{name}/official_val"]
    files = [data[start:end] for start, end in zip([0, *ends[:-1]], ends, strict=True)]
    images = [torch.from_numpy(np.array(Image.open(io.BytesIO(file)))).permute(2, 0, 1).to(device) for file in files]
    return images, torch.from_numpy(labels), official


def divided(labels, official, seed):
    """Rows to learn from and rows to score."""
    if official.any():
        return np.flatnonzero(~official), np.flatnonzero(official)
    held = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        rows = np.random.default_rng(0).permutation(np.flatnonzero(labels == label))
        held[rows[seed % 3 :: 3]] = True
    return np.flatnonzero(~held), np.flatnonzero(held)


def view(image, size, crop):
    """The central square whose side is `crop` of the short side, at this size."""
    height, width = image.shape[1:]
    side = round(min(height, width) * crop)
    top, left = (height - side) // 2, (width - side) // 2
    return resize(image[:, top : top + side, left : left + side], [size, size], antialias=True)


def augmented(image, size, row, random):
    """A random crop, mirrored or not. `square`: a square of the central square, as the reference has it."""
    height, width = image.shape[1:]
    if row["square"]:
        short = min(height, width)
        side = random.integers(round(short * math.sqrt(row["least"])), short + 1)
        down, across = side, side
        top = (height - short) // 2 + random.integers(0, short - side + 1)
        left = (width - short) // 2 + random.integers(0, short - side + 1)
    else:  # as torchvision's RandomResizedCrop
        down = across = min(height, width)
        for _ in range(10):
            area = height * width * random.uniform(row["least"], 1)
            ratio = math.exp(random.uniform(math.log(3 / 4), math.log(4 / 3)))
            wide, high = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if wide <= width and high <= height:
                down, across = high, wide
                break
        top, left = random.integers(0, height - down + 1), random.integers(0, width - across + 1)
    crop = resize(image[:, top : top + down, left : left + across], [size, size], antialias=True)
    return crop.flip(-1) if random.random() < 0.5 else crop


def batches(images, rows, size, crop):
    for start in range(0, len(rows), 64):
        yield torch.stack([view(images[i], size, crop) for i in rows[start : start + 64]])
