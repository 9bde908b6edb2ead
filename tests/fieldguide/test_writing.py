"""A field guide on disk."""

import csv
import hashlib
import json
from dataclasses import asdict
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.core.errors import DataError, RecipeError
from fieldmark.fieldguide import KEYPOINTS, draw, read_guide, render

OPTIONS = {"species": 12, "images_per_species": 6, "size": 64, "seed": 3}


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("guide") / "birds", **OPTIONS, workers=1)


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "catalog.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_the_table_has_its_columns_and_all_pictures(drawn: Path) -> None:
    rows = rows_of(drawn)
    columns = list(rows[0])
    assert columns[:8] == ["path", "label", "split", "group", "x", "y", "width", "height"]
    assert {"level.genus", "level.family", "attribute.habitat", "attribute.sex"} <= set(columns)
    assert {f"keypoint.{name}.visible" for name in KEYPOINTS} <= set(columns)
    assert len(rows) == 72
    assert all((drawn / row["path"]).is_file() and Path(row["path"]).parts[1] == row["label"] for row in rows)
    assert {row["split"] for row in rows} == {"train", "val", "test"}
    assert not list(drawn.rglob("*.part"))


def test_the_table_tells_the_truth_of_the_drawing(drawn: Path) -> None:
    guide = read_guide(drawn)
    row = rows_of(drawn)[6 * 4 + 2]
    drawing = render(guide, 4, 2)
    assert row["label"] == guide.species[4].name
    assert tuple(int(row[key]) for key in ("x", "y", "width", "height")) == drawing.box
    assert float(row["keypoint.eye.x"]) == pytest.approx(drawing.keypoints[KEYPOINTS.index("eye"), 0], abs=0.06)
    assert row["level.genus"] == guide.species[4].genus.name
    picture = np.asarray(Image.open(drawn / row["path"])).astype(int)
    assert np.abs(picture - drawing.pixels).mean() < 3
    mask = np.asarray(Image.open(drawn / row["path"].replace("images", "masks", 1).replace(".jpg", ".png")))
    assert np.array_equal(mask, drawing.numbers)


def test_guide_json_knows_every_pair(drawn: Path) -> None:
    truth = json.loads((drawn / "guide.json").read_text(encoding="utf-8"))
    guide = read_guide(drawn)
    assert truth["options"] == asdict(guide.options)
    assert "CC0" in truth["licence"]
    assert [one["name"] for one in truth["species"]] == [one.name for one in guide.species]
    pairs = {tuple(entry["species"]): entry for entry in truth["differences"]}
    assert len(pairs) == 66
    for a, b in combinations(guide.species, 2):
        entry = pairs[a.name, b.name]
        assert tuple(entry["marks"]) == guide.differing_marks(a.index, b.index)
        assert entry["same_genus"] == (a.genus == b.genus)


def test_two_processes_draw_the_same_bytes(drawn: Path, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    draw(tmp_path / "again", **OPTIONS, workers=2, progress=lambda *at: told.append(at))
    assert digests(tmp_path / "again") == digests(drawn)
    assert told == [(done, 72) for done in range(1, 73)]


def test_more_pictures_leave_the_first_as_they_are(tmp_path: Path) -> None:
    few = digests(draw(tmp_path / "few", species=2, images_per_species=6, size=64))
    more = digests(draw(tmp_path / "more", species=2, images_per_species=8, size=64))
    pictures = {name: digest for name, digest in few.items() if name.endswith((".jpg", "masks"))}
    assert len(pictures) == 12
    assert pictures.items() <= more.items()


def test_drawing_again_changes_nothing_and_mends_what_is_missing(tmp_path: Path) -> None:
    options = {"species": 2, "images_per_species": 6, "size": 64}
    folder = draw(tmp_path / "birds", **options)
    before = digests(folder)
    table = (folder / "catalog.csv").stat().st_mtime_ns
    draw(folder, **options)
    assert (folder / "catalog.csv").stat().st_mtime_ns == table
    next(folder.rglob("*.jpg")).unlink()
    draw(folder, **options)
    assert digests(folder) == before
    (folder / "catalog.csv").write_bytes(b"caf\xe9\n")
    draw(folder, **options)
    assert digests(folder) == before


def test_what_is_not_this_guide_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "mine.jpg").write_bytes(b"precious")
    with pytest.raises(DataError, match="is not empty and holds no field guide"):
        draw(tmp_path / "photos", species=2, images_per_species=6, size=64)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["mine.jpg"]
    with pytest.raises(DataError, match=r"mine.jpg is a file. Choose a new or an empty folder"):
        draw(tmp_path / "photos" / "mine.jpg")
    (tmp_path / "photos" / "guide.json").write_text("{", encoding="utf-8")
    with pytest.raises(DataError, match="holds no field guide"):
        draw(tmp_path / "photos")


def test_a_guide_of_other_options_is_left_alone(tmp_path: Path) -> None:
    folder = draw(tmp_path / "birds", species=2, images_per_species=6, size=64)
    with pytest.raises(DataError, match=r"holds a field guide with seed=0, not 5. Choose another folder"):
        draw(folder, species=2, images_per_species=6, size=64, seed=5)


def test_bad_options_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="species=1"):
        draw(tmp_path / "birds", species=1)
    assert not (tmp_path / "birds").exists()


def test_reading_what_is_no_guide_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is not a field guide. Draw one with `fieldmark draw DEST`"):
        read_guide(tmp_path)
