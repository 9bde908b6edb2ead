"""Crop and resize of a whole batch against one picture at a time: what it takes on one core, and whose pixels differ.

usage: augmentation.py PHOTOGRAPHS [--number 64] [--sizes 160 224] [--rounds 5]

  pillow       as training does it: a window with fractions of pixels, resized by Pillow with antialiasing
  whole batch  the same as two multiplications by matrices of Pillow's own weights, with its two roundings: what a GPU
               would do with pictures that are filled up to one size
  torch        torch's antialiased `interpolate` of one picture, which knows no fractions of pixels
  window       what would be left for a worker where a GPU does the rest: cutting the pixels out
"""

import argparse
import time
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from fieldmark.augment.image import ImageAugment, _draw_crop
from fieldmark.data.decode import decode
from fieldmark.data.square import channels_first, resized

MARGIN = 4
"""Pixels beyond a window that the filter looks at."""


def cubic(x, a=-0.5):
    x = x.abs()
    near, far = ((a + 2) * x - (a + 3)) * x * x + 1, (((x - 5) * x + 8) * x - 4) * a
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def weights(length, low, high, size):
    """(size, length): how much each pixel counts for each new one, as Pillow has it."""
    scale = (high - low) / size
    wide = max(scale, 1.0)
    middle = low + (torch.arange(size, dtype=torch.float64) + 0.5) * scale
    found = cubic((torch.arange(length, dtype=torch.float64) + 0.5 - middle[:, None]) / wide)
    return (found / found.sum(1, keepdim=True)).float()


def rounded(x):
    return (x + 0.5).floor_().clamp_(0, 255)


def whole_batch(pictures, down, across):
    return rounded(down[:, None] @ rounded(pictures.float() @ across.transpose(1, 2)[:, None])).to(torch.uint8)


def filled(pictures, windows, size):
    """Pictures (B, 3, H, W) of one size, and the weights for their rows (B, size, H) and columns (B, size, W)."""
    high, wide = (max(p.shape[axis] for p in pictures) for axis in (0, 1))
    batch = torch.zeros(len(pictures), 3, high, wide, dtype=torch.uint8)
    down, across = torch.zeros(len(pictures), size, high), torch.zeros(len(pictures), size, wide)
    for index, (picture, (left, top, right, bottom)) in enumerate(zip(pictures, windows, strict=True)):
        height, width = picture.shape[:2]
        batch[index, :, :height, :width] = torch.from_numpy(picture).permute(2, 0, 1)
        down[index, :, :height] = weights(height, top, bottom, size)
        across[index, :, :width] = weights(width, left, right, size)
    return batch, down, across


def interpolated(picture, window, size):
    left, top, right, bottom = map(round, window)
    cut = torch.from_numpy(picture[top:bottom, left:right]).permute(2, 0, 1)[None]
    return F.interpolate(cut, (size, size), mode="bicubic", antialias=True)[0]


def cut(picture, window):
    left, top, right, bottom = map(int, window)
    low, high = (max(0, top - MARGIN), max(0, left - MARGIN)), (bottom + MARGIN, right + MARGIN)
    return np.ascontiguousarray(picture[low[0] : high[0], low[1] : high[1]])


def timed(act, rounds):
    """The result, and the least processor time of some rounds: other work only adds to it."""
    taken = []
    for _ in range(rounds):
        began = time.process_time()
        found = act()
        taken.append(time.process_time() - began)
    return found, min(taken)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--number", type=int, default=64)
    parser.add_argument("--sizes", type=int, nargs="+", default=[160, 224])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    files = list(islice(sorted(options.photographs.rglob("*.jpg")), options.number))
    for size in options.sizes:
        pictures = [decode(file, short_side=round(1.5 * size)).pixels for file in files]
        windows = [
            _draw_crop(np.random.default_rng(k), p.shape[1], p.shape[0], ImageAugment(), None)
            for k, p in enumerate(pictures)
        ]
        pairs = list(zip(pictures, windows, strict=True))
        batch = filled(pictures, windows, size)
        ways = {  # all are called within the round
            "pillow": lambda: [torch.from_numpy(channels_first(resized(p, w, size, "bicubic"))) for p, w in pairs],  # noqa: B023
            "whole batch": lambda: list(whole_batch(*batch)),  # noqa: B023
            "torch": lambda: [interpolated(p, w, size) for p, w in pairs],  # noqa: B023
            "window": lambda: [cut(p, w) for p, w in pairs],  # noqa: B023
        }
        found = {name: timed(way, options.rounds) for name, way in ways.items()}
        for name, (views, seconds) in found.items():
            text = f"{size} px  {name:12} {1e3 * seconds / len(files):6.2f} ms a picture"
            if name in ("whole batch", "torch"):
                apart = (torch.stack(views).int() - torch.stack(found["pillow"][0]).int()).abs()
                share, mean = 100 * (apart > 0).float().mean(), apart.float().mean()
                text += f"; {share:.1f} % of values differ, by {mean:.2f} on average, by {apart.max()} at most"
            print(text)


if __name__ == "__main__":
    main()
