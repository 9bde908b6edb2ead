"""Noise, copies, unknown species, a long tail: what the table says of them; and the page."""

from __future__ import annotations

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.fieldguide import draw, make_guide, read_guide, render
from fieldmark.fieldguide.copies import CHANGES, Copy, changed, copy_of
from fieldmark.fieldguide.gallery import command_of, gallery
from fieldmark.fieldguide.truth import Sighting, classes, sightings, wrong_label

OPTIONS = {
    "species": 4,
    "images_per_species": 20,
    "size": 64,
    "noise": 0.3,
    "duplicates": 0.4,
    "unknown": 2,
    "long_tail": 4.0,
}


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("guide") / "birds", **OPTIONS, workers=1)


def opened(file: Path | str) -> Image.Image:
    """The picture, with its file closed again."""
    with Image.open(file) as image:
        return image.copy()


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "catalog.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_wrong_labels_are_in_train_only_and_known(spoilt: Path) -> None:
    rows = [row for row in rows_of(spoilt) if row["attribute.copy"] == "none"]
    wrong = [row for row in rows if row["label"] != row["attribute.true label"]]
    training = sum(row["split"] == "train" for row in rows)
    assert all(row["split"] == "train" for row in wrong)
    assert 0.1 < len(wrong) / training < 0.5
    assert all(row["attribute.true label"] == Path(row["path"]).parts[1] for row in rows)
    catalog = fieldmark.read(spoilt)  # a label and its genus agree, wrong or not
    assert set(catalog.taxonomy) == {"genus", "family"}


def test_noise_is_a_share_and_more_noise_includes_less() -> None:
    def wrong(noise: float) -> dict[Sighting, str]:
        guide = make_guide(species=6, images_per_species=200, noise=noise)
        found = ((one, wrong_label(guide, one, guide.species[one.species].name)) for one in sightings(guide))
        return {one: label for one, label in found if label}

    low, high = wrong(0.1), wrong(0.3)
    assert low.items() <= high.items()
    assert len(high) / (6 * 140) == pytest.approx(0.3, abs=0.05)
    assert len(Counter(high.values())) == 6
    assert not wrong(0.0)


def test_copies_are_recorded_and_are_what_they_say(spoilt: Path) -> None:
    copies = [row for row in rows_of(spoilt) if row["attribute.copy"] != "none"]
    assert 0.2 < len(copies) / (len(rows_of(spoilt)) - len(copies)) < 0.6
    assert {row["attribute.copy"] for row in copies} == set(CHANGES)
    for row in copies:
        first, again = spoilt / row["attribute.copy of"], spoilt / row["path"]
        assert row["label"] == row["attribute.true label"]
        sizes = [opened(file).size for file in (first, again)]
        mask = opened(str(again).replace("/images/", "/masks/").replace(".jpg", ".png"))
        assert mask.size == sizes[1]
        match row["attribute.copy"]:
            case "exact":
                assert first.read_bytes() == again.read_bytes()
            case "re-encoded":
                assert again.stat().st_size < first.stat().st_size
                assert sizes[0] == sizes[1]
            case "resized":
                assert 0.5 * 64 <= sizes[1][0] <= 0.9 * 64
            case "cropped":
                assert 0.88 * 64 <= min(sizes[1]) < 64
            case "mirrored":
                a, b = (np.asarray(opened(file)).astype(int) for file in (first, again))
                assert np.abs(a[:, ::-1] - b).mean() < 4


@pytest.mark.parametrize("change", CHANGES)
def test_the_truth_of_a_copy_moves_with_it(change: str) -> None:
    drawing = render(make_guide(species=2), 0, 1)
    copy = Copy(change, "train", 70, 0.5, (0.06, 0.01, 0.02, 0.04))
    again = changed(drawing, copy)
    assert again.pixels.shape[:2] == again.numbers.shape
    x, y, width, height = again.box
    assert again.numbers[y : y + height, x : x + width].astype(bool).sum() == (again.numbers > 0).sum()
    for before, after in zip(drawing.keypoints, again.keypoints, strict=True):
        part = drawing.numbers[int(before[1]), int(before[0])]
        if before[2] and after[2] and part:
            left, top = int(after[0]), int(after[1])
            assert part in again.numbers[max(top - 2, 0) : top + 3, max(left - 2, 0) : left + 3]


def test_no_copy_of_a_mirror_image_species_is_mirrored() -> None:
    guide = make_guide(kind="mirror", species=4, duplicates=1.0)
    changes = Counter(copy.change for one in sightings(guide) if (copy := copy_of(guide, one)))
    assert set(changes) == set(CHANGES) - {"mirrored"}
    assert sum(changes.values()) == 240


def test_unknown_species_are_data_of_their_own(spoilt: Path) -> None:
    known, unknown = fieldmark.read(spoilt), fieldmark.read(spoilt / "unknown")
    assert len(known.classes) == 4
    assert len(unknown.classes) == 2
    assert not set(known.classes) & set(unknown.classes)
    assert not any("unknown" in path for path in known.paths)
    assert len(unknown) == 40
    assert set(unknown.splits) == {"test"}
    assert set(unknown.attributes["unknown"]) == {"sibling", "stranger"}


def test_a_long_tail_falls_geometrically_in_train_alone() -> None:
    guide = make_guide(species=5, images_per_species=200, long_tail=16.0)
    counts = Counter((one.species, one.split) for one in sightings(guide))
    training = sorted((counts[k, "train"] for k in range(5)), reverse=True)
    assert training == [140, 70, 35, 18, 9]
    assert {counts[k, "test"] for k in range(5)} == {30}
    flat = set(sightings(make_guide(species=5, images_per_species=200)))
    assert set(sightings(guide)) < flat


def test_a_guide_of_before_an_option_was_there_is_still_that_guide(tmp_path: Path) -> None:
    folder = draw(tmp_path / "birds", species=2, images_per_species=6, size=64)
    text = (folder / "guide.json").read_text(encoding="utf-8")
    for name in ("kind", "noise", "duplicates", "unknown", "long_tail"):
        text = re.sub(rf',\n    "{name}": [^\n]*?(?=,?\n)', "", text)
    assert "long_tail" not in text
    (folder / "guide.json").write_text(text, encoding="utf-8")
    assert read_guide(folder).options == make_guide(species=2, images_per_species=6, size=64).options
    draw(folder, species=2, images_per_species=6, size=64)


def test_individuals_have_a_taxonomy_and_groups(tmp_path: Path) -> None:
    folder = draw(tmp_path / "birds", kind="individuals", species=2, images_per_species=36, size=64, duplicates=0.2)
    catalog = fieldmark.read(folder)
    assert list(catalog.classes) == sorted(classes(read_guide(folder)))
    assert list(catalog.taxonomy) == ["species", "genus", "family"]
    grouped = catalog.groups != ""
    assert len(set(catalog.groups[grouped])) == 24
    for group in set(catalog.groups[grouped]):
        assert len(set(catalog.splits[catalog.groups == group])) == 1


@pytest.mark.parametrize("kind", ["species", "stages", "individuals", "attributes", "impostors", "mirror"])
def test_the_page_is_whole(kind: str) -> None:
    guide = make_guide(
        kind=kind,
        species=4,
        images_per_species=36,
        size=64,
        noise=0.2,
        duplicates=0.2,
        unknown=2,
    )
    page = gallery(guide)
    assert all(one.name in page for one in (*guide.species, *guide.unknown))
    assert "Wrong labels" in page
    assert "Copies" in page
    assert not re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,)', page)
    assert len(page) < 2_000_000
    assert command_of(guide) in page


def test_the_command_names_what_is_not_default() -> None:
    assert command_of(make_guide()) == "fieldmark draw birds"
    guide = make_guide(kind="mirror", images_per_species=40, noise=0.1, long_tail=4)
    assert command_of(guide) == "fieldmark draw birds --images 40 --kind mirror --noise 0.1 --long-tail 4"
