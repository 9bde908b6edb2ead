"""`fieldmark compare`: what it trains, keeps, refuses and says. Trainings run in this process, but for one test."""

from __future__ import annotations

import contextlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import fieldmark
from fieldmark.cli import main
from fieldmark.commands.compare import compare
from fieldmark.comparison import Result, conduct
from fieldmark.comparison.result import data_digest
from fieldmark.core.errors import DataError, DataWarning, FieldmarkError, RecipeError, RunError, StorageError
from fieldmark.core.listener import Event, Listener, Note, StepTaken, Warned
from fieldmark.core.reading import read_json
from fieldmark.runs.run import Run

Cli = Callable[..., Any]
TINY = {"backbone": "test_resnet", "weights": "none", "overrides": ["images.size=32", "train.epochs=1"]}


@pytest.fixture
def recipes(tmp_path: Path) -> list[str]:
    """Two recipes of a moment, as files: `plain` with an epoch, `linear` with none."""
    texts = {"plain": 'base = "walkthrough"', "linear": 'base = "probe"'}
    for name, text in texts.items():
        (tmp_path / f"{name}.toml").write_text(text)
    return [str(tmp_path / f"{name}.toml") for name in texts]


@pytest.fixture
def trained_here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Trainings take place in this process; their names."""
    begun: list[str] = []

    def in_this_process(command: Sequence[str], *, log: Path, **_: Any) -> int:
        begun.append(log.stem)
        monkeypatch.setattr(sys, "argv", ["fieldmark", *command])
        with log.open("w") as said, contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            try:
                main()
            except SystemExit as ended:
                return int(ended.code or 0)

    monkeypatch.setattr(conduct, "run_child", in_this_process)
    return begun


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}


# What it does ---------------------------------------------------------------------------------------------------------


def test_a_comparison_and_how_it_goes_on(
    pictures: Path, recipes: list[str], trained_here: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    board = compare(pictures, recipes, out=out, seeds=2, **TINY)
    assert trained_here == ["plain-0", "linear-0", "plain-1", "linear-1"]  # all recipes at seed 0 come first
    assert board.baseline == "plain"  # there is no finetune
    assert (board.missing, board.failures, board.num_images) == ([], {}, 6)
    assert {path.name for path in (out / "results").iterdir()} == {f"{name}.json" for name in trained_here}
    assert read_json(out / "leaderboard.json", dict[str, Any]) == {**board.as_dict(), "notices": list(board.notices)}
    assert (out / "leaderboard.csv").read_text().count("\n") == 3
    # each is an ordinary run, and its figures are those of the run
    run = Run(out / "runs" / "linear-1")
    assert run.recipe().seed == 1
    assert not (run.folder / "evaluation" / "test").exists()
    top1 = read_json(run.evaluation("val") / "scores.json", dict[str, Any])
    kept = Result.load(out / "results" / "linear-1.json")
    assert kept.accuracy == pytest.approx(top1["top1"]["value"])
    assert kept.nll.mean() == pytest.approx(top1["nll"]["value"], abs=2e-3)
    assert kept.num_parameters > 10_000
    assert kept.memory["process"] > 50e6
    # the same images for all seeds, though seeds cut the data otherwise
    digests = [Run(out / "runs" / name).data()["digests"] for name in trained_here]
    assert all(one == digests[0] for one in digests)

    # six images cannot show that a recipe does better than naming one of three classes, unless all are right
    assert any("Not clearly better than always naming the most common class (33.3 %): " in n for n in board.notices)

    # of a training that was killed and went on, the log knows what the steps took
    run = Run(out / "runs" / "plain-0")
    (run.folder / "times.json").unlink()
    log = run.folder / "log.jsonl"
    log.write_text(re.sub(r'"seconds": ?[0-9.]+', '"seconds": 7.5', log.read_text()))
    (out / "results" / "plain-0.json").unlink()
    compare(pictures, recipes, out=out, seeds=2, **TINY)
    assert len(trained_here) == 4
    assert Result.load(out / "results" / "plain-0.json").seconds == 7.5

    before, board = files(out), compare(pictures, recipes, out=out, seeds=2, **TINY)
    shutil.rmtree(out / "runs")  # results are enough
    again = compare(pictures, recipes, out=out, seeds=2, **TINY)
    assert len(trained_here) == 4
    assert files(out) == before
    assert again.as_dict() == board.as_dict()
    assert repr(again) == repr(board)

    (out / "results" / "plain-1.json").unlink()
    compare(pictures, recipes, out=out, seeds=2, baseline="linear", **TINY)
    assert trained_here[4:] == ["plain-1"]


def test_results_are_worth_the_same_elsewhere(
    pictures: Path, recipes: list[str], trained_here: list[str], tmp_path: Path
) -> None:
    compare(pictures, recipes[1:], out=tmp_path / "here", seeds=1, **TINY)
    shutil.copytree(pictures, tmp_path / "moved" / "pictures")
    shutil.copytree(tmp_path / "here" / "results", tmp_path / "there" / "results")
    board = compare(tmp_path / "moved" / "pictures", recipes[1:], out=tmp_path / "there", seeds=1, **TINY)
    assert trained_here == ["linear-0"]
    assert board["linear"].seeds == (0,)


def test_a_catalogue_is_compared_on_too(
    parted: Path, recipes: list[str], trained_here: list[str], tmp_path: Path
) -> None:
    catalog = fieldmark.read(parted)
    board = fieldmark.compare(catalog, recipes[1:], out=tmp_path / "out", seeds=1, split="test", **TINY)
    assert (board.split, board.num_images) == ("test", 12)
    assert fieldmark.read(tmp_path / "out" / "data" / "parted.csv").digest("test") != ""


@pytest.mark.parametrize(("protocol", "scored", "number"), [("crossfit", "crossfit", 30), ("refit", "test", 12)])
def test_other_protocols(
    parted: Path, recipes: list[str], trained_here: list[str], tmp_path: Path, protocol: str, scored: str, number: int
) -> None:
    tiny = {**TINY, "overrides": ["images.size=32", f"protocol={protocol}", "folds=2"]}
    split: Any = "test" if scored == "test" else "val"
    board = compare(parted, recipes[1:], out=tmp_path / "out", seeds=1, split=split, **tiny)
    assert (board.split, board.num_images) == (scored, number)
    # the data came with all parts, so trainings read it as it is
    assert Run(tmp_path / "out" / "runs" / "linear-0").data()["source"] == str(parted)


def test_the_test_part_is_looked_at_once(
    pictures: Path, recipes: list[str], trained_here: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    compare(pictures, recipes[1:], out=out, seeds=1, **TINY)
    board = compare(pictures, recipes[1:], out=out, seeds=1, split="test", **TINY)
    assert trained_here == ["linear-0"]
    looks = Result.load(out / "results" / "linear-0-test.json").looks
    assert looks is not None
    assert f"The test split has been scored {looks} time" in "\n".join(board.notices)
    (out / "results" / "linear-0-test.json").unlink()
    compare(pictures, recipes[1:], out=out, seeds=1, split="test", **TINY)
    assert Result.load(out / "results" / "linear-0-test.json").looks == looks
    assert {"index.html", "index-test.html", "leaderboard-test.csv", "leaderboard-test.json"} <= set(files(out))


def test_the_command(pictures: Path, recipes: list[str], trained_here: list[str], tmp_path: Path, cli: Cli) -> None:
    options = ["--backbone=test_resnet", "--weights=none", "--set=images.size=32", "--set=train.epochs=1", "--seeds=1"]
    arguments = ["compare", pictures, "--recipes", ",".join(recipes), *options, "--out", tmp_path / "out"]
    answer = cli(*arguments, columns=120)
    assert answer.status == 0
    assert "plain-0: " in answer.err
    assert "% correct (1 to go)" in answer.err
    for text in (
        "Validation split, 6 images, 1 seed",
        "difference from plain",
        "linear",
        "By chance, without any difference, 1 in 20 intervals excludes it.",
        "index.html",
    ):
        assert text in answer.out
    assert "linear 20" not in answer.out  # a probe has no epochs to differ in


def test_children(pictures: Path, recipes: list[str], tmp_path: Path) -> None:
    """As it is: a process for each training."""
    board = compare(pictures, recipes[1:], out=tmp_path / "out", seeds=1, **TINY)
    assert board["linear"].seeds == (0,)
    assert "Calibrated on 6 validation images (" in (tmp_path / "out" / "runs" / "linear-0.txt").read_text()


# What goes wrong ------------------------------------------------------------------------------------------------------


class StopsAfter(Listener):
    """Asks to stop once it has heard of so many runs."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.heard: list[str] = []

    def hear(self, event: Event) -> None:
        if isinstance(event, Note | Warned):
            self.left -= "% correct" in event.text
            self.heard.append(event.text)

    @contextmanager
    def stoppable(self) -> Iterator[Callable[[], bool]]:
        yield lambda: self.left <= 0


def test_a_request_to_stop_is_heard_between_runs(
    pictures: Path, recipes: list[str], trained_here: list[str], tmp_path: Path
) -> None:
    board = compare(pictures, recipes[1:], out=tmp_path / "out", seeds=3, listener=StopsAfter(1), **TINY)
    assert board.missing == ["linear-1", "linear-2"]
    assert read_json(tmp_path / "out" / "leaderboard.json", dict[str, Any])["missing"] == board.missing
    board = compare(pictures, recipes[1:], out=tmp_path / "out", seeds=2, **TINY)
    assert board.missing == []
    assert trained_here == ["linear-0", "linear-1"]


def test_one_run_that_fails_does_not_end_the_others(
    pictures: Path, recipes: list[str], trained_here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    cli: Cli,
) -> None:  # fmt: skip
    train = conduct.run_child

    def breaks(command: Sequence[str], *, log: Path, **rest: Any) -> int:
        if log.stem == "plain-0":
            log.write_text("Read it\nfieldmark: The loss is not a number. Lower train.lr.\n")
            return 2
        return train(command, log=log, **rest)

    monkeypatch.setattr(conduct, "run_child", breaks)
    options = ["--backbone=test_resnet", "--weights=none", "--set=images.size=32", "--set=train.epochs=1", "--seeds=1"]
    answer = cli("compare", pictures, "--recipes", ",".join(recipes), *options, "--out", tmp_path / "out")
    assert answer.status == 1
    assert "plain-0 failed: The loss is not a number. Lower train.lr." in answer.err
    board = read_json(tmp_path / "out" / "leaderboard.json", dict[str, Any])
    assert board["failures"] == {"plain-0": "The loss is not a number. Lower train.lr."}
    assert [one["recipe"] for one in board["standings"]] == ["linear", "plain"]


def test_what_is_kept_of_something_else_is_refused(
    pictures: Path, recipes: list[str], trained_here: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    compare(pictures, recipes[1:], out=out, seeds=1, **TINY)
    wider: Any = {**TINY, "overrides": ["images.size=48"]}
    with pytest.raises(RunError, match=r"linear-0\.json holds a different run: images\.size was 32, not 48"):
        compare(pictures, recipes[1:], out=out, seeds=1, **wider)
    with pytest.raises(RunError, match=r"weights was 'none', not 'fieldguide'"):
        compare(pictures, recipes[1:], out=out, seeds=1, **{**TINY, "weights": "fieldguide"})
    (out / "results" / "linear-0.json").unlink()
    with pytest.raises(RunError, match=r"linear-0 holds a different run: images\.size was 32, not 48.*another --out"):
        compare(pictures, recipes[1:], out=out, seeds=1, **wider)
    shutil.copytree(pictures, tmp_path / "pictures")
    (tmp_path / "pictures" / "jade" / "00.png").unlink()
    with pytest.raises(DataError, match="is a comparison on other data"):
        compare(tmp_path / "pictures", recipes[1:], out=out, seeds=1, **TINY)
    shutil.rmtree(out / "data")
    with pytest.raises(RunError, match="it was started with other images"):
        compare(tmp_path / "pictures", recipes[1:], out=out, seeds=1, **TINY)
    assert trained_here == ["linear-0"]


def test_results_of_other_pictures_are_refused(
    pictures: Path, recipes: list[str], trained_here: list[str], tmp_path: Path
) -> None:
    shutil.copytree(pictures, tmp_path / "pictures")
    compare(tmp_path / "pictures", recipes[1:], out=tmp_path / "out", seeds=1, **TINY)
    one, other, aside = tmp_path / "pictures/jade/00.png", tmp_path / "pictures/plum/00.png", tmp_path / "aside"
    one.rename(aside), other.rename(one), aside.rename(other)
    with pytest.raises(RunError, match="it was trained or scored on other images"):
        compare(tmp_path / "pictures", recipes[1:], out=tmp_path / "out", seeds=1, **TINY)
    assert trained_here == ["linear-0"]


def test_results_of_a_version_that_did_not_look_into_pictures(
    pictures: Path, recipes: list[str], trained_here: list[str], tmp_path: Path
) -> None:
    compare(pictures, recipes[1:], out=tmp_path / "out", seeds=1, **TINY)
    file = tmp_path / "out" / "results" / "linear-0.json"
    result = Result.load(file)
    replace(result, data=data_digest(fieldmark.read(next((tmp_path / "out" / "data").glob("*.csv"))))).save(file)
    with pytest.raises(RunError, match="kept by a version that did not look into the pictures"):
        compare(pictures, recipes[1:], out=tmp_path / "out", seeds=1, **TINY)
    replace(result, data="0" * 16).save(file)
    with pytest.raises(RunError, match="it was trained or scored on other images"):
        compare(pictures, recipes[1:], out=tmp_path / "out", seeds=1, **TINY)
    predictions = Run(tmp_path / "out" / "runs" / "linear-0").evaluation("val") / "predictions.csv"
    for text, problem in (("path\n", "it has no column 'correct'"), (None, "No such file")):
        file.unlink(missing_ok=True)
        predictions.write_text(text) if text else predictions.unlink()
        with pytest.warns(DataWarning, match=f"linear-0 failed: {predictions} cannot be read: {problem}"):
            compare(pictures, recipes[1:], out=tmp_path / "out", seeds=1, **TINY)


def test_a_page_of_ones_own_is_not_replaced(pictures: Path, recipes: list[str], tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    for act in (
        lambda out: compare(pictures, recipes, out=out, **TINY),
        lambda out: fieldmark.audit(pictures, out=out),
    ):
        with pytest.raises(
            StorageError, match=r"is not empty, and Fieldmark did not make it for an? \w+: it holds index"
        ):
            act(tmp_path / "mine")
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["mine"]


def test_a_result_from_before_an_option_was_there_has_its_default(
    pictures: Path, recipes: list[str], trained_here: list[str], tmp_path: Path
) -> None:
    compare(pictures, recipes[1:], out=tmp_path / "out", seeds=1, **TINY)
    file = tmp_path / "out" / "results" / "linear-0.json"
    text = file.read_text()
    assert text.count('"min_scale": 0.35,') == 1
    file.write_text(text.replace('"min_scale": 0.35,', ""))
    compare(pictures, recipes[1:], out=tmp_path / "out", seeds=1, **TINY)
    erased: Any = {**TINY, "overrides": [*TINY["overrides"], "augment.min_scale=0.5"]}
    with pytest.raises(RunError, match=r"augment\.min_scale was 0\.35, not 0\.5"):
        compare(pictures, recipes[1:], out=tmp_path / "out", seeds=1, **erased)
    file.write_text(text.replace('"min_scale": 0.35,', '"min_scales": 0.35,'))
    with pytest.raises(RunError, match=r"was written by another version .*'augment\.min_scales'"):
        compare(pictures, recipes[1:], out=tmp_path / "out", seeds=1, **TINY)


@pytest.mark.parametrize(
    ("recipes", "changes", "complaint"),
    [
        ([], {}, "No recipes to compare were given"),
        (["finetune", "prob"], {}, "There is no recipe 'prob'. Did you mean 'probe'?"),
        (["probe", "probe"], {}, "Two recipes are called 'probe'"),
        (["probe"], {"baseline": "finetune"}, "The baseline 'finetune' is not among the recipes. Known: probe."),
        (
            ["probe"],
            {"overrides": ["seed=3"]},
            "A comparison sets the seeds itself, from 0 on. Say how many",
        ),
        (["probe"], {"overrides": ["protocol=refit"]}, "'refit' leaves no validation split"),
        (["probe"], {"seeds": 0}, "needs at least one seed, but got 0"),
        (["finetune", "probe"], {"overrides": ["loss.name=nothing"]}, "finetune: There is no loss 'nothing'"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(
    recipes: list[str], changes: dict[str, Any], complaint: str, tmp_path: Path
) -> None:
    arguments: dict[str, Any] = {"backbone": "test_resnet", "weights": "none", **changes}
    with pytest.raises(RecipeError) as caught:
        compare(tmp_path / "absent", recipes, out=tmp_path / "out", **arguments)
    assert complaint in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_what_the_data_has_nothing_for_is_refused_before_anything_is_learnt(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"pose: \w+ has no key points for augment\.align"):
        compare(pictures, ["finetune", "pose"], out=tmp_path / "out", backbone="test_resnet", weights="none")
    assert not list((tmp_path / "out").glob("runs/*"))


def test_in_what_else_recipes_differ(
    pictures: Path, recipes: list[str], trained_here: list[str], tmp_path: Path
) -> None:
    (tmp_path / "big.toml").write_text('base = "probe"\n[backbone]\nname = "test_resnet"\nweights = "none"\n')
    (tmp_path / "small.toml").write_text('base = "probe"\n[backbone]\nname = "test_efficientnet"\nweights = "none"\n')
    named = [str(tmp_path / "big.toml"), str(tmp_path / "small.toml")]
    board = compare(pictures, named, out=tmp_path / "out", seeds=1, overrides=["images.size=32"])
    assert board.notices[0] == "The recipes also differ in backbone: big test_resnet, small test_efficientnet."


# Two commands at once -------------------------------------------------------------------------------------------------


class ComparesMeanwhile(Listener):
    """At the first step of a training, tries what another command would."""

    def __init__(self, act: Callable[[], object]) -> None:
        self.act: Callable[[], object] | None = act
        self.refusal = ""

    def hear(self, event: Event) -> None:
        if isinstance(event, StepTaken) and self.act:
            act, self.act = self.act, None
            with pytest.raises(RunError) as refused:
                act()
            self.refusal = str(refused.value)


def test_a_training_that_outlives_its_command_is_found_at_work(
    pictures: Path, recipes: list[str], tmp_path: Path
) -> None:
    """It holds its own run, whoever began it and whether that is still there."""
    out = tmp_path / "out"
    meanwhile = ComparesMeanwhile(lambda: compare(pictures, recipes, out=out, **TINY))
    fieldmark.train(pictures, recipes[0], out=out / "runs" / "plain-0", listener=meanwhile, **TINY)
    assert "Another comparison, or a training that it started, is running in" in meanwhile.refusal
    assert not (out / "results").exists()


def test_a_run_is_trained_by_one_command_at_a_time(pictures: Path, recipes: list[str], tmp_path: Path) -> None:
    meanwhile = ComparesMeanwhile(lambda: fieldmark.train(pictures, recipes[0], out=tmp_path / "run", resume=True))
    run = fieldmark.train(pictures, recipes[0], out=tmp_path / "run", listener=meanwhile, **TINY)
    assert meanwhile.refusal.startswith(f"Another training is running in {run.folder}")
    assert run.is_finished


def test_data_that_are_not_there_leave_no_folder(recipes: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is nothing at"):
        compare(tmp_path / "absent", recipes, out=tmp_path / "out", **TINY)
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written(recipes: list[str], pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FieldmarkError, match="there is a file where a folder is needed"):
        compare(pictures, recipes, out=tmp_path / "file", **TINY)
