"""With few images, a trial finds out whether the network or a probe learns from them."""

from __future__ import annotations

from collections.abc import Callable
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fieldmark.commands.report import report
from fieldmark.commands.train import train
from fieldmark.comparison.contestants import Contestant
from fieldmark.core.storage import read_rows
from fieldmark.evaluation.beside_probe import Trial
from fieldmark.learning.fitting import trial
from fieldmark.runs.run import Run
from support.hearing import Heard
from support.weights import identical, weights

SMALL = {"backbone": "test_resnet", "weights": "fieldguide"}
SETTINGS = ["images.size=32", "backbone.mean=[0.5, 0.5, 0.5]", "train.epochs=1"]


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve pictures of a class are few."""
    monkeypatch.setattr(trial, "_FEW", 12)


def trained(pictures: Path, out: Path, *overrides: str, recipe: str = "finetune") -> tuple[Run, list[str]]:
    heard = Heard()
    run = train(pictures, recipe, out=out, overrides=[*SETTINGS, *overrides], listener=heard, **SMALL)
    return run, [text for text in heard.notes if " trial " in text and "epoch" not in text]


def found_by(network: float) -> Callable[[NDArray[np.bool_], NDArray[np.bool_]], Trial]:
    """A trial in which the network has this share right."""
    return lambda probe, _: Trial(len(probe), float(probe.mean()), network)


@pytest.mark.parametrize(
    ("probe", "network", "solver"),
    [
        ([1, 1, 0, 0] * 25, [1, 1, 1, 0] * 25, "gradient"),
        ([1, 1, 0, 0] * 25, [1, 1, 0, 0] * 25, "logistic"),  # the very same images: a probe will do
        ([1, 0] * 50, [0, 1] * 50, "gradient"),
        ([1] * 36 + [0] * 64, [0] * 10 + [1] * 35 + [0] * 55, "gradient"),  # one image of a hundred is chance
        ([1] * 54 + [0] * 46, [1] * 40 + [0] * 60, "logistic"),
    ],
)
def test_a_probe_must_be_clearly_ahead(probe: list[int], network: list[int], solver: str) -> None:
    found = Trial.of(np.array(probe, bool), np.array(network, bool))
    assert found.solver == solver
    before = stats.ttest_rel(network, probe)
    if found.error > 0:
        assert (found.network - found.probe) / found.error == pytest.approx(before.statistic)
    close = "too close to tell" in found.sentence()
    assert close == (solver == "gradient" and found.network <= found.probe)


def test_a_trial_of_a_run_from_before_is_told_as_it_was_decided() -> None:
    assert Trial(images=100, probe=0.36, network=0.35).sentence().endswith("a probe learns from all of them")
    assert Trial(images=100, probe=0.36, network=0.36).solver == "logistic"


@pytest.mark.parametrize("protocol", ["holdout", "crossfit"])
@pytest.mark.parametrize(
    ("network", "as_said"), [(1.0, ["train.solver=gradient"]), (-1.0, ["train.solver=logistic", "head.unit=true"])]
)
def test_the_better_one_learns_from_all_images(
    network: float, as_said: list[str], protocol: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    common = [f"protocol={protocol}", "folds=2"]
    with monkeypatch.context() as patch:
        patch.setattr(Trial, "of", found_by(network))
        run, said = trained(pictures, tmp_path / "run", *common)
    other, nothing = trained(pictures, tmp_path / "other", *common, *as_said)
    assert identical(weights(run), weights(other))
    assert nothing == []
    assert other.decided("trial") is None
    assert (run.solver, other.solver) == (as_said[0].partition("=")[2],) * 2
    found = Trial(**run.decided("trial"))
    announced, told = said
    assert announced.endswith(f"and answer the other {found.images}")
    assert told == found.sentence()
    page = unescape(report(run.folder).read_text())
    assert f"{told}." in page
    assert ("There are no epochs" in page) == (network < 0)


def test_a_comparison_counts_the_epochs_of_a_trial(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trial, "of", found_by(1.0))
    run, _ = trained(pictures, tmp_path / "run", "train.epochs=3")
    learnt = [row for row in read_rows(run.folder / "splits.csv", ["split"]) if row["split"] == "train"]
    contestant = Contestant("finetune", "finetune", run.recipe())
    assert contestant.num_lines(len(learnt), len(list(pictures.iterdir()))) == len(run.history()) == 6


def test_a_trial_is_held_once(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("fieldmark.commands.train.fit_calibration", lambda *_: 1 / 0)  # stopped after all is learnt
        with pytest.raises(ZeroDivisionError):
            trained(pictures, tmp_path / "run")
    begun = Run.open(tmp_path / "run")
    assert begun.decided("trial") is not None
    run = train(pictures, out=begun.folder, resume=True, listener=(heard := Heard()))
    assert run.is_finished
    assert [text for text in heard.notes if " trial " in text] == []
    whole, _ = trained(pictures, tmp_path / "whole")
    assert identical(weights(run), weights(whole))


@pytest.mark.parametrize(
    "overrides",
    [
        ["augment.mix=mixup"],
        ["head.name=cosine"],
        ["train.members=2"],
        ["train.sampling=class_batches", "train.images_per_class=2", "auxiliary.name=supcon"],
        ["backbone.weights=none"],
        ["backbone.name=test_resnet+test_resnet", "backbone.weights=none+none"],
    ],
)
def test_there_is_none_where_a_probe_is_no_choice(overrides: list[str], pictures: Path, tmp_path: Path) -> None:
    run, said = trained(pictures, tmp_path / "run", *overrides)
    assert (run.solver, said) == ("gradient", [])


def test_a_probe_is_tried_beside_any_loss(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Trial, "of", found_by(-1.0))
    run, said = trained(pictures, tmp_path / "run", "loss.name=proxy_anchor")
    assert (run.solver, len(said)) == ("logistic", 2)
    other, _ = trained(pictures, tmp_path / "other", "train.solver=logistic", "head.unit=true")
    assert identical(weights(run), weights(other))


def test_there_is_none_with_enough_images(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_FEW", 2)
    run, said = trained(pictures, tmp_path / "run")
    assert (run.solver, said) == ("gradient", [])


def test_with_too_few_to_judge_by_the_probe_is_trained(pictures: Path, tmp_path: Path) -> None:
    few = tmp_path / "few"
    for folder in sorted(one for one in pictures.iterdir() if one.is_dir()):
        (few / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:8]:
            (few / folder.name / file.name).symlink_to(file)
    run, said = trained(few, tmp_path / "run")
    assert run.solver == "logistic"
    assert run.decided("trial") is None
    (told,) = said
    assert "to judge by (set train.solver=gradient to train the network)" in told
    assert trained(few, tmp_path / "other", "train.solver=gradient")[0].solver == "gradient"


def test_of_equals_the_probe_is_chosen_which_takes_less_time() -> None:
    assert Trial(10, 0.8, 0.8).solver == "logistic"
    assert Trial(10, 0.8, 0.9).solver == "gradient"
    assert Trial(1, 0.0, 1.0).sentence() == (
        "In a trial on 1 held-out training image, a probe was right for 0.0 %, the network for 100.0 %: the network "
        "learns from all of them"
    )


@pytest.mark.parametrize("recipe", ["finetune", "probe"])
def test_two_classes_of_which_one_is_a_single_picture(recipe: str, pictures: Path, tmp_path: Path) -> None:
    """A fold learns from the other class alone: there is no trial, and a cross-fit goes on."""
    few = tmp_path / "few"
    first, second = sorted(one for one in pictures.iterdir() if one.is_dir())[:2]
    for folder, number in ((first, 7), (second, 1)):
        (few / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:number]:
            (few / folder.name / file.name).write_bytes(file.read_bytes())
    protocol = "crossfit" if recipe == "probe" else "holdout"
    run, said = trained(few, tmp_path / "run", f"protocol={protocol}", recipe=recipe)
    assert run.is_finished
    assert not any("a trial first" in text for text in said)
