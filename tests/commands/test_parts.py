"""Parts of drawn birds, whose key points are known: found, named, written, read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fieldmark
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.read import read
from fieldmark.data.write import write_catalog
from fieldmark.runs.run import Run

Cli = Callable[..., Any]
TINY = ["backbone.name=test_resnet", "images.size=64", "images.train_scale=1.0", "images.crop=1.0", "train.ema=false"]
FAST = [*TINY, "train.head_epochs=0", "train.batchnorm=plain", "train.lr=2e-3", "train.head_lr=4e-3"]
PLAIN = ["augment.trivial=false", "augment.erasing=0.0", "augment.flip=true", "method.equivariance=0.0"]


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fieldmark.draw(tmp_path_factory.mktemp("guide") / "birds", species=2, images_per_species=24, size=64)


@pytest.fixture(scope="module")
def supervised(guide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that learnt from the key points, on weights that have seen drawings of other species."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIELDMARK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        out = tmp_path_factory.mktemp("supervised") / "run"
        learning = ["method.supervise=1.0", "method.parts=12", "train.epochs=10", "train.batch_size=8"]
        overrides = [*FAST, *PLAIN, *learning, "backbone.weights=fieldguide"]
        return fieldmark.train(guide, "part_discovery", out=out, overrides=overrides).folder


def test_supervised_parts_find_the_drawn_key_points(supervised: Path, guide: Path) -> None:
    found = fieldmark.parts(supervised)
    assert len(found.matches) >= 4  # at 64 px two cells are as far apart as an eye and a crown
    told = [match for match in found.matches if match.tells]
    assert len(told) > len(found.matches) / 2
    assert np.mean([match.distance for match in found.matches]) < 0.8 * np.mean([m.constant for m in found.matches])
    assert found.num_measured == (read(guide).splits != "train").sum()
    assert len(found.names) == len(set(found.names)) == 12  # of which eleven have a key point to be
    assert fieldmark.Predictor.load(supervised).bundle.parts == found.names


def test_the_table_is_data_to_train_on(supervised: Path, guide: Path, tmp_path: Path) -> None:
    found = fieldmark.parts(supervised, guide, out=tmp_path / "found.csv", split="val")
    original = read(guide)
    again = read(tmp_path / "found.csv")
    assert (again.splits == "val").all()
    assert again.keypoint_names == found.names
    assert [again.file(row).resolve() for row in range(len(again))] == [
        original.file(row).resolve() for row in original.rows("val")
    ]
    assert found.catalog.keypoints is not None
    assert again.keypoints is not None
    np.testing.assert_allclose(again.keypoints, found.catalog.keypoints, atol=0.06)
    inside = again.keypoints[..., :2]
    assert (inside >= 0).all()
    assert (inside <= 64).all()
    np.testing.assert_array_equal(again.labels, original.labels[original.rows("val")])
    assert again.taxonomy == original.taxonomy


def test_the_page_shows_every_part(supervised: Path, cli: Cli, tmp_path: Path) -> None:
    answer = cli("parts", supervised, "--out", tmp_path / "p.csv", "--split", "test", columns=120)
    assert answer.status == 0
    page = (tmp_path / "p.html").read_text()
    for name in fieldmark.Predictor.load(supervised).bundle.parts:
        assert name in page
        assert name in answer.out
    assert "Mean distance" in answer.out
    assert "http" not in page.replace("http://www.w3.org", "")
    (tmp_path / "p.html").write_text("mine")
    assert "p.html is in the way" in cli("parts", supervised, "--out", tmp_path / "p.csv").complaint
    assert (tmp_path / "p.html").read_text() == "mine"


def test_without_key_points_parts_have_numbers_and_are_learnt_on(
    pictures: Path, cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [f"--set={one}" for one in (*FAST, *PLAIN, "backbone.weights=none", "method.parts=2", "train.epochs=1")]
    assert cli("train", pictures, "--recipe", "part_discovery", "--out", tmp_path / "run", *settings).status == 0
    answer = cli("parts", tmp_path / "run", pictures, "--out", tmp_path / "found.csv")
    assert answer.status == 0
    assert "part 1" in answer.out
    assert "distance" not in answer.out
    found = read(tmp_path / "found.csv")
    assert found.keypoint_names == ("part 1", "part 2")
    learnt = ["--set=method.supervise=1.0", "--set=augment.crop=false"]  # the plain view has its key points too
    once = cli(
        "train", tmp_path / "found.csv", "--recipe", "part_discovery", "--out", tmp_path / "2", *settings, *learnt
    )
    assert once.status == 0 or "learns from key points, but no training image" in once.err
    refused = cli("train", pictures, "--recipe", "part_discovery", "--out", tmp_path / "3", *settings, learnt[0])
    assert "The method 'part_discovery' with these options learns from key points, but " in refused.complaint
    assert not (tmp_path / "3").exists()


def test_a_run_without_parts_says_so(trained: Run, cli: Cli) -> None:
    complaint = cli("parts", trained.folder).complaint
    assert "The method 'transfer' of this run does not find parts" in complaint
    assert "part_discovery" in complaint


def test_a_part_of_the_data_that_is_not_there(supervised: Path, cli: Cli) -> None:
    assert "Choose one with --split: train, val, test, all" in cli("parts", supervised, "--split", "valid").complaint


def test_a_catalogue_is_the_same_once_written_and_read(guide: Path, tmp_path: Path) -> None:
    before = read(guide)
    write_catalog(tmp_path / "table.csv", before)
    _same(before, read(tmp_path / "table.csv"))
    beside = guide / "again.csv"
    write_catalog(beside, before)
    assert not Path(beside.read_text().splitlines()[1].split(",")[0]).is_absolute()
    _same(before, read(beside))
    beside.unlink()


def _same(before: Catalog, after: Catalog) -> None:
    assert after.classes == before.classes
    for name in ("labels", "splits", "groups"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))
    for name in ("boxes", "keypoints"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=0.051)
    assert after.keypoint_names == before.keypoint_names
    assert [after.root / mask for mask in after.masks] == [before.root / mask for mask in before.masks]
    assert after.taxonomy == before.taxonomy
    assert {name: list(v) for name, v in after.attributes.items()} == {k: list(v) for k, v in before.attributes.items()}
