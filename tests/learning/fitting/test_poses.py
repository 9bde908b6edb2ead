"""Pose-based augmentation as its user meets it: refusals, warnings, a training, a page to look at."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldmark.commands.preview import preview
from fieldmark.commands.train import train
from fieldmark.core.errors import DataError, RecipeError
from fieldmark.core.recipe import Recipe
from fieldmark.data.catalog import Catalog
from fieldmark.data.sets import read
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.methods.transfer import Transfer
from support.hearing import Heard

NAMES = ("beak", "left eye", "right eye", "tail")


def recipe(protocol: str = "refit", **augment: Any) -> Recipe:
    return Recipe.parse(
        {
            "protocol": protocol,
            "images": {"size": 32},
            "backbone": {"name": "test_resnet", "weights": "none"},
            "augment": augment,
            "train": {"epochs": 2, "batch_size": 12, "precision": "fp32"},
        },
        source="test",
    )


def with_points(catalog: Catalog, num_points: int = 4) -> Catalog:
    """Points somewhere near a bird's places in pictures of 48 × 40."""
    pose = np.array([[12, 14], [18, 12], [20, 13], [36, 26]])[:num_points]
    places = pose + np.random.default_rng(0).normal(size=(len(catalog), num_points, 2)) * 2
    points = np.concatenate([places, np.ones((len(catalog), num_points, 1))], axis=2).astype(np.float32)
    return replace(catalog, keypoint_names=NAMES[:num_points], keypoints=points)


@pytest.fixture
def birds(pictures: Path) -> Catalog:
    return with_points(read(pictures))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            ["train.solver=logistic"],
            "train.solver = 'logistic' does not augment images, so it cannot be combined with augment.warp",
        ),
        (
            ["augment.crop=false", "augment.swap=1"],
            "augment.crop = false turns augmentation off, so it cannot be combined with augment.warp, augment",
        ),
        (["augment.warp=2"], "augment.warp = 2"),
        (["augment.wrap=1"], "Did you mean 'warp'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_data_is_read(change: list[str], expected: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(expected)):
        resolve_recipe("warp", overrides=["backbone.weights=none", *change])


def test_without_key_points_the_way_to_them_is_said(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no key points for augment\.warp\. .*`fieldmark parts RUN DATA`"):
        train(pictures, recipe(warp=1.0), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_key_points_a_recipe_may_go_on_as_if_it_had_not_asked(pictures: Path, tmp_path: Path) -> None:
    listener, short = Heard(), ["train.epochs=1"]
    asked = recipe(warp=1.0, align=0.5, if_missing="skip").with_overrides(short)
    one = train(pictures, asked, out=tmp_path / "one", listener=listener)
    said = [text for text in listener.notes if "key points" in text]
    assert len(said) == 1
    assert re.match(r"Continuing without (augment\.align, augment\.warp): \w+ has no key points for \1$", said[0])
    plain = train(pictures, recipe().with_overrides(short), out=tmp_path / "plain")
    assert one.history()[0]["loss"] == plain.history()[0]["loss"]
    assert "if_missing" not in preview(pictures, asked, out=tmp_path / "page.html").read_text(encoding="utf-8")


def test_too_few_key_points(birds: Catalog, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"has too few key points for augment\.align: beak, left eye\. Expected at least 3"
    ):
        train(with_points(birds, 2), recipe(align=1.0), out=tmp_path / "run")
    assert birds.keypoints is not None
    outside = replace(birds, keypoints=birds.keypoints + 1000)
    shows = r"No training image of \w+ shows the 3 key points that augment\.align needs\. "
    with pytest.raises(DataError, match=shows + "`fieldmark audit` lists key points that lie outside"):
        train(outside, recipe(align=1.0), out=tmp_path / "run")
    unseen = replace(birds, keypoints=birds.keypoints * np.array([1, 1, 0], np.float32))
    with pytest.raises(DataError, match=shows + "Key points that are blank or marked as not visible do not"):
        train(unseen, recipe(align=1.0), out=tmp_path / "run")


@pytest.mark.parametrize("asked", [{"align": 1.0}, {}], ids=["carried", "learnt"])
def test_key_points_outside_their_pictures_are_counted(birds: Catalog, tmp_path: Path, asked: dict[str, float]) -> None:
    assert birds.keypoints is not None
    points, listener = birds.keypoints.copy(), Heard()
    points[3:7, 2:, :2] += 1000
    points[9, 2] = np.nan, np.nan, 0
    learnt = ["method.name=part_discovery", "method.parts=4", "method.supervise=1", "train.epochs=1"]
    options = recipe(**asked).with_overrides(learnt)
    train(replace(birds, keypoints=points), options, out=tmp_path / "run", listener=listener)
    (said,) = (text for text in listener.warnings if "outside" in text)
    assert re.match(r"[2-8] key points outside the picture, in [1-4] of \d+ training images, will count", said)
    assert "count as not visible, such as in amber/0" in said


def test_what_is_left_as_it_is_is_said_once(birds: Catalog, tmp_path: Path) -> None:
    """A class of which only one image shows its points, and an image without any."""
    assert birds.keypoints is not None
    points = birds.keypoints.copy()
    points[1:14] = np.nan, np.nan, 0
    points[20] = 0, 0, 0
    listener = Heard()
    run = train(
        replace(birds, keypoints=points),
        recipe("crossfit", warp=0.5, swap=0.5).with_overrides(["folds=2", "train.epochs=1"]),
        out=tmp_path / "run",
        listener=listener,
    )
    assert run.is_finished
    said = [text for text in listener.warnings if "augment." in text or "donor" in text]
    assert len(said) == 2
    assert re.match(
        r"Fewer than 3 key points are visible in \d+ of \d+ training images, such as amber/01.png, so", said[0]
    )
    assert re.match(r"There is no donor for 1 of \d+ training images: .* \(classes: amber\)$", said[1])


def test_supervision_needs_key_points_inside_the_pictures(birds: Catalog, tmp_path: Path) -> None:
    assert birds.keypoints is not None
    method = ["method.name=part_discovery", "method.parts=4", "method.supervise=1", "train.epochs=1"]
    asked = recipe().with_overrides(method)
    with pytest.raises(DataError, match=r"'part_discovery' .* no training image of \w+ shows one within"):
        train(replace(birds, keypoints=birds.keypoints + 1000), asked, out=tmp_path / "none")
    points, listener = birds.keypoints.copy(), Heard()
    points[:20, :, :2] -= 1000
    train(replace(birds, keypoints=points), asked, out=tmp_path / "some", listener=listener)
    assert [
        text for text in listener.warnings if re.match(r"No key point is visible in \d+ of \d+ training images", text)
    ]


def test_any_method_may_need_key_points(birds: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a plug-in says that it does."""
    monkeypatch.setattr(Transfer, "needs_keypoints", classmethod(lambda cls, options: True))
    assert birds.keypoints is not None
    plain = recipe().with_overrides(["train.epochs=1"])
    with pytest.raises(DataError, match=r"'transfer' .* no training image of \w+ shows one within"):
        train(replace(birds, keypoints=birds.keypoints + 1000), plain, out=tmp_path / "run")
    with pytest.raises(DataError, match=r"'transfer' .* learns from key points, but \w+ has none"):
        train(replace(birds, keypoints=None, keypoint_names=()), plain, out=tmp_path / "run")
    with pytest.raises(RecipeError, match=r"needs unmixed images, .* Set augment.mix=none\.$"):
        train(birds, plain.with_overrides(["augment.mix=cutmix"]), out=tmp_path / "run")


def test_it_trains_and_is_the_same_twice(birds: Catalog, tmp_path: Path) -> None:
    options = recipe(align=0.5, warp=0.5, swap=0.5).with_overrides(["train.epochs=1"])
    one, same = (train(birds, options, out=tmp_path / name).history()[0]["loss"] for name in ("one", "same"))
    assert one == same


def test_preview_shows_what_training_sees(birds: Catalog, tmp_path: Path) -> None:
    page = preview(birds, recipe(align=1.0), out=tmp_path / "new" / "page.html", count=3)
    text = page.read_text(encoding="utf-8")
    assert text.count("data:image/jpeg") == 3 * 6
    assert all(name in text for name in (*NAMES, *birds.classes, "align = 1.0"))
    assert "http" not in text


def test_preview_shows_images_that_are_changed(birds: Catalog, tmp_path: Path) -> None:
    assert birds.keypoints is not None
    points = birds.keypoints.copy()
    points[np.arange(len(points)) % 3 > 0] = np.nan, np.nan, 0
    listener = Heard()
    text = preview(
        replace(birds, keypoints=points), recipe(align=1.0), out=tmp_path / "page.html", count=6, listener=listener
    ).read_text(encoding="utf-8")
    assert any("leave them unchanged" in warning for warning in listener.warnings)
    shown = [path for path in birds.paths if path in text]
    assert len(shown) == 6
    assert all(birds.paths.index(path) % 3 == 0 for path in shown)


def test_preview_of_plain_pictures(cli: Any, pictures: Path, tmp_path: Path) -> None:
    """No key points, no boxes, nothing changed; and the command's own refusals."""
    settings = ["--set=augment.crop=false", "--set=augment.mix=cutmix", "--set=images.size=32", "--images=2"]
    answer = cli("preview", pictures, "--out", tmp_path / "page.html", "--set=backbone.weights=none", *settings)
    assert answer.status == 0
    assert f"Wrote {tmp_path / 'page.html'}" in answer.err
    assert "mixes whole batches (cutmix)" in (tmp_path / "page.html").read_text(encoding="utf-8")
    refusal = cli("preview", pictures, "--recipe", "pose", "--set=backbone.weights=none").complaint
    assert "has no key points for augment.align, augment.warp, augment.swap. Add columns" in refusal
