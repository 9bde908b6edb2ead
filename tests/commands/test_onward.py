"""`train --from`: a season later, with old and new photographs."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from conftest import COLORS, paint
from fieldmark.commands.report import report
from fieldmark.commands.train import train
from fieldmark.core.errors import FieldmarkError, RecipeError
from fieldmark.core.storage import read_rows, write_rows
from fieldmark.learning.fitting.fit import Fit, Fitted, Stopped
from fieldmark.learning.fitting.onward import Older
from fieldmark.model.choosing import weights_file
from fieldmark.runs.budgeted import budget_of
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run
from support.commands import Cli, settings
from support.hearing import Heard, StopsAfter

STILL = ("train.lr=1e-12", "train.head_lr=1e-12", "train.batchnorm=frozen", "train.ema=false")
"""Learns nothing, so that what is shipped is what it began with."""


@pytest.fixture
def season(tmp_path: Path) -> Path:
    """Eight new photographs of each class."""
    root = tmp_path / "season"
    for k, (name, color) in enumerate(COLORS.items()):
        (root / name).mkdir(parents=True)
        for i in range(8):
            paint(color, 5000 + 100 * k + i).save(root / name / f"new-{i}.png")
    return root


def with_class(root: Path, name: str = "coal") -> Path:
    (root / name).mkdir(parents=True)
    for i in range(8):
        paint((20, 20, 20), 9000 + i).save(root / name / f"{i}.png")
    return root


class Stops(Heard):
    """Asks to stop after the first step."""

    def stoppable(self) -> contextlib.AbstractContextManager[Callable[[], bool]]:
        return contextlib.nullcontext(lambda: True)


def state(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def splits(run: Run) -> dict[str, tuple[str, str]]:
    return {row["path"]: (row["split"], row["label"]) for row in run.images()}


def held_out(run: Run, split: str = "val") -> dict[str, str]:
    rows = read_rows(run.evaluation(split) / "predictions.csv", ["path", "predicted"])
    return {row["path"]: row["predicted"] for row in rows}


def test_old_and_new_photographs_are_learnt_together(
    trained: Run, season: Path, pictures: Path, cli: Cli, tmp_path: Path
) -> None:
    """Old images stay in their splits, a copy counts once, and what looks like a held-out image is held out."""
    with_class(season, "a new class")  # which would come first by name
    judge = next(path for path, (split, _) in splits(trained).items() if split == "val")
    shutil.copy(pictures / judge, season / Path(judge).parent / "copy.png")
    again = season / Path(judge).parent / "again.jpg"
    Image.open(pictures / judge).save(again, quality=95)
    before = state(trained.folder)
    answer = cli("train", season, "--from", trained.folder)
    assert answer.status == 0, answer.err
    assert state(trained.folder) == before
    run = Run(tmp_path / "trained-2")
    assert "1 photograph of season left out, since" in answer.err
    assert "33 new photographs" in answer.err
    assert "1 new class (a new class)" in answer.err
    old, new = splits(trained), splits(run)
    assert {path: new[path] for path in old} == old
    assert new[str(again)][0] == "val"
    assert len(new) == len(old) + 33
    assert run.data()["classes"] == ["amber", "jade", "plum", "a new class"]
    assert Bundle.load(run.folder).classes[3:] == ("a new class",)
    assert {split for split, label in new.values() if label == "a new class"} == {"train", "val", "test"}
    assert run.recipe() == trained.recipe()

    found = run.decided("changed")
    answers = held_out(trained)
    assert found["images"] == len(answers)
    assert found["before"] == pytest.approx(np.mean([answers[path] == old[path][1] for path in answers]))
    own = held_out(run)
    assert found["after"] == pytest.approx(np.mean([own[path] == old[path][1] for path in answers]))
    assert found["new_images"] == len(own) - len(answers)
    assert run.decided("grown") == {
        "images": 33,
        "train": sum(split == "train" for path, (split, _) in new.items() if path not in old),
        "classes": ["a new class"],
    }
    for command in (["evaluate", run.folder], ["report", run.folder]):
        answer = cli(*command)
        assert answer.status == 0, answer.err
        assert "without a split" not in answer.err
    page = unescape((run.folder / "report" / "index.html").read_text())
    assert "What changed" in page
    assert f"{found['images']} images that both runs held out" in page


def test_it_begins_with_the_weights_of_the_older_run(trained: Run, season: Path, tmp_path: Path) -> None:
    """Where nothing is learnt, it answers as before."""
    run = train(season, from_run=trained.folder, out=tmp_path / "new", overrides=STILL, listener=Heard())
    found = run.decided("changed")
    assert (found["gain"], found["classes"], found["taken"]) == (0, [], 0)
    own = held_out(run)
    assert {path: own[path] for path in held_out(trained)} == held_out(trained)
    before, after = (Bundle.load(one.folder).weights() for one in (trained, run))
    convolutions = [key for key, value in before.items() if value.ndim == 4]
    assert convolutions
    for key in (*convolutions, "head.classifier.linear.weight"):
        np.testing.assert_allclose(after[key], before[key], atol=1e-6)


def test_a_season_after_that(trained: Run, season: Path, pictures: Path, cli: Cli, tmp_path: Path) -> None:
    """Photographs may also lie beside the old ones, and a third run finds those of both seasons before."""
    grown = tmp_path / "grown"
    shutil.copytree(pictures, grown)
    shutil.copytree(season, grown, dirs_exist_ok=True)
    second, third = tmp_path / "second", tmp_path / "third"
    heard = Heard()
    train(grown, from_run=trained.folder, out=second, overrides=STILL, listener=heard)
    assert any("42 photographs of grown left out" in note for note in heard.notes)
    with_class(grown)
    train(grown, from_run=second, out=third, listener=heard)
    assert any("8 new photographs" in note for note in heard.notes)
    first, last = splits(trained), splits(Run(third))
    assert {path: last[path] for path in first} == first
    assert {path: last[path] for path in splits(Run(second))} == splits(Run(second))
    assert len(last) == 42 + 24 + 8
    assert Run(third).data()["further"] == [{"source": str(grown)}]
    answer = cli("evaluate", third, grown)
    assert answer.status == 0, answer.err
    assert "without a split" not in answer.err
    again = cli("train", third, "--out", tmp_path / "fourth", "--set", "train.epochs=1")
    assert again.status == 0, again.err
    assert splits(Run(tmp_path / "fourth")) == last


def test_a_season_of_one_species(trained: Run, cli: Cli, tmp_path: Path) -> None:
    """One that was not there before."""
    answer = cli("train", with_class(tmp_path / "season"), "--from", trained.folder, "--out", tmp_path / "later")
    assert answer.status == 0, answer.err
    assert Run(tmp_path / "later").data()["classes"] == [*trained.data()["classes"], "coal"]
    answer = cli("evaluate", tmp_path / "later")
    assert answer.status == 0, answer.err


def test_decisions_are_new_too(trained: Run, pictures: Path, cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "decisions.csv"
    new = tmp_path / "one.png"
    paint((20, 20, 20), 1).save(new)
    table.write_text(f"path,decision,label\namber/00.png,relabel,jade\n{new},label,onyx\n")
    out = tmp_path / "new"
    assert "Nothing is new" in cli("train", trained.folder, "--from", trained.folder, "--out", out).complaint
    assert not out.exists()
    answer = cli("train", trained.folder, "--from", trained.folder, "--decisions", table, "--out", out)
    assert answer.status == 0, answer.err
    found = splits(Run(out))
    assert found["amber/00.png"][1] == "jade"
    assert found[str(new)] == ("train", "onyx")
    assert Run(out).data()["classes"] == ["amber", "jade", "plum", "onyx"]
    assert cli("evaluate", out).status == 0


def test_weights_that_are_gone_are_not_missed(pictures: Path, season: Path, tmp_path: Path) -> None:
    """Of a file that a run began with: a run that goes on has weights of its own, and so has one that resumes."""
    file = tmp_path / "mine.safetensors"
    shutil.copy(weights_file("fieldguide"), file)
    overrides = settings(backbone__weights=str(file), train__solver="gradient", train__batch_size="8")
    first = train(pictures, overrides=overrides, out=tmp_path / "first", listener=Heard())
    with pytest.raises(Stopped):
        train(season, from_run=first.folder, out=tmp_path / "second", listener=Stops())
    file.unlink()
    with pytest.raises(FieldmarkError, match="does not exist"):
        train(season, str(first.folder / "recipe.toml"), out=tmp_path / "other", listener=Heard())
    second = train(season, out=tmp_path / "second", resume=True, listener=Heard())
    assert second.is_finished
    third = train(season, from_run=first.folder, out=tmp_path / "third", listener=Heard())
    assert third.decided("weights") == first.decided("weights")


def test_it_resumes_where_it_was(trained: Run, season: Path, tmp_path: Path) -> None:
    """With the run that it began from, named or not; another one is refused."""

    whole = train(season, from_run=trained.folder, out=tmp_path / "whole", listener=Heard())
    out = tmp_path / "parted"
    with pytest.raises(Stopped):
        train(season, from_run=trained.folder, out=out, listener=Stops())
    moved = tmp_path / "moved"
    trained.folder.rename(moved)
    with pytest.raises(FieldmarkError, match=r"is gone\..*name its new place with --from"):
        train(season, out=out, resume=True, listener=Heard())
    with pytest.raises(FieldmarkError, match="did not begin with what"):
        train(season, from_run=whole.folder, out=out, resume=True, listener=Heard())
    run = train(season, from_run=moved, out=out, resume=True, listener=Heard())
    weights = [Bundle.load(one.folder).weights() for one in (whole, run)]
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0])
    assert splits(run) == splits(whole)


def test_a_budget_decides_how_long_a_network_goes_on(trained: Run, season: Path, tmp_path: Path) -> None:
    """All else is the older run's: its weights, recipe and size."""
    with pytest.raises(Stopped):
        train(season, out=tmp_path / "run", budget="2500 images", from_run=trained.folder, listener=StopsAfter(2))
    run = train(season, out=tmp_path / "run", resume=True, listener=Heard())
    facts = budget_of(run)
    assert facts is not None
    assert (facts["open"], facts["probes"], len(facts["trials"])) == (["epochs"], [], 1)
    assert facts["trials"][0]["epochs"] == 3 * trained.recipe().train.epochs
    assert facts["spent"] <= 2500
    assert set(trained.recipe().changes(run.recipe())) <= {"train.epochs", "train.solver", "train.precision"}
    assert run.decided("weights") == trained.decided("weights")
    assert run.decided("changed")["images"] == len(held_out(trained))
    assert "It decided the number of epochs." in unescape(report(run.folder).read_text())


def test_within_a_budget_it_begins_with_the_weights_of_the_other(trained: Run, season: Path, tmp_path: Path) -> None:
    run = train(
        season,
        out=tmp_path / "run",
        budget="2500 images",
        from_run=trained.folder,
        overrides=STILL,
        listener=Heard(),
    )
    before, after = (Bundle.load(one.folder).weights() for one in (trained, run))
    heads = [key for key in before if key.startswith("head.")]
    assert heads
    assert all(np.allclose(before[key], after[key], atol=1e-6) for key in heads)


def test_within_a_budget_a_probe_stays_one(pictures: Path, season: Path, tmp_path: Path) -> None:
    first = train(pictures, "probe", overrides=settings(), out=tmp_path / "first", listener=Heard())
    run = train(season, out=tmp_path / "run", budget="2000 images", from_run=first.folder, listener=Heard())
    facts = budget_of(run)
    assert facts is not None
    assert (run.solver, facts["open"], facts["trials"]) == ("logistic", ["epochs"], [])


@pytest.mark.parametrize(("protocol", "afresh"), [("holdout", {"probe"}), ("crossfit", {"fold 0", "fold 1"})])
def test_what_judges_begins_afresh(
    protocol: str, afresh: set[str], pictures: Path, season: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The older run has seen what a fold holds out, and a probe beside the network is one of its first weights."""
    changes = [f"protocol={protocol}", "folds=2", "train.epochs=1", "train.solver=gradient", "images.size=64"]
    first = train(
        pictures,
        out=tmp_path / "a",
        backbone="test_resnet",
        weights="fieldguide",
        overrides=[*changes, "backbone.mean=[0.5, 0.5, 0.5]"],
        listener=Heard(),
    )
    begun, learn = dict[str, bool](), Fit.train

    def recorded(fit: Fit, rows: NDArray[np.int64], validation: NDArray[np.int64]) -> Fitted:
        begun[fit.name] = fit.start is not None
        return learn(fit, rows, validation)

    monkeypatch.setattr(Fit, "train", recorded)
    run = train(with_class(season), from_run=first.folder, out=tmp_path / "b", listener=Heard())
    assert begun == dict.fromkeys(afresh, False) | {"model": True}
    split = "val" if protocol == "holdout" else "crossfit"
    assert run.decided("changed")["images"] == len(held_out(first, split))


@pytest.mark.parametrize(
    ("spoil", "arguments", "said"),
    [
        (lambda run: shutil.rmtree(run), (), "is not a run folder"),
        (
            lambda run: (run / "bundle" / "model.json").unlink(),
            (),
            "is not finished, so there is nothing to go on from",
        ),
        (lambda run: None, ("--out", "trained"), "is the run to go on from, or lies in it"),
        (lambda run: None, ("--out", "trained/next"), "is the run to go on from, or lies in it"),
        (lambda run: None, ("--backbone", "resnet10t"), "backbone.name was 'test_resnet', not 'resnet10t'"),
        (lambda run: None, ("--recipe", "arcface"), "head.name was 'linear', not 'arcface'"),
    ],
)
def test_what_cannot_go_on_is_refused(
    spoil: Callable[[Path], object],
    arguments: tuple[str, ...],
    said: str,
    trained: Run,
    season: Path,
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(trained.folder.parent)
    spoil(trained.folder)
    before = sorted(trained.folder.parent.rglob("*"))
    assert said in cli("train", season, "--from", "trained", *arguments).complaint
    assert sorted(trained.folder.parent.rglob("*")) == before


def test_a_bundle_alone_is_refused(trained: Run, season: Path, cli: Cli, tmp_path: Path) -> None:
    alone = shutil.copytree(trained.bundle, tmp_path / "alone")
    assert "is a bundle without its run" in cli("train", season, "--from", alone).complaint
    assert cli("train", season, "--from", trained.bundle, "--out", tmp_path / "new").status == 0


def test_old_photographs_that_are_gone(pictures: Path, season: Path, cli: Cli, tmp_path: Path) -> None:
    old = shutil.copytree(pictures, tmp_path / "old")
    first = train(old, "walkthrough", out=tmp_path / "run", overrides=settings(), listener=Heard())
    judge = next(path for path, (split, _) in splits(first).items() if split == "val")
    (old / judge).unlink()
    answer = cli("train", season, "--from", first.folder)
    assert answer.status == 0, answer.err
    assert f"is gone, 1 of them for validation: {judge}" in answer.err
    old.rename(tmp_path / "elsewhere")
    said = cli("train", season, "--from", first.folder, "--out", tmp_path / "new").complaint
    assert "learnt from cannot be read" in said
    assert "Put it back" in said


def test_photographs_that_were_moved_stay_in_their_splits(
    pictures: Path, season: Path, cli: Cli, tmp_path: Path
) -> None:
    """A label was put right by moving a file, and a class by renaming its folder: neither moves between the splits."""
    old = shutil.copytree(pictures, tmp_path / "old")
    first = train(old, "walkthrough", out=tmp_path / "run", overrides=settings(), listener=Heard())
    before = splits(first)
    (old / "amber" / "00.png").rename(old / "plum" / "was amber.png")
    (old / "jade").rename(old / "emerald")
    out = tmp_path / "new"
    answer = cli("train", old, "--from", first.folder, "--out", out)
    assert answer.status == 0, answer.err
    assert "15 photographs of" in answer.err
    assert "are gone" not in answer.err
    assert "1 of 4 classes cannot be learnt without training images: jade" in answer.err
    after = splits(Run(out))
    assert after["plum/was amber.png"] == (before["amber/00.png"][0], "plum")
    assert [after[f"emerald/{i:02}.png"][0] for i in range(14)] == [before[f"jade/{i:02}.png"][0] for i in range(14)]
    assert Run(out).decided("changed")["images"] == len(held_out(first))
    assert Run(out).decided("grown")["images"] == 0
    assert Bundle.load(out).classes == ("amber", "jade", "plum", "emerald")


def test_classes_that_look_wrong_are_named(trained: Run, tmp_path: Path) -> None:
    (root := tmp_path / "other").mkdir()
    with_class(with_class(root, "Lapis jade"), "Amber")
    heard = Heard()
    train(root, from_run=trained.folder, out=tmp_path / "new", listener=heard)
    assert any("has none of the classes" in text for text in heard.warnings)
    for pair in ("'amber' and 'Amber'", "'jade' and 'Lapis jade'"):
        assert any(f"Two classes with almost one name: {pair}" in text for text in heard.warnings)


def test_a_head_that_reads_features_otherwise_is_refused(trained: Run) -> None:
    """A trial had settled on a probe, whose head reads features of unit length; the network's would not."""
    recipe = trained.recipe().with_overrides(["train.solver=auto"])
    (trained.folder / "recipe.toml").write_text(recipe.to_toml())
    trained.decide("solver", "logistic")
    older = Older(trained, Bundle.load(trained.folder))
    older.check(recipe)
    with pytest.raises(RecipeError, match=r"head\.unit was True, not False"):
        older.check(recipe.with_overrides(["train.solver=gradient"]))


def test_a_run_of_before_knows_pictures_by_their_paths(trained: Run, season: Path, tmp_path: Path) -> None:
    rows = [(row["path"], row["split"], row["label"]) for row in trained.images()]
    write_rows(trained.folder / "splits.csv", ["path", "split", "label"], rows)
    run = train(season, from_run=trained.folder, out=tmp_path / "new", listener=Heard())
    assert run.decided("changed")["images"] == len(held_out(trained))
