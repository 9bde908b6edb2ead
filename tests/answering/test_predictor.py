"""A predictor answers anywhere as it did where it was made."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file, save_file

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.views import short_side
from fieldmark.core.errors import DataError, ImageError, RecipeError, RunError
from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.data.task import Task
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.calibration import SHAPES, Calibration, Held
from fieldmark.evaluation.unknown import class_means
from fieldmark.model.build import build_model
from support.models import predictor_of, rewrite

CLASSES = ("amber", "jade", "plum", "rose")
TAXONOMY = {"warmth": ("warm", "cold", "cold", "warm")}


def fresh(images: Images | None = None, **backbone: Any) -> Predictor:
    torch.manual_seed(0)
    recipe = Recipe(
        images=images or Images(size=32),
        backbone=Backbone(name="test_resnet", weights="none", **backbone),
        method=Choice(name="transfer", dropout=0.2),
    )
    made = build_model(recipe, Task(len(CLASSES))).eval()
    taxonomy = Taxonomy.of(CLASSES, TAXONOMY)
    return predictor_of(made, CLASSES, recipe, taxonomy=taxonomy, provenance={"data": "colours", "seed": 3})


@pytest.fixture
def files(pictures: Path) -> list[Path]:
    return sorted(pictures.rglob("*.png"))[::9]


def test_saved_and_loaded(tmp_path: Path, files: list[Path]) -> None:
    predictor = fresh(Images(size=48, crop=0.9, whole=True), mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    predictor.save(tmp_path / "bundle")
    assert {path.name for path in (tmp_path / "bundle").iterdir()} == {"index.json", "model.json", "model.safetensors"}
    for path in (tmp_path, tmp_path / "bundle", str(tmp_path / "bundle")):  # a run, or the bundle itself
        loaded = Predictor.load(path)
        assert (loaded.classes, loaded.bundle.images, loaded.bundle.recipe.method) == (
            CLASSES,
            predictor.bundle.images,
            predictor.bundle.recipe.method,
        )
        assert (loaded.bundle.taxonomy, loaded.bundle.provenance) == (TAXONOMY, predictor.bundle.provenance)
        assert loaded.model.backbone.normalization == predictor.model.backbone.normalization
        assert not loaded.model.training
        np.testing.assert_allclose(loaded.outputs(files).logits, predictor.outputs(files).logits, atol=1e-5)
    assert repr(loaded) == "Predictor(Bundle(transfer on test_resnet, 4 classes, 48 px) on cpu)"


def test_answers_over_mirror_images(tmp_path: Path, files: list[Path]) -> None:
    """The mean of what the same weights say of an image and of its mirror image, which thus gets the same answer."""
    plain, mirrored = fresh(), fresh(Images(size=32, mirror=True))
    mirrored.save(tmp_path)
    mirrored, turned = Predictor.load(tmp_path), []
    for file in files:
        turned.append(tmp_path / file.name)
        ImageOps.mirror(Image.open(file)).save(turned[-1])
    for name in ("logits", "embedding"):
        one, other = getattr(plain.outputs(files), name), getattr(plain.outputs(turned), name)
        assert np.abs(one - other).max() > 1e-3
        for seen in (files, turned):
            np.testing.assert_allclose(getattr(mirrored.outputs(seen), name), (one + other) / 2, atol=2e-5)


def test_one_image_is_a_list_of_one(files: list[Path]) -> None:
    predictor = fresh()
    for one in (files[0], str(files[0])):
        assert predictor.predict(one) == predictor.predict([str(files[0])])
        np.testing.assert_array_equal(predictor.predict_proba(one), predictor.predict_proba(files[:1]))
        np.testing.assert_array_equal(predictor.embed(one), predictor.embed(files[:1]))


def test_a_bundle_needs_nothing_beside_it(tmp_path: Path, files: list[Path]) -> None:
    """Neither the folder it was made in nor the weights that training began with."""
    begun = tmp_path / "imagenet.safetensors"
    save_file(fresh().model.backbone.model.state_dict(), begun)
    predictor = fresh()
    backbone = Backbone(name="test_resnet", weights=str(begun))
    recipe = predictor.bundle.recipe.model_copy(update={"backbone": backbone})
    predictor = Predictor(replace(predictor.bundle, recipe=recipe), predictor.model)
    predictor.save(tmp_path / "here")
    begun.unlink()
    shutil.move(tmp_path / "here", tmp_path / "there")
    assert str(tmp_path) not in (tmp_path / "there" / "model.json").read_text()
    np.testing.assert_allclose(
        Predictor.load(tmp_path / "there").predict_proba(files), predictor.predict_proba(files), atol=1e-6
    )


def test_timms_normalization_is_written_out(tmp_path: Path) -> None:
    predictor = fresh()
    predictor.save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    assert tuple(description["backbone"]["mean"]) == predictor.model.backbone.normalization.mean
    assert tuple(description["backbone"]["std"]) == predictor.model.backbone.normalization.std
    assert description["interpolation"] == predictor.model.backbone.normalization.interpolation
    rewrite(tmp_path, interpolation="lanczos")
    assert Predictor.load(tmp_path).model.backbone.normalization.interpolation == "lanczos"


def test_answers_agree_with_each_other(files: list[Path]) -> None:
    predictor = fresh()
    outputs = predictor.outputs(files)
    one_by_one = [predictor.outputs([file]).logits[0] for file in files]
    np.testing.assert_allclose(outputs.logits, one_by_one, atol=1e-5)
    np.testing.assert_allclose(predictor.outputs([f.read_bytes() for f in files]).logits, outputs.logits, atol=1e-5)
    exponentials = np.exp(outputs.logits.astype(np.float64))
    reference = exponentials / exponentials.sum(1, keepdims=True)
    np.testing.assert_allclose(predictor.predict_proba(files), reference, rtol=1e-5)
    verdicts = predictor.predict(files, candidates=2)
    assert [v.path for v in verdicts] == [str(file) for file in files]
    assert [v.label for v in verdicts] == [CLASSES[k] for k in outputs.logits.argmax(1)]
    np.testing.assert_allclose([v.probability for v in verdicts], reference.max(1), rtol=1e-5)
    assert {len(v.candidates) for v in verdicts} == {2}
    embedding = predictor.embed(files)
    np.testing.assert_allclose(np.linalg.norm(embedding, axis=1), 1, rtol=1e-5)
    cosine = (embedding * outputs.embedding).sum(1) / np.linalg.norm(outputs.embedding, axis=1)
    np.testing.assert_allclose(cosine, 1, rtol=1e-5)


def test_a_checklist(files: list[Path]) -> None:
    predictor = fresh()
    assert predictor.bundle.class_rows(["plum", "amber", "plum"]).tolist() == [0, 2]
    for verdict in predictor.predict(files, among=["plum", "amber"]):
        assert {c.label for c in verdict.candidates} == {"amber", "plum"}
        assert sum(c.probability for c in verdict.candidates) == pytest.approx(1)
    with pytest.raises(RunError) as caught:
        predictor.predict(files, among=["plum", "ambre", "zinc"])
    assert str(caught.value) == ("2 of 3 names are not classes of this model, such as 'ambre'. Did you mean 'amber'?")


def test_what_the_network_sees(tmp_path: Path) -> None:
    """The central square, or the whole picture squeezed."""
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, :20] = pixels[:, 60:] = 255
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    central = fresh(Images(size=32, crop=0.875)).view(pixels)
    squeezed = fresh(Images(size=32, whole=True)).view(pixels)
    assert central.shape == squeezed.shape == (3, 32, 32)
    assert central.dtype == np.uint8
    assert central.mean() < 5
    assert squeezed.mean() == pytest.approx(127.5, abs=5)
    assert short_side(Images(size=33)) == 50


# What it knows of its own answers -------------------------------------------------------------------------------------


def calibrated(num_images: int = 300, frames: int = 1) -> Predictor:
    """A predictor with a calibration; random answers are seldom right, which a calibration can tell as well as any."""
    predictor, rng = fresh(), np.random.default_rng(0)
    labels = rng.integers(4, size=num_images)
    logits = (rng.normal(size=(num_images, 4)) + 3 * np.eye(4)[labels]).astype(np.float32)
    means = class_means(rng.random((8, predictor.model.backbone.width)), np.arange(8) % 4, 4)
    held = Held(logits, rng.random(num_images), labels, np.arange(num_images) // frames)
    calibration = Calibration.fit(held, means, predictor.bundle.taxonomy, source="validation")
    return Predictor(replace(predictor.bundle, calibration=calibration), predictor.model)


def test_a_calibration_travels_with_the_bundle(tmp_path: Path, files: list[Path]) -> None:
    predictor = calibrated()
    predictor.save(tmp_path)
    assert json.loads((tmp_path / "model.json").read_text())["calibration"]["images"] == 300
    loaded = Predictor.load(tmp_path)
    for options in ({}, {"coverage": 0.7}, {"accuracy": 0.6, "candidates": 2}, {"among": ["plum", "rose"]}):
        ours, theirs = predictor.predict(files, **options), loaded.predict(files, **options)
        assert [v.as_dict() | {"probability": 0, "candidates": 0, "certainty": 0} for v in ours] == [
            v.as_dict() | {"probability": 0, "candidates": 0, "certainty": 0} for v in theirs
        ]
    assert predictor.bundle.calibration is not None
    assert loaded.bundle.calibration is not None
    ours, theirs = predictor.bundle.calibration.arrays(), loaded.bundle.calibration.arrays()
    assert set(ours) == set(SHAPES)  # what has no shape would be left behind
    for name, values in ours.items():
        assert values.size or "burst" in name or name in ("sharpened", "calibrated"), name
        np.testing.assert_array_equal(theirs[name], values, err_msg=name)
    scaled = predictor.bundle.log_probabilities(predictor.outputs(files).logits)
    np.testing.assert_allclose(np.log(loaded.predict_proba(files)), scaled, atol=1e-4)
    rewrite(tmp_path)
    (tmp_path / "calibration.safetensors").write_bytes(b"cut short")
    with pytest.raises(RunError, match=r"The calibration in .* cannot be read: .*\. Copy the bundle again\."):
        Predictor.load(tmp_path)
    (tmp_path / "calibration.safetensors").unlink()
    with pytest.raises(RunError, match=r"The calibration in .* cannot be read"):
        Predictor.load(tmp_path)


def test_without_a_calibration_nothing_is_promised(tmp_path: Path, files: list[Path]) -> None:
    fresh().save(tmp_path)
    rewrite(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    del description["calibration"]  # as bundles were written before there were calibrations
    (tmp_path / "model.json").write_text(json.dumps(description))
    predictor = Predictor.load(tmp_path)
    assert predictor.bundle.thresholds() is None
    assert {(v.level, v.name, v.possible) for v in predictor.predict(files)} == {(None, None, None)}
    for asked in ({"accuracy": 0.9}, {"coverage": 0.9}):
        with pytest.raises(RunError) as refused:
            predictor.predict(files, **asked)
        assert str(refused.value) == (
            "This bundle is not calibrated, so it can promise neither an accuracy nor a coverage. "
            "Leave both options out for plain probabilities, or train again, such as: fieldmark train RUN --set "
            "protocol=crossfit --out NEW."
        )


@pytest.mark.parametrize("make", [fresh, calibrated])
def test_photographs_of_one_folder_give_one_answer(make: Callable[[], Predictor], pictures: Path) -> None:
    predictor = make()
    paths = sorted(str(path) for path in pictures.rglob("*.png"))[::4]
    *single, amber, jade, plum = predictor.predict(paths, bursts=True)
    assert [replace(v, frames=None) for v in single] == predictor.predict(paths)
    assert {v.frames for v in single} == {1}
    assert [v.path for v in (amber, jade, plum)] == [(pictures / name).as_posix() for name in ("amber", "jade", "plum")]
    log_probabilities = np.log(predictor.predict_proba(paths))
    for pooled in (amber, jade, plum):
        rows = [i for i, path in enumerate(paths) if path.startswith(pooled.path)]
        assert pooled.frames == len(rows) > 2
        mean = log_probabilities[rows].mean(axis=0)  # no bursts in validation: frames count as one look
        assert pooled.probability == pytest.approx(np.exp(mean.max()) / np.exp(mean).sum(), rel=1e-4)


def test_a_picture_that_cannot_be_read(tmp_path: Path, files: list[Path]) -> None:
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(ImageError, match=r"bad\.png"):
        fresh().predict([files[0], tmp_path / "bad.png"])


def test_no_pictures() -> None:
    with pytest.raises(DataError, match="No images were given"):
        fresh().predict([])


def opened(folder: Path) -> str:
    with pytest.raises(RunError) as caught:
        Predictor.load(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_where_there_is_no_bundle(tmp_path: Path) -> None:
    assert opened(tmp_path) == (
        f"{tmp_path} is neither a finished run nor a bundle: it has no model.json. "
        "Give the folder of a run that has finished (--resume finishes one that was stopped)."
    )
    assert "is neither a finished run nor a bundle" in opened(tmp_path / "absent")
    (tmp_path / "photographs" / "bundle").mkdir(parents=True)
    (tmp_path / "photographs" / "bundle" / "model.json").write_text("{}")
    assert opened(tmp_path / "photograph").endswith(f"Did you mean {tmp_path / 'photographs'}?")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "model.safetensors").touch()
    assert f"{tmp_path / 'bundle'} is neither a finished run nor a bundle" in opened(tmp_path)


def test_a_bundle_of_another_format(tmp_path: Path) -> None:
    fresh().save(tmp_path)
    rewrite(tmp_path, format=99)
    assert opened(tmp_path) == (
        f"{tmp_path} has the format 99, but this version of Fieldmark reads 2. "
        "Use the version that wrote it, or train again."
    )


def test_a_description_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_text("[1, 2]")
    assert opened(tmp_path).startswith(f"{tmp_path / 'model.json'} is damaged: its content is [1, 2], but ")
    (tmp_path / "model.json").write_text("{}")
    assert opened(tmp_path).startswith(f"{tmp_path} has the format None, but this version of Fieldmark reads 2.")


@pytest.mark.parametrize("text", ["{", "", "\x00"])
def test_a_damaged_description(tmp_path: Path, text: str) -> None:
    fresh().save(tmp_path)
    (tmp_path / "model.json").write_text(text)
    assert opened(tmp_path) == (
        f"{tmp_path / 'model.json'} is damaged: its SHA-256 is not the one in index.json. Copy the bundle again."
    )
    (tmp_path / "index.json").unlink()
    assert opened(tmp_path).startswith(f"{tmp_path / 'model.json'} is damaged: it is not JSON")


@pytest.mark.parametrize("change", [{"classes": None}, {"taxonomy": []}])
def test_a_description_that_lacks_something(tmp_path: Path, change: dict[str, Any]) -> None:
    fresh().save(tmp_path)
    rewrite(tmp_path, **change)
    key, value = next(iter(change.items()))
    assert opened(tmp_path).startswith(f"{tmp_path / 'model.json'} is damaged: {key} is {value}, but it should be ")
    (tmp_path / "model.json").write_text('{"format": 2}')
    assert opened(tmp_path) == (
        f"{tmp_path / 'model.json'} is damaged: there is no key 'classes'. Copy the bundle again."
    )


@pytest.mark.parametrize(
    ("change", "names"),
    [({"backbone": {"name": "a", "side": 3}}, "backbone.side"), ({"images": {"sizes": 32}}, "images.sizes")],
)
def test_a_description_by_another_version(tmp_path: Path, change: dict[str, Any], names: str) -> None:
    fresh().save(tmp_path)
    rewrite(tmp_path, **change)
    text = opened(tmp_path)
    assert text.startswith(f"This version of Fieldmark cannot use {tmp_path / 'model.json'}: ")
    assert names in text
    assert text.endswith(
        "Use the version that wrote the bundle. If it is this one, the file is damaged: copy the bundle again."
    )


def test_damaged_weights(tmp_path: Path) -> None:
    fresh().save(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-10])
    assert opened(tmp_path).startswith(f"{path} is damaged: its SHA-256 is not the one in index.json.")
    rewrite(tmp_path)
    assert opened(tmp_path).startswith(f"The weights in {tmp_path} cannot be read (")
    path.unlink()
    assert opened(tmp_path).startswith(f"The weights in {tmp_path} cannot be read (")


def test_weights_of_another_bundle(tmp_path: Path) -> None:
    fresh().save(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    key = "head.classifier.linear.weight"
    save_file({key: weights[key]}, tmp_path / "model.safetensors")
    rewrite(tmp_path)
    assert opened(tmp_path) == (f"The weights in {tmp_path} do not match its model.json. Copy the bundle again.")


def test_an_interrupted_save_leaves_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The description comes last, so that a bundle with one is complete."""

    def interrupted(path: Path, data: bytes) -> None:
        if path.name == "model.json":
            raise KeyboardInterrupt
        path.write_bytes(data)

    monkeypatch.setattr("fieldmark.runs.bundle.write_bytes", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fresh().save(tmp_path)
    assert "it has no model.json" in opened(tmp_path)


def test_options_of_the_method_are_checked() -> None:
    recipe = fresh().bundle.recipe
    with pytest.raises(RecipeError, match=r"has no option 'droput'\. Did you mean 'dropout'\?"):
        build_model(recipe.model_copy(update={"method": Choice(name="transfer", droput=0.1)}), Task(3))
    with pytest.raises(RecipeError, match=r"method\.dropout = 1\.5 is not allowed\. Expected a share in \[0, 1\)\."):
        build_model(recipe.model_copy(update={"method": Choice(name="transfer", dropout=1.5)}), Task(3))
