"""Two seasons as one catalogue."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import read_bytes
from fieldmark.data.joining import begun_with, joined
from fieldmark.data.readers.read import read
from fieldmark.data.sharding import write_shards
from fieldmark.data.taxonomy import Taxonomy


def files(root: Path, names: list[str], seed: str = "") -> tuple[str, ...]:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{seed}{name}")
    return tuple(names)


def catalog(root: Path, paths: tuple[str, ...], labels: list[int], classes: tuple[str, ...], **more: object) -> Catalog:
    nothing = np.full(len(paths), "")
    return Catalog(root.name, root, paths, np.array(labels), classes, nothing, nothing, **more)  # type: ignore[arg-type]  # fields by name


@pytest.fixture
def old(tmp_path: Path) -> Catalog:
    paths = files(tmp_path / "old", ["w/1.jpg", "w/2.jpg", "a/1.jpg"])
    taxonomy = Taxonomy(("wren", "auk"), {"family": ("wrens", "auks")})
    return catalog(tmp_path / "old", paths, [0, 0, 1], ("wren", "auk"), taxonomy=taxonomy)


def test_new_classes_come_last_and_old_ones_stay(old: Catalog, tmp_path: Path) -> None:
    paths = files(tmp_path / "new", ["b/1.jpg", "w/1.jpg", "c/1.jpg"], seed="new")
    taxonomy = Taxonomy(("bunting", "crow", "wren"), {"family": ("finches", "crows", "other")})
    both, copies, relabelled = joined(
        old, catalog(tmp_path / "new", paths, [0, 2, 1], ("bunting", "crow", "wren"), taxonomy=taxonomy)
    )
    assert both.classes == ("wren", "auk", "bunting", "crow")
    assert both.labels.tolist() == [0, 0, 1, 2, 0, 3]
    assert both.taxonomy["family"] == ("wrens", "auks", "finches", "crows")
    assert all(both.file(row).is_file() for row in range(len(both)))
    assert both.paths[:3] == old.paths
    assert (copies, relabelled) == (0, ())


def test_a_photograph_that_both_have_counts_once(old: Catalog, tmp_path: Path) -> None:
    """The same path, and the same bytes at another; equal sizes alone say nothing."""
    files(tmp_path / "old", ["w/3.jpg"])
    shutil.copy(old.file(0), tmp_path / "old" / "copy.jpg")
    later = catalog(tmp_path / "old", ("w/2.jpg", "copy.jpg", "w/3.jpg"), [0, 1, 0], ("wren", "auk"))
    both, copies, relabelled = joined(old, later)
    assert both.paths == (*old.paths, "w/3.jpg")
    assert both.labels.tolist() == [0, 0, 1, 0]
    assert both.name == "old"
    assert copies == 2
    assert relabelled == ("copy.jpg",)


@pytest.mark.parametrize("place", ["{}/shards", "memory://joined/shards"])
def test_a_photograph_in_a_shard_is_known_by_its_contents(place: str, pictures: Path, tmp_path: Path) -> None:
    """Whether the other copy is in another shard or a file."""
    plain, place = read(pictures), place.format(tmp_path)
    write_shards(plain.select(np.arange(3, 42)), place)
    write_shards(plain.select(np.arange(30)), tmp_path / "first")
    shards, first = read(place), read(tmp_path / "first")
    for old, later, copies in ((first, shards, 27), (first, plain, 30), (plain, shards, 39), (shards, plain, 39)):
        both, found, relabelled = joined(old, later)
        assert (found, relabelled) == (copies, ())
        assert len({read_bytes(both.file(row)) for row in range(len(both))}) == len(both) == 42


def test_a_class_that_only_copies_have_does_not_begin(old: Catalog, tmp_path: Path) -> None:
    both, *_ = joined(old, catalog(old.root, ("w/1.jpg", "a/1.jpg"), [0, 1], ("jenny wren", "auk")))
    assert both.classes == old.classes


def test_files_that_are_gone_are_no_copies_of_each_other(old: Catalog, tmp_path: Path) -> None:
    later = catalog(tmp_path / "new", ("gone.jpg",), [0], ("wren", "auk"))
    old.file(0).unlink()
    assert joined(old, later).copies == 0


def test_what_only_one_of_them_knows_is_unknown_of_the_other(old: Catalog, tmp_path: Path) -> None:
    paths = files(tmp_path / "new", ["1.jpg", "mask.png"], seed="new")
    later = catalog(
        tmp_path / "new",
        paths[:1],
        [0],
        ("wren", "auk"),
        boxes=np.ones((1, 4), np.float32),
        masks=("mask.png",),
        keypoint_names=("beak",),
        keypoints=np.ones((1, 1, 3), np.float32),
        attributes={"sex": np.array(["female"])},
    )
    both = joined(old, later).catalog
    assert both.boxes is not None
    assert both.keypoints is not None
    assert np.isnan(both.boxes[:3]).all()
    assert (both.boxes[3] == 1).all()
    assert both.masks[:3] == ("", "", "")
    assert (both.root / both.masks[3]).is_file()
    assert both.keypoints[:, 0, 2].tolist() == [0, 0, 0, 1]
    assert both.attributes["sex"].tolist() == ["", "", "", "female"]
    again = joined(later, old).catalog
    assert again.attributes["sex"].tolist() == ["female", "", "", ""]


def test_classes_of_before_come_first_though_nothing_shows_them(old: Catalog) -> None:
    known = Taxonomy(("owl", "auk", "wren"), {"family": ("owls", "auks", "wrens")})
    again = begun_with(old, known)
    assert again.classes == ("owl", "auk", "wren")
    assert [again.classes[label] for label in again.labels] == ["wren", "wren", "auk"]
    assert again.taxonomy["family"] == ("owls", "auks", "wrens")
