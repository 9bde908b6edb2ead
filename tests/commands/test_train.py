"""`fieldmark train`: what it learns from, what it writes and what it says."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

import fieldmark
from fieldmark.commands.train import train
from fieldmark.core.errors import TrainingError
from fieldmark.core.storage import read_rows
from fieldmark.learning.fitting import holdout
from fieldmark.runs.run import Run
from support.weights import identical, weights

Cli = Callable[..., Any]
Tiny = Callable[..., list[str]]


# What it learns from --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["holdout", "crossfit", "refit"])
def test_the_test_part_teaches_nothing(parted: Path, tmp_path: Path, cli: Cli, tiny: Tiny, protocol: str) -> None:
    recipe = tiny(protocol=protocol, folds="2", train__batch_size="8")
    assert cli("train", parted, *recipe, "--out", tmp_path / "real").status == 0
    rng = np.random.default_rng(7)
    for file in (parted / "test").rglob("*.png"):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    assert cli("train", parted, *recipe, "--out", tmp_path / "noise").status == 0
    assert identical(weights(tmp_path / "real"), weights(tmp_path / "noise"))
    parts = {path.name for path in (tmp_path / "real" / "evaluation").glob("*")}
    assert parts == {"holdout": {"val"}, "crossfit": {"crossfit"}, "refit": set()}[protocol]


def test_training_images_do_teach(parted: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    assert cli("train", parted, *tiny(), "--out", tmp_path / "real").status == 0
    image = parted / "train" / "jade" / "00.png"
    Image.new("RGB", (48, 40), "black").save(image)
    assert cli("train", parted, *tiny(), "--out", tmp_path / "black").status == 0
    assert not identical(weights(tmp_path / "real"), weights(tmp_path / "black"))


def test_test_pixels_are_not_kept(
    parted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, tiny: Tiny
) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    assert cli("train", parted, *tiny(), "--out", tmp_path / "run").status == 0
    (pixels,) = (tmp_path / "cache").rglob("pixels.bin")
    assert pixels.stat().st_size == 30 * 48 * 40 * 3


@pytest.mark.parametrize(
    ("protocol", "counts"), [("holdout", (30, 6, 6)), ("crossfit", (36, 0, 6)), ("refit", (36, 0, 6))]
)
def test_protocols(
    pictures: Path, tmp_path: Path, cli: Cli, tiny: Tiny, protocol: str, counts: tuple[int, ...]
) -> None:
    run = Run(tmp_path / "run")
    answer = cli("train", pictures, *tiny(protocol=protocol, folds="3"), "--out", run.folder)
    assert answer.status == 0
    assert tuple(run.data()["counts"].values()) == counts
    assert f"Split the images: train {counts[0]}, val {counts[1]}, test {counts[2]}" in answer.err
    bundle = fieldmark.Predictor.load(run.folder)
    assert bundle.bundle.provenance["protocol"] == protocol
    assert bundle.bundle.provenance["images"] == counts[0]
    fits = ["model"] if protocol != "crossfit" else ["fold 0", "fold 1", "fold 2", "model"]
    assert [line["fit"] for line in run.history()] == fits
    if protocol == "crossfit":
        rows = (run.evaluation("crossfit") / "predictions.csv").read_text().splitlines()[1:]
        parts = run.splits()
        assert sorted(row.split(",")[0] for row in rows) == sorted(p for p, split in parts.items() if split == "train")
        assert "Out-of-fold top-1: " in answer.err
    else:
        assert ("Validation top-1: " in answer.err) == (protocol == "holdout")


@pytest.mark.parametrize("protocol", ["holdout", "crossfit"])
def test_scores_are_of_probabilities_that_have_not_seen_their_labels(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, tiny: Tiny, protocol: str
) -> None:
    seen: list[tuple[Any, Any]] = []

    def recorded(logits: Any, labels: Any, *more: Any, **options: Any) -> Any:
        found = real(logits, labels, *more, **options)
        seen.append((found, labels))
        return found

    real = holdout.calibrate
    monkeypatch.setattr(holdout, "calibrate", recorded)
    run = Run(tmp_path / "run")
    assert cli("train", pictures, *tiny(protocol=protocol, folds="2"), "--out", run.folder).status == 0
    ((found, labels),) = seen
    split = run.evaluation("crossfit" if protocol == "crossfit" else "val")
    told = [float(row["label_probability"]) for row in read_rows(split / "predictions.csv", ["label_probability"])]
    assert told == pytest.approx(np.exp(found.held_out[np.arange(len(labels)), labels]), rel=1e-4)


def test_a_probe(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setattr(
        "fieldmark.learning.fitting.head.STRENGTHS", dict.fromkeys(("standardised", "unit"), (0.01, 0.1))
    )
    probe = ["--recipe", "probe", "--backbone", "test_resnet", "--weights", "none", "--set", "images.size=32"]
    answer = cli("train", pictures, *probe, "--out", tmp_path / "run")
    assert answer.status == 0
    assert "C = " in answer.err
    assert " %)" in answer.err
    assert "beyond it" not in " ".join(answer.err.split()), "no recipe can ask for another C"
    assert Run(tmp_path / "run").is_finished
    tensors = {key.removeprefix("backbone.model."): value for key, value in weights(tmp_path / "run").items()}
    damaged = {key: value * 1e30 if value.is_floating_point() else value for key, value in tensors.items()}
    save_file(damaged, tmp_path / "damaged.safetensors")
    probe[5] = str(tmp_path / "damaged.safetensors")
    answer = cli("train", pictures, *probe, "--out", tmp_path / "other")
    assert answer.complaint == (
        "The model's outputs contain NaN or infinite values. Its weights are damaged: choose others with --weights."
    )
    assert not (tmp_path / "other").exists()


# What it says ---------------------------------------------------------------------------------------------------------


def test_one_line_for_each_epoch(pictures: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    out = tmp_path / "run"
    err = cli("train", pictures, *tiny(train__epochs="3", train__batch_size="8"), "--out", out, columns=60).err
    lines = [line for line in err.splitlines() if line.startswith("epoch ")]
    assert len(lines) == 3
    for number, (line, logged) in enumerate(zip(lines, Run(out).history(), strict=True), start=1):
        loss, accuracy = f"loss {logged['loss']:.3f}", f"validation {100 * logged['val_top1']:.1f} %"
        assert line.startswith(f"epoch {number}/3  {loss}  {accuracy}  ")
        assert " images/s" in line
        assert line.endswith(" left") == (number < 3)
        assert len(line) <= 80
    assert err.splitlines()[-1] == f"Next: fieldmark evaluate {out}"


def test_looking_at_the_validation_split_changes_nothing(
    pictures: Path, trained: Run, tmp_path: Path, cli: Cli, tiny: Tiny
) -> None:
    arguments = tiny(train__epochs="2", train__validate_epochs="false")
    assert cli("train", pictures, *arguments, "--out", tmp_path / "run").status == 0
    run = Run(tmp_path / "run")
    assert not any("val_top1" in line for line in run.history())
    scored = [(one.evaluation("val") / "predictions.csv").read_bytes() for one in (run, trained)]
    assert scored[0] == scored[1]


def test_what_is_written(pictures: Path, trained: Run) -> None:
    files = {str(path.relative_to(trained.folder)) for path in trained.folder.rglob("[!.]*") if path.is_file()}
    assert files == {
        "bundle/calibration.safetensors",
        "bundle/held.safetensors",
        "bundle/index.json",
        "bundle/model.json",
        "bundle/model.safetensors",
        "checkpoints/model.safetensors",
        "data.json",
        "environment.json",
        "evaluation/val/classes.csv",
        "evaluation/val/predictions.csv",
        "evaluation/val/scores.json",
        "log.jsonl",
        "memory.json",
        "recipe.toml",
        "splits.csv",
        "times.json",
    }
    assert trained.data()["source"] == str(pictures)
    assert trained.data()["classes"] == ["amber", "jade", "plum"]
    assert len(trained.splits()) == 42


def test_the_written_recipe_repeats_the_run(pictures: Path, trained: Run, tmp_path: Path) -> None:
    again = train(pictures, str(trained.folder / "recipe.toml"), out=tmp_path / "again")
    assert again.recipe() == trained.recipe()
    assert identical(weights(again), weights(trained))


def test_default_folder_is_named_after_the_data(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, tiny: Tiny
) -> None:
    shutil.copytree(pictures, tmp_path / "birds.v2")
    (tmp_path / "birds.v2" / "birds.csv").write_text(
        "path,label\n" + "".join(f"{k}/{i:02}.png,{k}\n" for k in ("jade", "plum") for i in range(9))
    )
    monkeypatch.chdir(tmp_path / "birds.v2")
    assert cli("train", "birds.csv", *tiny()).err.splitlines()[-1] == "Next: fieldmark evaluate runs/birds"
    (tmp_path / "birds.v2" / "birds.csv").unlink()
    answer = cli("train", ".", *tiny())  # the run lies inside the data, and is no class
    assert answer.err.splitlines()[-1] == "Next: fieldmark evaluate runs/birds.v2"
    assert Run("runs/birds.v2").data()["classes"] == ["amber", "jade", "plum"]


def test_listener_of_the_library_is_silent(pictures: Path, tmp_path: Path, capsys: Any, tiny: Tiny) -> None:
    overrides = [argument.removeprefix("--set=") for argument in tiny()[2:]]
    run = train(pictures, "walkthrough", out=tmp_path / "run", overrides=overrides)
    assert capsys.readouterr() == ("", "")
    assert repr(run) == f"Run({str(tmp_path / 'run')!r}, finished)"
    with pytest.raises(TrainingError):
        train(pictures, "walkthrough", out=tmp_path / "nan", overrides=[*overrides, "train.lr=1e30"])


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(1, 20), st.integers(0, 9))
def test_class_means_are_of_some_images_of_each_class(labels: list[int], most: int, seed: int) -> None:
    given_labels = np.array(labels)
    rows = 3 * np.arange(len(labels)) + 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(holdout, "_ENOUGH", most)
        few = holdout._few_of_each(rows, given_labels, seed=seed)
    assert (np.diff(few) > 0).all()
    counts = np.bincount(given_labels, minlength=5)
    np.testing.assert_array_equal(np.bincount(given_labels[(few - 1) // 3], minlength=5), counts.clip(None, most))


# Under which licence --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("license", "says"),
    [
        ("mit", "The licence of the weights of test_resnet is mit"),
        ("cc-by-nc-4.0", "warning: The weights of test_resnet are for non-commercial use only (licence cc-by-nc-4.0)"),
        (None, "The licence of the weights of test_resnet is unknown"),
    ],
)
def test_the_licence_of_the_weights_is_told_and_kept(
    pictures: Path, tmp_path: Path, cli: Cli, tiny: Tiny, license: str | None, says: str
) -> None:
    file = tmp_path / "w.safetensors"
    save_file(timm.create_model("test_resnet").state_dict(), file, {"license": license} if license else None)
    recipe = ("--set=backbone.name=test_resnet", "--set=images.size=32")
    answer = cli("train", pictures, "--recipe", "probe", *recipe, "--weights", file, "--out", tmp_path / "run")
    assert answer.status == 0
    assert says in " ".join(answer.err.split())
    assert fieldmark.Predictor.load(tmp_path / "run").bundle.provenance["license"] == (license or "unknown")
