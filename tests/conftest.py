"""Small pictures for every test, and real photographs where they are at hand."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest_plugins = [
    "support.browser",
    "support.commands",
    "support.axe",
    "support.surveys",
    "support.trials",
    "support.tuning",
]

# Before torch is imported: two test processes of one thread each are faster than threads that wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

COLORS = {"amber": (220, 160, 40), "jade": (40, 160, 110), "plum": (120, 50, 120)}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test writes into the user's cache; all share one, as a user's commands do."""
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))


def paint(color: tuple[int, int, int], seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    """A blob of a colour somewhere on noise."""
    rng = np.random.default_rng(seed)
    width, height = size
    pixels = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
    radius = height // 4
    x, y = rng.integers(radius, width - radius), rng.integers(radius, height - radius)
    yy, xx = np.mgrid[:height, :width]
    blob = Image.fromarray((((xx - x) ** 2 + (yy - y) ** 2 < radius**2) * 255).astype(np.uint8))
    picture.paste(color, (0, 0), blob)
    return picture


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders without splits: three classes of 14 pictures."""
    root = tmp_path_factory.mktemp("pictures")
    for k, (name, color) in enumerate(COLORS.items()):
        (root / name).mkdir()
        for i in range(14):
            paint(color, 100 * k + i).save(root / name / f"{i:02}.png")
    return root


def _folder(variable: str, name: str) -> Iterator[Path]:
    root = os.environ.get(variable)
    if not root or not (path := Path(root) / name).exists():
        pytest.skip(f"{variable} does not name a folder with {name}")
    yield path


@pytest.fixture(scope="session")
def cub() -> Iterator[Path]:
    """The first fifty classes of CUB-200-2011."""
    yield from _folder("FIELDMARK_DATA", "CUB_200_2011_first50")


@pytest.fixture(scope="session")
def flowers() -> Iterator[Path]:
    """Flowers-102, all images in `jpg/`."""
    yield from _folder("FIELDMARK_DATA", "flowers-102")


@pytest.fixture(scope="session")
def imagenet_weights() -> Iterator[Path]:
    """MobileNetV2 trained on ImageNet."""
    yield from _folder("FIELDMARK_WEIGHTS", "mobilenetv2_100.imagenet1k.safetensors")
