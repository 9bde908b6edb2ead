"""The user who does everything wrong gets one line that says what, where, what was expected and what to do."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from fieldmark.answering.predictor import Predictor
from fieldmark.core.reading import read_json
from fieldmark.runs.run import Run
from support.models import rewrite

Cli = Callable[..., Any]
Tiny = Callable[..., list[str]]


@pytest.fixture
def copied(pictures: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pictures, tmp_path / "photographs")


# Data -----------------------------------------------------------------------------------------------------------------


def test_a_bad_start_can_be_repeated_once_the_data_is_right(
    pictures: Path, tmp_path: Path, cli: Cli, tiny: Tiny
) -> None:
    data = tmp_path / "photographs"
    command = ("train", data, *tiny(), "--out", tmp_path / "run")
    assert cli(*command).complaint.startswith(f"There is nothing at {data}.")
    data.mkdir()
    complaint = cli(*command).complaint
    assert complaint.startswith(f"No data found at {data}, which is empty. Looked for: ")
    assert "class folders" in complaint
    shutil.copytree(pictures / "jade", data / "jade")
    assert cli(*command).complaint.startswith(f"{data} holds only one class, 'jade'. At least two are needed")
    assert not (tmp_path / "run").exists()
    shutil.copytree(pictures / "plum", data / "plum")
    assert cli(*command).status == 0
    assert Run(tmp_path / "run").is_finished


def test_a_folder_of_other_files(tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    data = tmp_path / "texts"
    data.mkdir()
    (data / "notes.txt").write_text("no photographs here")
    assert "holds 1 file (.txt)" in cli("train", data, *tiny(), "--out", tmp_path / "run").complaint


def test_no_image_can_be_read(copied: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    for file in copied.rglob("*.png"):
        file.write_bytes(b"not an image")
    complaint = cli("train", copied, *tiny(), "--out", tmp_path / "run").complaint
    assert complaint.startswith("None of 42 images of photographs could be read")
    assert not (tmp_path / "run").exists()


def test_a_few_unreadable_images_are_counted_and_left_out(copied: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    for name in ("00", "01"):
        (copied / "jade" / f"{name}.png").write_bytes(b"not an image")
    answer = cli("train", copied, *tiny(), "--out", tmp_path / "run")
    assert answer.status == 0
    assert "warning: 2 of 42 images could not be read and were skipped: " in answer.err
    assert Run(tmp_path / "run").data()["num_images"] == 40


def test_a_class_with_one_image(copied: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    for file in sorted((copied / "plum").iterdir())[1:]:
        file.unlink()
    answer = cli("train", copied, *tiny(), "--out", tmp_path / "run")
    assert answer.status == 0
    assert "warning: 1 of 3 classes have only one independent image" in answer.err
    assert "plum" in answer.err


def test_a_class_with_one_image_for_batches_of_several(copied: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    for file in sorted((copied / "plum").iterdir())[1:]:
        file.unlink()
    metric = {"auxiliary__name": "supcon", "train__sampling": "class_batches", "protocol": "refit"}
    answer = cli("train", copied, *tiny(**metric), "--out", tmp_path / "run")
    assert answer.status == 0
    assert "warning: Fewer than train.images_per_class = 4 training images in 1 of 3 classes" in answer.err
    assert "with different augmentation: plum (1)" in answer.err
    (line,) = Run(tmp_path / "run").history()
    assert line["loss"] > 0
    kept = load_file(tmp_path / "run" / "bundle" / "model.safetensors")
    assert not any("auxiliaries" in key for key in kept)


def test_a_class_without_a_training_image(parted: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    shutil.rmtree(parted / "train" / "plum")
    answer = cli("train", parted, *tiny(loss__label_smoothing="0.1"), "--out", tmp_path / "run")
    assert answer.status == 0
    assert "warning: 1 of 3 classes cannot be learnt without training images: plum" in answer.err
    assert Run(tmp_path / "run").history()[-1]["loss"] < 10
    predictor = Predictor.load(tmp_path / "run")
    (said,) = predictor.predict(np.full((64, 64, 3), 90, np.uint8))
    assert {c.label: c.probability for c in said.candidates}["plum"] == 0
    answer = cli("evaluate", tmp_path / "run")
    assert answer.status == 0
    assert read_json(tmp_path / "run/evaluation/test/scores.json", dict[str, Any])["nll"]["value"] < 10


def test_the_same_photograph_in_two_parts_and_under_two_labels(
    parted: Path, tmp_path: Path, cli: Cli, tiny: Tiny
) -> None:
    for name in ("00", "01"):
        shutil.copy(parted / "train" / "jade" / f"{name}.png", parted / "test" / "jade" / f"9{name}.png")
    shutil.copy(parted / "train" / "jade" / "02.png", parted / "train" / "plum" / "902.png")
    answer = cli("train", parted, *tiny(), "--out", tmp_path / "run")
    assert answer.status == 0
    (warning,) = (line for line in answer.err.splitlines() if "Near-duplicates" in line)
    assert warning.startswith("warning: Near-duplicates: 2 photographs in two splits, such as test/jade/")
    assert "; 1 photograph under two labels, such as train/" in warning
    assert ". Scores will be too good. Only whole pictures were compared" in warning
    assert Run(tmp_path / "run").is_finished


def test_two_labels_alone_do_not_flatter_the_scores(parted: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    shutil.copy(parted / "train" / "jade" / "02.png", parted / "train" / "plum" / "902.png")
    err = cli("train", parted, *tiny(), "--out", tmp_path / "run").err
    assert "1 photograph under two labels" in err
    assert "The labels differ: look at both pictures. Only whole pictures were compared; `fieldmark audit`" in err


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("file,label\na.png,jade\n", "'path'"),
        ("path,species\na.png,jade\n", "'label'"),
        ("path,label\njade/00.png,jade\nplum/00.png,plum\njade/99.png,jade\n", "jade/99.png (line 4)"),
        ("path,label,split\njade/00.png,jade,train\nplum/00.png,plum,tset\n", "line 3"),
    ],
)
def test_a_table_with_something_missing(
    copied: Path, tmp_path: Path, cli: Cli, tiny: Tiny, table: str, says: str
) -> None:
    file = copied / "birds.csv"
    file.write_text(table)
    complaint = cli("train", file, *tiny(), "--out", tmp_path / "run").complaint
    assert str(file) in complaint
    assert says in complaint
    assert not (tmp_path / "run").exists()


# Recipe and options ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("train.epoch=3", "--set: there is no key 'train.epoch'. Did you mean 'epochs'?"),
        ("trian.epochs=3", "--set: there is no key 'trian'. Did you mean 'train'?"),
        ("train.epochs=0.5", "--set: train.epochs = 0.5 is not allowed. Input should be 'auto', or a valid integer"),
        ("train.lr=-1", "--set: train.lr = -1 is not allowed. Input should be greater than 0."),
        ("train.epochs", "--set 'train.epochs' is not of the form key=value. For example: --set train.epochs=3"),
        ("loss.label_smooting=0.1", "'cross_entropy' has no option 'label_smooting'. Did you mean 'label_smoothing'?"),
        ("method.name=transfr", "There is no method 'transfr'. Did you mean 'transfer'?"),
        ("train.optimizer=adm", "There is no optimizer 'adm'. Did you mean 'adam'?"),
        ("augment.mix=cutmx", "There is no mix 'cutmx'. Did you mean 'cutmix'?"),
        ("backbone.name=test_resnt", "There is no backbone 'test_resnt' in timm. Did you mean 'test_resnet'?"),
        (
            "method.name=part_selection train.solver=logistic",
            "train.solver = 'logistic' fits a head to fixed features, but 'part_selection' must learn its own. "
            "Set train.solver = 'gradient', or method.name = 'transfer'.",
        ),
        (
            "method.name=progressive_jigsaw train.head_start=logistic",
            "train.head_start = 'logistic' fits a head to fixed features, but 'progressive_jigsaw' must learn its own. "
            "Set train.head_start = 'random', or method.name = 'transfer'.",
        ),
    ],
)
def test_a_misspelt_recipe_is_refused_before_data_is_read(
    tmp_path: Path, cli: Cli, tiny: Tiny, setting: str, complaint: str
) -> None:
    settings = [word for one in setting.split() for word in ("--set", one)]
    (tmp_path / "unread").mkdir()
    (tmp_path / "unread" / "notes.txt").touch()
    answer = cli("train", tmp_path / "unread", *tiny(), *settings, "--out", tmp_path / "run")
    assert complaint in answer.complaint
    assert not (tmp_path / "run").exists()


def test_a_recipe_that_is_not_there(tmp_path: Path, cli: Cli) -> None:
    data, file = tmp_path / "absent", tmp_path / "mine.toml"
    complaint = cli("train", data, "--recipe", "fintune").complaint
    assert complaint == "There is no recipe 'fintune'. Did you mean 'finetune'? `fieldmark recipes` lists them."
    assert cli("train", data, "--recipe", file).complaint.startswith(f"Cannot read the recipe {file}")
    file.write_text("epochs = [")
    assert cli("train", data, "--recipe", file).complaint.startswith(f"{file} is not valid TOML: ")
    file.write_text("[train]\nepoch = 3")
    assert cli("train", data, "--recipe", file).complaint == (
        f"{file}: there is no key 'train.epoch'. Did you mean 'epochs'?"
    )


# Weights --------------------------------------------------------------------------------------------------------------


def test_weights_that_cannot_be_had(
    pictures: Path, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, tiny: Tiny
) -> None:
    create = timm.create_model

    def offline(name: str, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            raise ConnectionError("no network here")
        return create(name, pretrained=pretrained, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    monkeypatch.setattr("fieldmark.model.hub._reached", lambda _: True)

    def command(weights: object) -> tuple[object, ...]:
        return ("train", pictures, *tiny(backbone__weights=str(weights)), "--out", tmp_path / "run")

    answer = cli(*command("hub"))
    assert answer.complaint.startswith(
        "The weights of 'test_resnet' could not be downloaded (ConnectionError). Check the"
    )
    assert "Loading the weights of test_resnet" in answer.err
    absent = tmp_path / "absent.safetensors"
    assert cli(*command(absent)).complaint.startswith(f"The weights file {absent} does not exist. Give a ")
    pickled = tmp_path / "pickled.pth"
    torch.save({}, pickled)
    assert cli(*command(pickled)).complaint.startswith(f"{pickled} is not a safetensors file (")
    other = trained.bundle / "model.safetensors"
    complaint = cli(*command(other), "--set", "backbone.name=test_vit").complaint
    assert complaint.startswith(f"{other} does not hold the weights of 'test_vit': of ")
    assert complaint.endswith("Name the architecture of these weights with --backbone NAME.")
    assert not (tmp_path / "run").exists()
    assert cli(*command(other)).status == 0


@pytest.mark.parametrize("recipe", ["probe", "finetune", "walkthrough"])
def test_weights_that_are_not_numbers(
    pictures: Path, trained: Run, tmp_path: Path, cli: Cli, tiny: Tiny, recipe: str
) -> None:
    """Told of the file, and not of a training that has diverged, before there was one."""
    weights = load_file(trained.bundle / "model.safetensors")
    weights["backbone.model.conv1.0.weight"][0, 0, 0, 0] = float("nan")
    file = tmp_path / "damaged.safetensors"
    save_file(weights, file)
    settings = [*tiny(backbone__weights=str(file))[2:], "--out", tmp_path / "run"]
    complaint = cli("train", pictures, "--recipe", recipe, *settings).complaint
    assert complaint.startswith(f"{file} contains values that are not finite: NaN or infinity in 1 of ")
    assert "such as conv1.0.weight. The file is damaged, or the training that wrote it diverged: " in complaint
    assert not (tmp_path / "run").exists()


def test_a_bundle_whose_weights_are_not_numbers(pictures: Path, trained: Run, cli: Cli) -> None:
    file = trained.bundle / "model.safetensors"
    save_file({key: value / 0 for key, value in load_file(file).items()}, file, {"format": "2"})
    rewrite(trained.bundle)
    for command in (("predict", trained.folder, pictures), ("evaluate", trained.folder)):
        complaint = cli(*command).complaint
        assert re.search(rf"^The weights in {trained.bundle} are not numbers: \d+ of \d+ tensors hold NaN", complaint)
        assert "Copy the bundle again. If its training diverged, " in complaint


# Disk -----------------------------------------------------------------------------------------------------------------


def _fill_disk(monkeypatch: pytest.MonkeyPatch, name: str, *, after: int) -> None:
    """Every write of a file whose path has `name` in it fails, but for the first few."""
    sync, written = os.fsync, []

    def full(handle: int) -> None:
        if name in os.readlink(f"/proc/self/fd/{handle}"):
            written.append(handle)
            if len(written) > after:
                raise OSError(errno.ENOSPC, "No space left on device")
        sync(handle)

    monkeypatch.setattr(os, "fsync", full)


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_full_disk_costs_nothing_that_was_saved(pictures: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    recipe, out = tiny(train__epochs="3", train__batch_size="8"), tmp_path / "run"
    with pytest.MonkeyPatch.context() as patch:
        _fill_disk(patch, "/checkpoints/", after=1)
        complaint = cli("train", pictures, *recipe, "--out", out).complaint
    assert complaint.startswith(f"Cannot write {out}/checkpoints/model.safetensors: the disk is full. Free some space")
    assert complaint.endswith("what was saved before is intact.")
    assert [file for file in _files(out) if file.endswith(".part")] == []
    (epoch,) = Run(out).history()
    answer = cli("train", pictures, "--out", out, "--resume")
    assert answer.status == 0
    assert f"Resuming after step {epoch['step']} of {3 * epoch['step']}" in answer.err
    cli("train", pictures, *recipe, "--out", tmp_path / "undisturbed")
    a, b = (load_file(folder / "bundle" / "model.safetensors") for folder in (out, tmp_path / "undisturbed"))
    assert all(torch.equal(a[key], b[key]) for key in a | b)


def test_a_full_disk_at_the_start_leaves_nothing_in_the_way(
    pictures: Path, tmp_path: Path, cli: Cli, tiny: Tiny
) -> None:
    command = ("train", pictures, *tiny(), "--out", tmp_path / "run")
    for name in ("recipe.toml", "environment.json", "data.json", "splits.csv", "/checkpoints/"):
        with pytest.MonkeyPatch.context() as patch:
            _fill_disk(patch, name, after=0)
            assert "the disk is full" in cli(*command).complaint
    assert cli(*command).status == 0


def test_a_full_disk_keeps_the_earlier_scores(
    trained: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cli: Cli
) -> None:
    assert cli("evaluate", trained.folder).status == 0
    before = _files(trained.folder)
    _fill_disk(monkeypatch, "/evaluation/", after=0)
    complaint = cli("evaluate", trained.folder).complaint
    assert complaint.startswith(f"Cannot write {trained.folder}/evaluation/test/scores.json: the disk is full.")
    assert {**_files(trained.folder), "times.json": before["times.json"]} == before  # the time is spent all the same


def test_a_folder_that_may_not_be_written(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, tiny: Tiny
) -> None:
    out = tmp_path / "locked" / "run"
    file = tmp_path / "file"
    file.write_text("")
    assert cli("train", pictures, *tiny(), "--out", file / "run").complaint == (
        f"Cannot write {file}/run: there is a file where a folder is needed. Choose another folder."
    )
    make = Path.mkdir

    def denied(path: Path, *args: Any, **options: Any) -> None:  # the tests may run as root, whom chmod does not stop
        if path.is_relative_to(out):
            raise PermissionError(errno.EACCES, "Permission denied")
        make(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", denied)
    assert cli("train", pictures, *tiny(), "--out", out).complaint == (
        f"Cannot write {out}: permission denied. Choose a folder that you may write to."
    )


def test_a_cache_that_cannot_be_written_only_slows(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, tiny: Tiny
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "file" / "cache"))
    answer = cli("train", pictures, *tiny(), "--out", tmp_path / "run")
    assert answer.status == 0
    assert "Pixels are not cached, so every image is decoded each time: " in answer.err
    answer = cli("evaluate", tmp_path / "run")
    assert answer.status == 0
    assert "warning: This look at the test split cannot be counted in " in answer.err
    assert json.loads((tmp_path / "run/evaluation/test/scores.json").read_text())["looks"] is None


# Runs -----------------------------------------------------------------------------------------------------------------


def test_a_folder_that_is_taken(pictures: Path, trained: Run, cli: Cli, tiny: Tiny) -> None:
    before = _files(trained.folder)
    assert cli("train", pictures, *tiny(), "--out", trained.folder).complaint == (
        f"{trained.folder} is not empty. Add --resume to continue the run in it, or choose another --out."
    )
    assert _files(trained.folder) == before


def test_a_run_of_another_version(pictures: Path, trained: Run, cli: Cli) -> None:
    for file, reads, command in (
        (trained.folder / "environment.json", 1, ("train", pictures, "--out", trained.folder, "--resume")),
        (trained.bundle / "model.json", 2, ("evaluate", trained.folder)),
        (trained.bundle / "model.json", 2, ("predict", trained.folder, pictures)),
    ):
        file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 99}))
        (file.parent / "index.json").unlink(missing_ok=True)
        before = _files(trained.folder)
        complaint = cli(*command).complaint
        assert "is a run of format 99, but " in complaint or "has the format 99, but " in complaint
        assert str(trained.folder) in complaint
        advice = f"this version of Fieldmark reads {reads}. Use the version that wrote it, or train again."
        assert complaint.endswith(advice)
        assert _files(trained.folder) == before


def test_what_is_no_run(pictures: Path, trained: Run, tmp_path: Path, cli: Cli) -> None:
    for command in (("evaluate", tmp_path / "absent"), ("predict", tmp_path / "absent", pictures)):
        assert cli(*command).complaint.startswith(f"{tmp_path}/absent is neither a finished run nor a bundle")
    shutil.rmtree(trained.bundle)
    complaint = cli("predict", trained.folder, pictures).complaint
    assert complaint.startswith(f"{trained.folder} is neither a finished run nor a bundle: it has no model.json.")
    assert "--resume" in complaint


@pytest.mark.parametrize(
    "changes",
    [
        {"train__epochs": "2", "train__batch_size": "8"},
        {"train__epochs": "1"},
        {"train__epochs": "1", "protocol": "refit"},
        {"train__epochs": "1", "protocol": "crossfit", "folds": "2"},
    ],
    ids=["in a loss", "in the last validation", "without validation", "in a fold"],
)
def test_losses_that_are_not_numbers(
    pictures: Path, tmp_path: Path, cli: Cli, tiny: Tiny, changes: dict[str, str]
) -> None:
    out = tmp_path / "run"
    answer = cli("train", pictures, *tiny(**changes, train__lr="1e30", train__head_lr="1e30"), "--out", out)
    assert "The loss became nan at step " in answer.complaint or "outputs contain NaN" in answer.complaint
    assert "lower train.lr and train.head_lr" in answer.complaint.replace("Lower", "lower")
    assert not Run(out).is_finished
    assert list(out.glob("evaluation/*/scores.json")) == []


def test_attention_that_is_no_number(pictures: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    """Crops are drawn by it before the loss is there to tell."""
    changes = {"method__name": "bilinear_attention", "train__epochs": "3", "train__batch_size": "8"}
    answer = cli(
        "train", pictures, *tiny(**changes, train__lr="1e30", train__head_lr="1e30"), "--out", tmp_path / "run"
    )
    assert re.match(r"The loss became (nan|inf) at step \d", answer.complaint)
