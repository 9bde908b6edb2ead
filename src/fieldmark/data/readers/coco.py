"""COCO Camera Traps: one JSON file about pictures, their labels, boxes, sequences and locations.

Its keys are those of COCO, and: `seq_id`, `location`, `datetime` and `corrupt` of images; the category 0 is "empty".
https://lila.science/coco-camera-traps

Shapes: N samples.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NotRequired

import numpy as np
from annotated_types import Len
from typing_extensions import TypedDict

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.core.reading import read_json
from fieldmark.core.wording import counted, first_few
from fieldmark.data.bursts import Taken
from fieldmark.data.catalog import Catalog
from fieldmark.data.detections import ANIMAL, PERSON, VEHICLE, Box, Detected, Detection
from fieldmark.data.names import normal
from fieldmark.data.readers.folder import natural_key
from fieldmark.data.readers.table import check_images

__all__ = ["EMPTY", "CocoFile", "clipped", "detected", "read_coco", "taken_at"]

EMPTY = frozenset({"empty", "blank", "nothing"})
"""What pictures without an animal are called."""
_OTHERS = {"human": PERSON, "person": PERSON, "people": PERSON, "vehicle": VEHICLE, "car": VEHICLE}
_MOST = 2**32
_HINT = "Expected COCO Camera Traps: images, categories and annotations."

_Four = Annotated[list[float], Len(4, 4)]


class CocoImage(TypedDict):
    """A picture."""

    id: str | int
    file_name: str
    width: NotRequired[float | None]
    height: NotRequired[float | None]
    datetime: NotRequired[str | None]
    seq_id: NotRequired[str | int | None]
    location: NotRequired[str | int | None]
    corrupt: NotRequired[bool | None]


class CocoCategory(TypedDict):
    """What something in a picture can be."""

    id: int
    name: str


class CocoAnnotation(TypedDict):
    """Something in a picture."""

    image_id: str | int
    category_id: int
    bbox: NotRequired[_Four | None]
    bbox_relative: NotRequired[_Four | None]
    sequence_level_annotation: NotRequired[bool | None]


class CocoFile(TypedDict):
    """The whole file."""

    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoAnnotation]


def read_coco(file: Path) -> Catalog:
    """Read the labels, boxes, sequences (as groups) and locations (as an attribute) that a file has.

    Paths are relative to its folder, or to the folder `images` in it. "empty" is a class like any other. Pictures that
    are corrupt, have no label or have labels of several classes are left out with a DataWarning. A picture with one box
    has it; one with several has none.

    Raises DataError for a file that is not COCO Camera Traps, for an unknown category or image, and for missing images.
    """
    data = read_json(file, CocoFile, error=DataError, hint=_HINT, most=_MOST)
    names = {one["id"]: normal(one["name"]) for one in data["categories"]}
    found = _annotations(file, data, names)
    labels = [{names[one["category_id"]] for one in found.get(image["id"], ())} for image in data["images"]]
    rows = [at for at, image in enumerate(data["images"]) if len(labels[at]) == 1 and not image.get("corrupt")]
    _warn_of_others(file, data["images"], labels)
    if not rows:
        raise DataError(f"{file} has no picture with a label", _HINT)
    images = [data["images"][at] for at in rows]
    root, paths = _paths(file, [image["file_name"] for image in images])
    classes = sorted(set().union(*(labels[at] for at in rows)), key=natural_key)
    index = {name: label for label, name in enumerate(classes)}
    boxes = np.array([_lone_box(image, found[image["id"]]) for image in images], np.float32)
    return Catalog(
        name=file.stem,
        root=root,
        paths=tuple(paths),
        labels=np.array([index[next(iter(labels[at]))] for at in rows], np.int64),
        classes=tuple(classes),
        splits=np.full(len(rows), "", "<U5"),
        groups=np.array([_text(image.get("seq_id")) for image in images], np.str_),
        boxes=None if np.isnan(boxes).all() else boxes,
        attributes=_locations(images),
    )


def detected(data: CocoFile, file: Path) -> list[Detected]:
    """Where animals, people and vehicles are. A picture without any box counts as a whole, unless it is empty.

    Raises DataError for an unknown category or image, and for a box in pixels of a picture without a size.
    """
    names = {one["id"]: normal(one["name"]).lower() for one in data["categories"]}
    found = _annotations(file, data, names)
    return [_detected(file, image, found.get(image["id"], []), names) for image in data["images"]]


def _detected(
    file: Path, image: CocoImage, annotations: Sequence[CocoAnnotation], names: Mapping[int, str]
) -> Detected:
    boxes = [(names[one["category_id"]], _relative(file, image, one)) for one in annotations]
    boxes = [(name, box if box and has_area(box) and name not in EMPTY else None) for name, box in boxes]
    detections = tuple(Detection(_OTHERS.get(name, ANIMAL), 1.0, box) for name, box in boxes if box)
    searched = bool(annotations) and (detections or all(name in EMPTY for name, _ in boxes))
    return Detected(
        image["file_name"],
        detections if searched else None,
        "the file says that it is corrupt" if image.get("corrupt") else "",
        taken_at(image.get("datetime"), _text(image.get("location"))),
        _text(image.get("seq_id")),
    )


def _annotations(file: Path, data: CocoFile, names: Mapping[int, str]) -> dict[str | int, list[CocoAnnotation]]:
    """By the picture that they are about."""
    found: dict[str | int, list[CocoAnnotation]] = {}
    known = {image["id"] for image in data["images"]}
    for one in data["annotations"]:
        if one["image_id"] not in known or one["category_id"] not in names:
            what = f"image {one['image_id']!r}" if one["image_id"] not in known else f"category {one['category_id']}"
            raise DataError(f"{file}: an annotation is about {what}, which the file does not list", _HINT)
        found.setdefault(one["image_id"], []).append(one)
    return found


def _relative(file: Path, image: CocoImage, one: CocoAnnotation) -> Box | None:
    if given := one.get("bbox_relative"):
        return clipped(given)
    if not (pixels := one.get("bbox")):
        return None
    width, height = image.get("width") or 0, image.get("height") or 0
    if width <= 0 or height <= 0:
        raise DataError(
            f"{file}: {image['file_name']} has a box in pixels, but no width and height", "Add them, or bbox_relative."
        )
    x, y, wide, high = pixels
    return clipped((x / width, y / height, wide / width, high / height))


def clipped(box: Sequence[float]) -> Box:
    """What of a box lies in the picture."""
    x, y, width, height = box
    left, top = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
    across, down = width - (left - x), height - (top - y)
    return float(left), float(top), float(min(max(across, 0.0), 1 - left)), float(min(max(down, 0.0), 1 - top))


def has_area(box: Box) -> bool:
    """Whether any of it lies in the picture."""
    return min(box[2:]) > 0


def _lone_box(image: CocoImage, annotations: Sequence[CocoAnnotation]) -> tuple[float, float, float, float]:
    """x, y, width, height in pixels."""
    boxes = [box for one in annotations if (box := one.get("bbox"))]
    if len(boxes) != 1 or min(boxes[0][2:]) <= 0:
        return math.nan, math.nan, math.nan, math.nan
    x, y, width, height = boxes[0]
    return x, y, width, height


def _time(text: str) -> datetime | None:
    """In the form of ISO 8601, or in that of EXIF, which detectors copy."""
    with suppress(ValueError):
        return datetime.fromisoformat(text)
    with suppress(ValueError):
        return datetime.strptime(text, "%Y:%m:%d %H:%M:%S")
    return None


def taken_at(text: str | None, camera: str) -> Taken | None:
    """A time as a file has it; None if it is none."""
    when = _time((text or "").strip())
    if when is None:
        return None
    zone = when.strftime("%z")
    return Taken(when.replace(tzinfo=UTC).timestamp(), camera, f"{zone[:3]}:{zone[3:5]}" if zone else "")


def _locations(images: Sequence[CocoImage]) -> dict[str, np.ndarray]:
    known = np.array([_text(image.get("location")) for image in images], np.str_)
    return {"location": known} if (known != "").any() else {}


def _paths(file: Path, names: Sequence[str]) -> tuple[Path, list[str]]:
    """The folder of the pictures, and their paths in it."""
    paths = [name.replace("\\", "/") for name in names]
    below = file.parent / "images"
    root = below if not os.path.isfile(file.parent / paths[0]) and os.path.isfile(below / paths[0]) else file.parent
    check_images(root, paths, file, range(1, len(paths) + 1), "image")
    return root, paths


def _warn_of_others(file: Path, images: Sequence[CocoImage], labels: Sequence[set[str]]) -> None:
    for words, chosen in (
        ("are corrupt", [bool(image.get("corrupt")) for image in images]),
        ("have no label", [not one for one in labels]),
        ("have labels of several classes", [len(one) > 1 for one in labels]),
    ):
        names = [image["file_name"] for image, yes in zip(images, chosen, strict=True) if yes]
        if names:
            warnings.warn(
                f"{len(names):,} of {counted(len(images), 'image')} in {file} {words} and are left out: "
                f"{first_few(names)}",
                DataWarning,
                stacklevel=4,
            )


def _text(value: str | int | None) -> str:
    return "" if value is None else str(value)
