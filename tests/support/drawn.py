"""A picture for tests of decoding, and its bytes in any format."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

WIDTH, HEIGHT = 40, 24


def picture(seed: int = 0, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """Smooth colours with an edge: survives JPEG well, and no symmetry hides a wrong turn."""
    y, x = np.mgrid[:height, :width] / max(width, height)
    phases = np.random.default_rng(seed).uniform(0, 6, (3, 1, 1))
    colours = 127 + 90 * np.sin(phases + 4 * x + 7 * y * (1 + x)) + 30 * (x > y + 0.3)
    return np.moveaxis(colours, 0, -1).clip(0, 255).astype(np.uint8)


def encode(image: Image.Image | NDArray[np.uint8], format: str, **options: object) -> bytes:
    image = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()


def swapped_profile() -> bytes:
    """A profile under which red and green change places."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = data.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    return data.replace("sRGB".encode("utf-16-be"), "turn".encode("utf-16-be"))
