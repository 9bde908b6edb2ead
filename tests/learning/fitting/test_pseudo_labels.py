"""Photographs without labels teach, and are kept out of all that judges."""

from __future__ import annotations

import shutil
from html import unescape
from pathlib import Path
from typing import Any

import pytest

from fieldmark.commands.report import report
from fieldmark.commands.train import train
from fieldmark.core.errors import RecipeError, RunError
from fieldmark.data.decisions import Decision, Decisions
from fieldmark.evaluation.unlabelled import PseudoLabelled
from fieldmark.learning.fitting import pseudo_labels
from fieldmark.learning.training.propagation import Propagated, Tried, propagate
from fieldmark.runs.run import Run
from support.commands import Cli
from support.hearing import Heard
from support.weights import identical, weights

SMALL = {"backbone": "test_resnet", "weights": "fieldguide"}
SETTINGS = ["images.size=32", "backbone.mean=[0.5, 0.5, 0.5]", "train.epochs=1"]


@pytest.fixture
def data(pictures: Path, tmp_path: Path) -> Path:
    """Of each class four pictures to learn from, two for validation and two for testing."""
    for file in sorted(pictures.rglob("*.png")):
        split = ["train"] * 4 + ["val"] * 2 + ["test"] * 2 + [""] * 6
        if part := split[int(file.stem)]:
            (tmp_path / "data" / part / file.parent.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, tmp_path / "data" / part / file.parent.name)
    return tmp_path / "data"


@pytest.fixture
def pool(pictures: Path, tmp_path: Path) -> Path:
    """The other six of each class, without labels, and a copy of one picture of each split."""
    folder = tmp_path / "pool"
    folder.mkdir()
    for file in pictures.rglob("*.png"):
        if int(file.stem) >= 8 or (file.parent.name == "jade" and int(file.stem) in (0, 4, 6)):
            shutil.copy(file, folder / f"{file.parent.name}-{file.name}")
    return folder


@pytest.fixture
def helps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every trial says that they help."""
    monkeypatch.setattr(pseudo_labels, "tried", lambda *_, **__: Tried(12, 5, 6))


def learnt(data: Path, out: Path, *overrides: str, recipe: str = "pseudo_labels", **more: Any) -> tuple[Run, Heard]:
    heard = Heard()
    run = train(data, recipe, out=out, overrides=[*SETTINGS, *overrides], listener=heard, **SMALL, **more)
    return run, heard


@pytest.mark.usefixtures("helps")
def test_they_teach_and_do_not_judge(data: Path, pool: Path, tmp_path: Path) -> None:
    run, heard = learnt(data, tmp_path / "run", unlabelled=pool)
    assert "18 photographs without a label; 3 more left out as copies" in heard.notes
    said = PseudoLabelled(**run.decided("pseudo_labels"))
    assert (said.photographs, said.tried) == (18, 12)
    assert 9 <= said.used <= 18
    assert said.sentence() in heard.notes
    assert f"{said.sentence()}." in unescape(report(run.folder).read_text())
    alone, _ = learnt(data, tmp_path / "alone", recipe="probe")
    assert not identical(weights(run), weights(alone))
    assert run.images() == alone.images()
    held = [one.bundle / "held.safetensors" for one in (run, alone)]
    assert held[0].stat().st_size == held[1].stat().st_size, "what a bundle keeps is of images with labels"
    assert run.evaluation("val").joinpath("scores.json").is_file()


@pytest.mark.parametrize("taught", [4, 5])
def test_what_does_not_help_changes_nothing(
    taught: int, data: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pseudo_labels, "tried", lambda *_, **__: Tried(12, 5, taught))
    run, heard = learnt(data, tmp_path / "run", unlabelled=[pool])
    alone, _ = learnt(data, tmp_path / "alone", recipe="probe")
    assert identical(weights(run), weights(alone))
    assert heard.notes.count(
        "Learnt from none of 18 photographs without a label: in a trial on 12 labelled images, "
        f"{taught} were right with their help and 5 without"
    )


@pytest.mark.usefixtures("helps")
def test_labels_come_from_the_fold(data: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[int, int]] = []

    def counted(known: Any, labels: Any, unknown: Any, num_classes: int) -> Propagated:
        calls.append((len(known), len(unknown)))
        return propagate(known, labels, unknown, num_classes)

    monkeypatch.setattr(pseudo_labels, "propagate", counted)
    run, _ = learnt(data, tmp_path / "run", "protocol=crossfit", "folds=3", unlabelled=pool)
    assert calls == [(12, 18)] * 3 + [(18, 18)]
    assert len(run.evaluation("crossfit").joinpath("predictions.csv").read_text().splitlines()) == 1 + 18


def test_a_network_learns_from_them_and_can_be_resumed(
    data: Path, pool: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ["train.pseudo_weight=0.5", "train.solver=gradient", "train.batch_size=8"]
    whole, heard = learnt(data, tmp_path / "whole", *settings, recipe="finetune", unlabelled=pool)
    assert any("whether that helps was not tried" in text for text in heard.notes)
    with monkeypatch.context() as patch:
        patch.setattr("fieldmark.commands.train.fit_calibration", lambda *_: 1 / 0)  # stopped after all is learnt
        with pytest.raises(ZeroDivisionError):
            learnt(data, tmp_path / "run", *settings, recipe="finetune", unlabelled=pool)
    with pytest.raises(RunError, match="began with other photographs without labels"):
        train(data, out=tmp_path / "run", unlabelled=data, resume=True)
    gone = (pool / "jade-09.png").rename(tmp_path / "jade-09.png")
    with pytest.raises(RunError, match="not those that this run began with: 18 then, 17 now"):
        train(data, out=tmp_path / "run", resume=True)
    gone.rename(pool / gone.name)
    resumed = train(data, out=tmp_path / "run", unlabelled=pool, resume=True)
    assert identical(weights(resumed), weights(whole))
    alone, _ = learnt(data, tmp_path / "alone", *settings[1:], recipe="finetune")
    assert not identical(weights(alone), weights(whole))


@pytest.mark.usefixtures("helps")
def test_a_run_keeps_its_own_and_leaves_out_what_was_decided(data: Path, pool: Path, tmp_path: Path) -> None:
    run, _ = learnt(data, tmp_path / "run", unlabelled=pool)
    made = Decisions(
        (Decision(str(pool / "jade-09.png"), "drop"), Decision(str(pool / "plum-09.png"), "label", "plum"))
    )
    second = train(run.folder, out=tmp_path / "second", decisions=made, listener=(heard := Heard()))
    assert "16 photographs without a label; 3 more left out as copies" in heard.notes
    assert second.decided("pseudo_labels")["photographs"] == 16


def test_who_learns_from_them_must_name_them(data: Path, pool: Path, tmp_path: Path, cli: Cli) -> None:
    with pytest.raises(RecipeError, match="and none were named"):
        train(data, "pseudo_labels", out=tmp_path / "run")
    complaint = cli("train", data, "--unlabelled", pool, "--recipe", "probe", "--out", tmp_path / "run").complaint
    assert "the recipe learns from labels alone" in complaint
    with pytest.raises(RecipeError, match="'supcon' compares images by their labels"):
        train(data, "supcon", out=tmp_path / "run", overrides=["train.pseudo_weight=0.3"], unlabelled=pool)
    assert not (tmp_path / "run").exists()


def test_in_words() -> None:
    assert PseudoLabelled(1, 0, 0.0).sentence() == (
        "Learnt from none of 1 photograph without a label: none of them is like one that has a label"
    )
    assert PseudoLabelled(3, 2, 0.5, 9, 4, 5).sentence() == (
        "Learnt from 2 of 3 photographs without a label too, by what they are likely to show (mean certainty 0.50); "
        "in a trial on 9 labelled images, 5 were right with their help and 4 without"
    )
