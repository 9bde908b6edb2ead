"""One image, with its box and key points: the views that training and evaluation look at.

Everything is a pure function of its inputs and a seed; no global generator is read or written. So the number of
workers changes nothing, and a resumed run draws what the first one drew.

Shapes: H × W picture, S side of the view, P key points. Coordinates are continuous: pixel i covers [i, i + 1).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from fieldmark.core.errors import DataError, RecipeError
from fieldmark.data.square import channels_first, evaluation_window, resized

__all__ = [
    "ImageAugment",
    "View",
    "evaluation_annotations",
    "flip_keeps_meaning",
    "mirror_permutation",
    "training_view",
]

Floats = NDArray[np.float64]

_TRIES = 16


class View(NamedTuple):
    """A square view of an image."""

    image: Tensor
    """(3, S, S) uint8."""
    box: Tensor | None
    """(4,) x, y, width, height in pixels of the view, float32; NaN where the object is not in view."""
    keypoints: Tensor | None
    """(P, 3) x, y, visible in pixels of the view, float32; all zero for a point that cannot be seen."""


@dataclass(frozen=True)
class ImageAugment:
    """How training views differ from one another. RecipeError for values that make no sense."""

    min_scale: float = 0.35
    max_scale: float = 1.0
    """Smallest and largest area of the random crop, relative to the picture."""
    min_ratio: float = 3 / 4
    max_ratio: float = 4 / 3
    """Smallest and largest width / height of the random crop."""
    flip: bool = True
    """Mirror half of the views."""
    color: float = 0.0
    """Strength of the colour jitter: brightness, contrast and saturation are multiplied by 1 ± color. Hue turns by
    ± color / 10 of the circle only, because colour is what tells many look-alikes apart."""
    trivial: bool = False
    """TrivialAugment (Müller & Hutter 2021)."""
    erasing: float = 0.0
    """Probability of random erasing (Zhong et al. 2020)."""
    keep_object: float = 0.5
    """Least share of a known box's area that stays inside the crop."""

    def __post_init__(self) -> None:
        _check(self, "0 < min_scale <= max_scale <= 1", 0 < self.min_scale <= self.max_scale <= 1)
        _check(self, "0 < min_ratio <= max_ratio", 0 < self.min_ratio <= self.max_ratio < math.inf)
        _check(self, "0 <= color <= 1", 0 <= self.color <= 1)
        _check(self, "0 <= erasing <= 1", 0 <= self.erasing <= 1)
        _check(self, "0 <= keep_object <= 1", 0 <= self.keep_object <= 1)


def _check(options: ImageAugment, expected: str, holds: bool) -> None:
    if not holds:
        names = re.findall("[a-z_]+", expected)
        got = ", ".join(f"{name} = {getattr(options, name)}" for name in names)
        raise RecipeError(f"Augmentation cannot have {got}", f"Expected {expected}.")


def evaluation_annotations(
    pixels: NDArray[np.uint8],
    box: NDArray[np.floating] | None,
    keypoints: NDArray[np.floating] | None,
    *,
    size: int,
    crop: float = 0.875,
    whole: bool = False,
) -> tuple[Tensor | None, Tensor | None]:
    """Where a box (4,) and key points (P, 3) in pixels of `pixels` are in its `evaluation_view`; see `View`."""
    height, width = pixels.shape[:2]
    move = _crop_matrix(evaluation_window(width, height, crop=crop, whole=whole), size)
    return (
        _float_tensor(None if box is None else _moved_box(box, move, size)),
        _float_tensor(None if keypoints is None else _moved_points(keypoints, move, size)),
    )


def training_view(
    pixels: NDArray[np.uint8],
    *,
    size: int,
    options: ImageAugment,
    seed: int | Sequence[int],
    box: NDArray[np.floating] | None = None,
    keypoints: NDArray[np.floating] | None = None,
    mirror: NDArray[np.int64] | None = None,
    interpolation: str = "bicubic",
) -> View:
    """A random view: crop, flip, TrivialAugment, colour jitter, erasing, in this order.

    pixels (H, W, 3); box (4,) x, y, width, height and keypoints (P, 3) x, y, visible in pixels of `pixels` (scale
    them with it), NaN where there is none. `mirror` (P,) is `mirror_permutation` of the key points' names: a flip
    makes a left eye a right one. Every operation that moves pixels moves the box and the points with them; after a
    rotation or shear the box is the upright one around the moved corners. A point that is cut off or erased is no
    longer visible. `seed` is what the view is drawn from, such as (seed, epoch, sample): non-negative integers,
    always equally many. RecipeError for an unknown interpolation.
    """
    rng = np.random.default_rng(seed)
    height, width = pixels.shape[:2]
    crop = _draw_crop(rng, width, height, options, box)
    picture = resized(pixels, crop, size, interpolation)
    moves = [_crop_matrix(crop, size)]
    flipped = options.flip and rng.random() < 0.5
    if flipped:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        moves.append(np.array([[-1.0, 0.0, size], [0.0, 1.0, 0.0]]))
    if options.trivial:
        picture, move = _trivial(picture, rng)
        moves.append(move)
    if options.color:
        picture = _jittered(picture, options.color, rng)
    for move in moves:  # one by one: what a crop has cut off is gone, wherever a later rotation would put it
        box = None if box is None else _moved_box(box, move, size)
        keypoints = None if keypoints is None else _moved_points(keypoints, move, size)
    if flipped and keypoints is not None and mirror is not None:
        keypoints = keypoints[mirror]
    image = torch.from_numpy(channels_first(picture))
    if rng.random() < options.erasing:
        keypoints = _erase(image, keypoints, rng)
    return View(image, _float_tensor(box), _float_tensor(keypoints))


def _float_tensor(values: NDArray[np.floating] | None) -> Tensor | None:
    return None if values is None else torch.from_numpy(values.astype(np.float32))


# Geometry -------------------------------------------------------------------------------------------------------------


def _draw_crop(
    rng: np.random.Generator,
    width: int,
    height: int,
    options: ImageAugment,
    box: NDArray[np.floating] | None,
) -> tuple[float, float, float, float]:
    """Left, top, right, bottom of a random crop (Szegedy et al. 2015) that keeps the object.

    The first of 16 draws that fits and keeps enough of the box; else the largest crop of an allowed shape, placed
    around the object: no allowed crop keeps more. Without a usable box the whole picture is the object.
    """
    area = width * height * rng.uniform(options.min_scale, options.max_scale, _TRIES)
    ratio = np.exp(rng.uniform(math.log(options.min_ratio), math.log(options.max_ratio), _TRIES))
    size = np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], axis=1)  # (tries, 2)
    picture = np.array([width, height], dtype=np.float64)
    start = rng.random((_TRIES, 2)) * (picture - size)
    good = (size <= picture).all(axis=1)
    object_part = _inside(box, picture)
    if object_part is not None:
        good &= _kept_share(start, start + size, object_part) >= options.keep_object
    if good.any():
        chosen = int(good.argmax())
        low, extent = start[chosen], size[chosen]
    else:
        shape = min(max(width / height, options.min_ratio), options.max_ratio)
        extent = np.array([min(width, height * shape), min(height, width / shape)])
        middle = picture / 2 if object_part is None else object_part.mean(axis=0)
        low = np.clip(middle - extent / 2, 0, picture - extent)
    high = np.minimum(low + extent, picture)
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _inside(box: NDArray[np.floating] | None, picture: Floats) -> Floats | None:
    """The corners [[left, top], [right, bottom]] of the box's part inside the picture, if there is any."""
    if box is None or not np.isfinite(box).all():
        return None
    corners = np.array([box[:2], box[:2] + box[2:]], dtype=np.float64).clip(0, picture)
    return corners if (corners[1] > corners[0]).all() else None


def _kept_share(low: Floats, high: Floats, object_part: Floats) -> Floats:
    """Share of the object's area inside each crop; low, high (tries, 2) → (tries,)."""
    overlap = np.minimum(high, object_part[1]) - np.maximum(low, object_part[0])
    return overlap.clip(0).prod(axis=1) / (object_part[1] - object_part[0]).prod()


def _crop_matrix(crop: tuple[float, float, float, float], size: int) -> Floats:
    """(2, 3): where a point of the picture is in the view."""
    left, top, right, bottom = crop
    x, y = size / (right - left), size / (bottom - top)
    return np.array([[x, 0.0, -left * x], [0.0, y, -top * y]])


def _moved_box(box: NDArray[np.floating], move: Floats, size: int) -> Floats:
    """The upright box around the moved corners, cut at the view's edge; NaN where nothing of it is left."""
    x, y, width, height = box
    corners = np.array([[x, y], [x + width, y], [x, y + height], [x + width, y + height]]) @ move[:, :2].T + move[:, 2]
    low, high = corners.min(axis=0).clip(0, size), corners.max(axis=0).clip(0, size)
    return np.concatenate([low, high - low]) if (high > low).all() else np.full(4, np.nan)


def _moved_points(points: NDArray[np.floating], move: Floats, size: int) -> Floats:
    """Moved points (P, 3); those outside the view or not visible before become zero."""
    moved = points[:, :2] @ move[:, :2].T + move[:, 2]
    seen = (points[:, 2] > 0) & (moved >= 0).all(axis=1) & (moved < size).all(axis=1)
    return np.where(seen[:, None], np.column_stack([moved, seen]), 0.0)


# TrivialAugment: the "wide" table; geometric entries give a (2, 3) matrix, so that points can move too ----------------

_PICTURE_SIDE = 224
"""Side that the published 32 pixels of translation are meant for; other sizes in proportion."""
_STAY = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def _shift(x: float, y: float) -> Floats:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y]])


def _shear(x: float, y: float) -> Floats:
    """About the corner, as the authors' code does."""
    return np.array([[1.0, x, 0.0], [y, 1.0, 0.0]])


def _rotation(degrees: float, size: int) -> Floats:
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = size / 2
    return np.array([[cos, sin, middle * (1 - cos - sin)], [-sin, cos, middle * (1 - cos + sin)]])


def _torchvision() -> Any:
    """Its operations on pictures; slow to import, and answers need none."""
    from torchvision.transforms.v2 import functional

    return functional


_GEOMETRIC: dict[str, Callable[[float, int], Floats]] = {  # signed level in [-1, 1], side → matrix
    "shear_x": lambda level, size: _shear(0.99 * level, 0.0),
    "shear_y": lambda level, size: _shear(0.0, 0.99 * level),
    "translate_x": lambda level, size: _shift(round(32 * level * size / _PICTURE_SIDE), 0.0),
    "translate_y": lambda level, size: _shift(0.0, round(32 * level * size / _PICTURE_SIDE)),
    "rotate": lambda level, size: _rotation(135 * level, size),
}
_PHOTOMETRIC: dict[str, Callable[[Image.Image, float], Image.Image]] = {  # picture, signed level → picture
    "identity": lambda picture, level: picture,
    "brightness": lambda picture, level: _torchvision().adjust_brightness(picture, 1 + 0.99 * level),
    "color": lambda picture, level: _torchvision().adjust_saturation(picture, 1 + 0.99 * level),
    "contrast": lambda picture, level: _torchvision().adjust_contrast(picture, 1 + 0.99 * level),
    "sharpness": lambda picture, level: _torchvision().adjust_sharpness(picture, 1 + 0.99 * level),
    "posterize": lambda picture, level: _torchvision().posterize(picture, 8 - round(6 * abs(level))),
    "solarize": lambda picture, level: _torchvision().solarize(picture, 255 * (1 - abs(level))),
    "autocontrast": lambda picture, level: _torchvision().autocontrast(picture),
    "equalize": lambda picture, level: _torchvision().equalize(picture),
}
_TRIVIAL = (*_GEOMETRIC, *_PHOTOMETRIC)


def _trivial(picture: Image.Image, rng: np.random.Generator) -> tuple[Image.Image, Floats]:
    """One operation at one of 31 strengths, either way; with it, where it moves points to."""
    name = _TRIVIAL[int(rng.integers(len(_TRIVIAL)))]
    level = float(rng.integers(31)) / 30 * float(rng.choice((-1, 1)))
    if name in _PHOTOMETRIC:
        return _PHOTOMETRIC[name](picture, level), _STAY
    move = _GEOMETRIC[name](level, picture.width)
    return _warped(picture, move), move


def _warped(picture: Image.Image, move: Floats) -> Image.Image:
    """The picture moved by `move`, black where nothing comes from; nearest neighbour, as published."""
    back = np.linalg.inv(np.vstack([move, [0.0, 0.0, 1.0]]))  # Pillow asks where each new pixel comes from
    return picture.transform(picture.size, Image.Transform.AFFINE, tuple(back[:2].ravel().tolist()))


# Colour and erasing ---------------------------------------------------------------------------------------------------

_LUMA = np.array([0.299, 0.587, 0.114])
_TO_YIQ = np.array([_LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])


def _jittered(picture: Image.Image, strength: float, rng: np.random.Generator) -> Image.Image:
    """Brightness, contrast, saturation and hue changed in random order (Howard 2013).

    Each is an affine map of colours, so they are joined and applied in one pass: nothing is clipped in between, and
    it takes a tenth of the time of four passes.
    """
    brightness, contrast, saturation = rng.uniform(1 - strength, 1 + strength, 3)
    hue = rng.uniform(-strength, strength) / 10
    mean = np.asarray(picture.resize((1, 1), Image.Resampling.BOX), dtype=np.float64).ravel()
    scale, shift = np.eye(3), np.zeros(3)
    for name in rng.permutation(("brightness", "contrast", "saturation", "hue")):
        if name == "contrast":  # away from the mean grey of the picture as it is by now
            scale, shift = contrast * scale, contrast * shift + (1 - contrast) * (_LUMA @ (scale @ mean + shift))
            continue
        change = {"brightness": brightness * np.eye(3), "saturation": _saturation(saturation), "hue": _hue(hue)}[name]
        scale, shift = change @ scale, change @ shift
    return picture.convert("RGB", tuple(np.column_stack([scale, shift]).ravel().tolist()))


def _saturation(factor: float) -> Floats:
    """(3, 3): colours away from their grey."""
    return factor * np.eye(3) + (1 - factor) * np.tile(_LUMA, (3, 1))


def _hue(turn: float) -> Floats:
    """(3, 3): colours turned by a share of the circle about the grey axis, at constant luma (in YIQ)."""
    cos, sin = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    rotation = np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]])
    return np.linalg.inv(_TO_YIQ) @ rotation @ _TO_YIQ


def _erase(image: Tensor, points: NDArray[np.floating] | None, rng: np.random.Generator) -> NDArray[np.floating] | None:
    """Fill a random rectangle of `image` with noise, in place; return the points without the erased ones.

    The paper's figures: 2–40 % of the area, width / height within 0.3–3.33, noise rather than one colour.
    """
    size = image.shape[1]
    area = size * size * rng.uniform(0.02, 0.4, _TRIES)
    ratio = np.exp(rng.uniform(math.log(0.3), -math.log(0.3), _TRIES))
    sides = np.stack([np.sqrt(area * ratio), np.sqrt(area / ratio)], axis=1).astype(np.int64).clip(1)
    fitting = sides[(sides < size).all(axis=1)]
    if not len(fitting):
        return points
    (x, y), (width, height) = rng.integers(0, size - fitting[0] + 1), fitting[0]
    image[:, y : y + height, x : x + width] = torch.from_numpy(rng.integers(0, 256, (3, height, width), dtype=np.uint8))
    if points is None:
        return None
    offset = points[:, :2] - np.array([x, y])
    erased = ((offset >= 0) & (offset < np.array([width, height]))).all(axis=1)
    return np.where(erased[:, None], 0.0, points)


# What a flip does to names --------------------------------------------------------------------------------------------

_SIDES = re.compile(r"(?<![a-z])(left|right)(?![a-z])", re.IGNORECASE)
_DIRECTIONS = re.compile(r"(?<![a-z])(left|right|clockwise|anti-?clockwise|counter-?clockwise)(?![a-z])", re.IGNORECASE)
_NEW_WORD = re.compile(r"(?<=[a-z])(?=[A-Z])")
"""The seam in "KeepLeft"."""


def mirror_permutation(names: Sequence[str]) -> NDArray[np.int64]:
    """(P,) the index that each key point takes its place from when the image is mirrored: left eye ⇄ right eye.

    `left` and `right` count as whole words ("left eye", "wing_left", "LeftWing"); a point without a partner is its
    own. DataError where two names differ by case or seams only.
    """
    other = {"left": "right", "right": "left"}
    words = [_NEW_WORD.sub(" ", name).casefold() for name in names]
    index = {name: position for position, name in enumerate(words)}
    if len(index) < len(words):
        twin = next(name for name, word in zip(names, words, strict=True) if words.count(word) > 1)
        raise DataError(
            f"Two key points are both called {twin!r}, apart from case and spaces", "Give each key point its own name."
        )
    mirrored = [_SIDES.sub(lambda side: other[side[0]], name) for name in words]
    order = np.array([index.get(name, own) for own, name in enumerate(mirrored)], dtype=np.int64)
    assert (order[order] == np.arange(len(names))).all()
    return order


def flip_keeps_meaning(class_names: Iterable[str]) -> bool:
    """False where two classes differ by left and right (or by the sense of rotation) only: do not mirror those."""
    names = {_NEW_WORD.sub(" ", name).casefold() for name in class_names}
    return len({_DIRECTIONS.sub("*", name) for name in names}) == len(names)
