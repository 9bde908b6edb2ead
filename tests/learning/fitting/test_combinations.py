"""What pieces tell only when they meet a backbone, a size or the data: each told before anything is learnt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fieldmark.core.errors import RecipeError
from fieldmark.core.recipe import Recipe, recipe_names
from fieldmark.learning.fitting.combinations import rehearse
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.methods.transfer import Transfer
from fieldmark.model.method import Method

Cli = Callable[..., Any]
Tiny = Callable[..., list[str]]


def resolved(recipe: str = "finetune", backbone: str = "test_resnet", *overrides: str) -> Recipe:
    return resolve_recipe(recipe, backbone=backbone, weights="none", overrides=overrides)


@pytest.mark.parametrize("backbone", ["test_resnet", "test_vit"])
@pytest.mark.parametrize("name", [name for name in recipe_names() if name != "snapmix"])
def test_every_shipped_recipe_passes(name: str, backbone: str) -> None:
    rehearse(resolved(name, backbone, "images.size=64"))


@pytest.mark.parametrize(
    "recipe",
    [
        resolved("snapmix"),
        resolved("bilinear_attention", "test_vit", "augment.mix=snapmix"),
        resolved("snapmix", "test_vit", "backbone.options.global_pool=avg", "backbone.options.fc_norm=false"),
        resolved("part_discovery", "test_vit", "method.supervise=1"),
        resolved("probe", "test_resnet", "train.freeze_stages=50"),
    ],
    ids=["class maps", "a method's maps", "averaged tokens", "key points of data not read yet", "nothing to freeze"],
)
def test_pieces_that_go_together(recipe: Recipe) -> None:
    rehearse(recipe)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (
            resolved("finetune", "test_resnet", "train.freeze_stages=50"),
            "train.freeze_stages = 50 freezes all of 'test_resnet'. It has ",
        ),
        (
            resolved("isqrt_cov", "test_resnet", "images.size=32"),
            "The neck 'isqrt_cov' pools how cells vary, but at this image size the feature map has only one. ",
        ),
        (
            resolved("attention_pooling", "test_resnet", "images.size=32"),
            "The neck 'attention' pools several cells, but the map of 'test_resnet' has only one cell at 32",
        ),
        (
            resolved("part_discovery", "test_vit", "images.size=16"),
            "The method 'part_discovery' finds parts among several cells, but the map of 'test_vit' has only one",
        ),
        (
            resolved("snapmix", "test_resnet", "images.size=32"),
            "augment.mix = 'snapmix' weights labels by class maps of several cells, but the map of 'test_resnet' has ",
        ),
        (
            resolved("snapmix", "vit_tiny_patch16_224"),
            "augment.mix = 'snapmix' weights labels by class maps, but the backbone 'vit_tiny_patch16_224' answers "
            "from a class token and not from the cells of its map. Use augment.mix = 'cutmix' or, if the",
        ),
        (
            resolved("finetune", "inception_v3", "images.size=32"),
            "The backbone 'inception_v3' cannot process images of 32 px (",
        ),
    ],
)
def test_pieces_that_do_not(recipe: Recipe, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        rehearse(recipe)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mix_that_the_method_cannot_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transfer, "class_maps", Method.class_maps)
    with pytest.raises(RecipeError, match="the method 'transfer' has none") as caught:
        rehearse(resolved("snapmix"))
    assert "a method that has class maps: bilinear_attention" in str(caught.value)


def test_training_and_comparing_rehearse_before_data_is_read(tmp_path: Path, cli: Cli) -> None:
    options = ["--backbone=test_resnet", "--weights=none", "--set=train.freeze_stages=50", "--out", tmp_path / "out"]
    says = "train.freeze_stages = 50 freezes all of 'test_resnet'."
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("no data, which is found out later")
    assert cli("train", tmp_path / "data", *options).complaint.startswith(says)
    complaint = cli("compare", tmp_path / "data", "--recipes", "probe,finetune", *options).complaint
    assert complaint.startswith(f"finetune: {says}")
    assert not (tmp_path / "out").exists()


# Batches --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def many_classes(pictures: Path, tmp_path: Path) -> Path:
    """Twelve classes of two pictures, for training alone."""
    root = tmp_path / "many"
    files = sorted(pictures.rglob("*.png"))
    for k in range(12):
        (root / "train" / f"class {k:02}").mkdir(parents=True)
        for i in range(2):
            shutil.copy(files[2 * k + i], root / "train" / f"class {k:02}")
    return root


METRIC = {"auxiliary__name": "supcon", "protocol": "refit", "train__batch_size": "4"}


def test_contrast_that_meets_hardly_a_partner(many_classes: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    answer = cli("train", many_classes, *tiny(**METRIC), "--out", tmp_path / "run")
    assert answer.status == 0
    (said,) = (line for line in answer.err.splitlines() if "Only " in line)
    share = float(said.split("Only ")[1].split("%")[0])
    assert share == pytest.approx(100 * 3 / 23, abs=15)  # the other of its class among three more of the 23
    assert "share a batch of 4 (train.sampling = 'shuffled') with another image of their class, and the " in said
    assert said.endswith("Set train.sampling=class_batches and train.images_per_class=2.")
    pairs = {"train__sampling": "class_batches", "train__images_per_class": "2"}
    answer = cli("train", many_classes, *tiny(**METRIC, **pairs), "--out", tmp_path / "pairs")
    assert answer.status == 0
    assert "Only " not in answer.err


def test_compare_tells_what_else_only_a_log_would(many_classes: Path, tmp_path: Path, cli: Cli) -> None:
    named = ["--recipes=supcon", "--backbone=test_resnet", "--weights=none", "--set=images.size=32", "--seeds=1"]
    shuffled = ["--set=train.sampling=shuffled", "--set=train.batch_size=4", "--set=train.epochs=1"]
    shuffled += ["--out", tmp_path / "compared"]
    complaint = cli("compare", many_classes, *named, *shuffled).complaint
    assert complaint.startswith(
        "many has no images in its val split to compare recipes on. Give each class at least three independent images"
    )
    err = cli("compare", many_classes, *named, *shuffled, "--set=protocol=crossfit", "--set=folds=2").err
    assert "warning: supcon: Only " in err
    assert "DataWarning" not in err


def test_contrast_that_meets_no_partner(many_classes: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    says = "The auxiliary 'supcon' compares images of one class, but a batch of 4 (train.sampling = 'balanced') has "
    recipe = tiny(**METRIC, train__sampling="balanced")
    complaint = cli("train", many_classes, *recipe, "--out", tmp_path / "run").complaint
    assert complaint.startswith(says)
    assert complaint.endswith("Set train.sampling=class_batches and train.images_per_class=2.")
    assert not (tmp_path / "run").exists()
    named = ["--recipes", "finetune,supcon", "--backbone=test_resnet", "--weights=none", "--set=images.size=32"]
    sampling = [
        "--set=protocol=crossfit",
        "--set=train.sampling=balanced",
        "--set=train.batch_size=4",
        "--out",
        tmp_path / "compared",
    ]
    assert cli("compare", many_classes, *named, *sampling).complaint.startswith(f"supcon: {says}")
    assert not list((tmp_path / "compared").glob("runs/*"))
