"""Files that say where animals are: results of MegaDetector, up to format 1.6, and COCO Camera Traps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NotRequired

from annotated_types import Len
from typing_extensions import TypedDict

from fieldmark.core.errors import DataError
from fieldmark.core.reading import parse_json, read_regular, reason
from fieldmark.data.detections import Detected, Detection
from fieldmark.data.readers.coco import CocoFile, clipped, detected, has_area, taken_at

__all__ = ["read_detections"]

_MOST = 2**32
_HINT = "Expected results of MegaDetector (info, detection_categories, images) or COCO Camera Traps."


class _Found(TypedDict):
    category: str
    conf: float
    bbox: Annotated[list[float], Len(4, 4)]


class _Image(TypedDict):
    file: str
    detections: NotRequired[list[_Found] | None]
    failure: NotRequired[str | None]
    frame_rate: NotRequired[float | None]
    datetime: NotRequired[str | None]


class _Results(TypedDict):
    detection_categories: dict[str, str]
    images: list[_Image]


def read_detections(file: Path) -> list[Detected]:
    """What a file says about each picture, in its order. Raises DataError for any other file.

    Memory grows with the file, since JSON is read as a whole.
    """
    try:
        data = read_regular(file, most=_MOST)
        kind = parse_json(data, dict[str, Any])
        if "annotations" in kind:
            return detected(parse_json(data, CocoFile), file)
        results = parse_json(data, _Results)
        return [_detected(image, results["detection_categories"]) for image in results["images"]]
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read: {reason(error)}", _HINT) from None


def _detected(image: _Image, names: dict[str, str]) -> Detected:
    """What it found in a picture. As the format has it, a category that is not listed is nothing."""
    found = [
        Detection(names[one["category"]].lower(), one["conf"], clipped(one["bbox"]))
        for one in sorted(image.get("detections") or (), key=lambda one: -one["conf"])
        if one["category"] in names
    ]
    failure = image.get("failure") or ("" if "detections" in image else "the file has no detections for it")
    video = None
    if image.get("frame_rate"):
        video = None if failure else {**image, "detections": _in_video(image, names)}
        failure = "it is a video, of which Fieldmark reads no frames"
    return Detected(
        image["file"],
        None if failure else tuple(one for one in found if has_area(one.box)),
        failure,
        taken_at(image.get("datetime"), ""),
        video=video,
    )


def _in_video(image: _Image, names: dict[str, str]) -> list[dict[str, Any]]:
    """What it found in the frames, as it says it, but for the classes that another classifier named."""
    return [
        {key: value for key, value in one.items() if key != "classifications"}
        | {"category": names[one["category"]].lower()}
        for one in image.get("detections") or ()
        if one["category"] in names
    ]
