"""COCO Camera Traps, as data to learn from and as boxes; and MegaDetector's results."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.detections import Detection
from fieldmark.data.readers.detections import read_detections
from fieldmark.data.readers.read import read

CATEGORIES = [
    {"id": 0, "name": "empty"},
    {"id": 1, "name": "red fox"},
    {"id": 7, "name": "roe deer"},
    {"id": 8, "name": "human"},
]


def image(name: str, **more: Any) -> dict[str, Any]:
    return {"id": name, "file_name": f"{name}.jpg", "width": 200, "height": 100} | more


def about(name: str, category: int, **more: Any) -> dict[str, Any]:
    return {"id": f"{name}-{category}", "image_id": name, "category_id": category} | more


def written(folder: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]], below: str = "") -> Path:
    for one in images:
        (folder / below / one["file_name"]).parent.mkdir(parents=True, exist_ok=True)
        (folder / below / one["file_name"]).touch()
    file = folder / "traps.json"
    file.write_text(json.dumps({"info": {}, "images": images, "categories": CATEGORIES, "annotations": annotations}))
    return file


@pytest.mark.parametrize("below", ["", "images"])
def test_a_catalogue(tmp_path: Path, below: str) -> None:
    images = [
        image("a", seq_id="s1", location="L1"),
        image("b", seq_id="s1", location="L1"),
        image("c", seq_id="s2", location="L2"),
        image("d", location=4),
    ]
    annotations = [about("a", 1, bbox=[10, 20, 30, 40]), about("b", 7), about("c", 0), about("d", 1), about("d", 1)]
    catalog = read(written(tmp_path, images, annotations, below))
    assert catalog.classes == ("empty", "red fox", "roe deer")
    assert [catalog.classes[label] for label in catalog.labels] == ["red fox", "roe deer", "empty", "red fox"]
    assert catalog.groups.tolist() == ["s1", "s1", "s2", ""]
    assert catalog.attributes["location"].tolist() == ["L1", "L1", "L2", "4"]
    assert catalog.boxes is not None
    assert catalog.boxes[0].tolist() == [10, 20, 30, 40]
    assert np.isnan(catalog.boxes[1:]).all()
    assert catalog.file(0) == tmp_path / below / "a.jpg"


def test_what_is_left_out_is_told(tmp_path: Path) -> None:
    images = [image(name) for name in "abcd"] + [image("e", corrupt=True)]
    annotations = [about("a", 1), about("b", 7), about("c", 1), about("c", 7), about("e", 1)]
    with pytest.warns(DataWarning) as told:
        catalog = read(written(tmp_path, images, annotations))
    assert catalog.paths == ("a.jpg", "b.jpg")
    words = " ".join(str(one.message) for one in told)
    for reason in (
        "corrupt and are left out: e.jpg",
        "no label and are left out: d.jpg",
        "several classes and are left out",
    ):
        assert reason in words


def test_boxes_are_shares_of_the_picture(tmp_path: Path) -> None:
    images = [
        image("a", datetime="2026-05-01 06:00:00", seq_id="s", location="L"),
        *map(image, "bcd"),
        image("e", corrupt=True),
    ]
    annotations = [
        about("a", 1, bbox=[20, 10, 100, 200]),
        about("a", 8, bbox_relative=[0.5, 0.5, 0.25, 0.25]),
        about("b", 0),
        about("c", 7),
    ]
    a, b, c, d, e = read_detections(written(tmp_path, images, annotations))
    assert a.detections is not None
    assert a.detections[0] == Detection("animal", 1.0, pytest.approx((0.1, 0.1, 0.5, 0.9)))
    assert a.detections[1] == Detection("person", 1.0, (0.5, 0.5, 0.25, 0.25))
    assert a.taken is not None
    assert (a.taken.camera, a.sequence) == ("L", "s")
    assert b.detections == ()
    assert c.detections is d.detections is None
    assert "corrupt" in e.failure


def results(*images: dict[str, Any]) -> str:
    categories = {"1": "animal", "2": "person", "3": "vehicle"}
    return json.dumps({"info": {"format_version": "1.6"}, "detection_categories": categories, "images": images})


def test_what_shows_nothing_is_no_detection(tmp_path: Path) -> None:
    """Boxes beside the picture or without an area, categories that are not listed, and annotations of nothing."""
    file = tmp_path / "md.json"
    boxes = {"1": [1.2, 0.3, 0.1, 0.1], "2": [0.1, 0.1, 0.0, 0.0], "9": [0, 0, 1, 1], "3": [0.1, 0.2, 0.3, 0.4]}
    detections = [{"category": category, "conf": 0.9, "bbox": box} for category, box in boxes.items()]
    file.write_text(results({"file": "a.jpg", "datetime": "2026:05:01 06:30:00", "detections": detections}))
    (one,) = read_detections(file)
    assert one.detections == (Detection("vehicle", 0.9, (0.1, 0.2, 0.3, 0.4)),)
    assert one.taken is not None  # in the form of EXIF
    assert one.taken.seconds == datetime(2026, 5, 1, 6, 30, tzinfo=UTC).timestamp()
    annotations = [about("a", 0, bbox_relative=[0, 0, 1, 1]), about("b", 1, bbox=[0, 0, 0, 0])]
    a, b = read_detections(written(tmp_path, [image("a"), image("b")], annotations))
    assert a.detections == ()
    assert b.detections is None


def test_results_of_megadetector(tmp_path: Path) -> None:
    low, high = ({"category": "1", "conf": c, "bbox": [0.1, 0.2, 0.3, 0.4]} for c in (0.3, 1))
    file = tmp_path / "md.json"
    images = [
        {"file": "a\\b.jpg", "detections": [low, high]},
        {"file": "b.jpg", "failure": "Failure image access", "detections": None},
        {"file": "c.mp4", "frame_rate": 30.0, "frames_processed": [0], "detections": [low | {"frame_number": 0}]},
        {"file": "d.jpg"},
    ]
    file.write_text(results(*images))
    a, b, c, d = read_detections(file)
    assert [one.confidence for one in a.detections or ()] == [1, 0.3]
    assert b.failure == "Failure image access"
    assert "video" in c.failure
    assert c.detections is None
    assert c.video == images[2] | {"detections": [low | {"frame_number": 0, "category": "animal"}]}
    assert a.video is b.video is d.video is None
    assert d.failure


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "it is not JSON"),
        ("[]", "it should be a valid dictionary"),
        ("{}", "there is no key"),
        (results({"file": "a.jpg", "detections": [{"category": "1", "conf": 1.0, "bbox": [0, 0, 1]}]}), "bbox"),
        (results({"file": 3, "detections": []}), "should be a valid string"),
        ('{"images": [], "categories": [], "annotations": [{"image_id": "a", "category_id": 1}]}', "does not list"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(DataError, match=complaint):
        read_detections(tmp_path / "x.json")


def test_json_that_is_no_data_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"images": []}')
    with pytest.raises(DataError, match=r"no key 'categories'. Expected COCO Camera Traps"):
        read(tmp_path / "x.json")
