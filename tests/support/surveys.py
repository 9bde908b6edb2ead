"""A survey with two cameras: pictures, detections, deployments, and a table of what is written about them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from PIL import Image

SURVEY = """
deployments = "deployments.csv"
name = "north-wood"
[[contributors]]
title = "Ada Field"
[project]
title = "Foxes of the north wood"
samplingDesign = "opportunistic"
captureMethod = ["activityDetection"]
individualAnimals = false
"""
DEPLOYMENTS = """deploymentID,folder,latitude,longitude,deploymentStart,deploymentEnd,habitat
d1,cam1,51.5,-0.1,2026-05-01T00:00:00+02:00,2026-06-01T00:00:00+02:00,=wood
d2,far/cam2,-3.25,36.5,2026-05-01T00:00:00Z,2026-06-01T00:00:00Z,
"""


@pytest.fixture
def survey(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """photos/ in the current folder, with two cameras' pictures, detections and what is known of the survey."""
    monkeypatch.chdir(tmp_path)
    sources = sorted(pictures.rglob("*.png"))
    images = []
    for number in range(8):
        name = f"{'cam1' if number < 5 else 'far/cam2'}/IMG {number}.jpg"
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2026:05:02 06:{10 * (number // 2):02}:{number:02}"
        with Image.open(sources[5 * number]) as image:
            image.convert("RGB").save(tmp_path / "photos" / name, exif=exif)
        animals = [{"category": "1", "conf": c, "bbox": [0.1, 0.2, 0.5, 0.6]} for c in (0.9, 0.6, 0.1)[number % 3 :]]
        person = {"category": "2", "conf": 0.7, "bbox": [0.0, 0.0, 0.5, 0.5]}
        images.append(
            {"file": name, "detections": [] if number == 3 else [*animals, *([person] if number == 4 else [])]}
        )
    (tmp_path / "photos/broken <b>.jpg").write_bytes(b"no picture")
    images.append({"file": "broken <b>.jpg", "detections": [{"category": "1", "conf": 0.9, "bbox": [0, 0, 1, 1]}]})
    images.append({"file": "gone.jpg", "detections": None, "failure": "Failure image access"})
    categories = {"1": "animal", "2": "person", "3": "vehicle"}
    info = {"format_version": "1.6"}
    (tmp_path / "md.json").write_text(json.dumps({"info": info, "detection_categories": categories, "images": images}))
    (tmp_path / "survey.toml").write_text(SURVEY)
    (tmp_path / "deployments.csv").write_text(DEPLOYMENTS)
    return tmp_path


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))
