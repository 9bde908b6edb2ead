"""`fieldmark evaluate`: the figures, which images they are of, and how often they were looked at."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fieldmark
from fieldmark.commands.evaluate import evaluate
from fieldmark.core.errors import DataError, DataWarning
from fieldmark.core.reading import read_json
from fieldmark.core.storage import read_rows
from fieldmark.runs.run import Run

Cli = Callable[..., Any]
SCORES = ["top1", "top5", "mean_class_accuracy", "nll", "calibration_error"]


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def _scores(run: Run, split: str) -> dict[str, Any]:
    return json.loads((run.evaluation(split) / "scores.json").read_text())


def _predictions(run: Run, split: str) -> list[dict[str, str]]:
    with (run.evaluation(split) / "predictions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_scores_and_predictions_are_written(trained: Run) -> None:
    result = evaluate(trained.folder)
    assert result.split == "test"
    scores = _scores(trained, "test")
    assert [key for key, value in scores.items() if isinstance(value, dict)] == [*SCORES, "majority", "verdicts"]
    for name in SCORES:
        assert list(scores[name]) == ["value", "low", "high"]
        assert scores[name]["low"] <= scores[name]["value"] <= scores[name]["high"]
        assert scores[name] == result.scores[name].as_dict()
    rows = _predictions(trained, "test")
    assert list(rows[0]) == [
        "path", "label", "predicted", "probability", "correct", "label_probability",
        "name", "level", "promised", "familiar", "possible",
    ]  # fmt: skip
    assert all((row["name"] == "") == (row["promised"] == "") for row in rows)
    table = read_rows(trained.evaluation("test") / "classes.csv", ["class"])
    assert [row["class"] for row in table] == [one.name for one in result.classes]
    for row in table:
        own = [one for one in rows if one["label"] == row["class"]]
        assert int(row["images"]) == len(own)
        assert float(row["recall"]) == pytest.approx(np.mean([int(one["correct"]) for one in own]), abs=1e-4)
    parts = trained.splits()
    assert sorted(row["path"] for row in rows) == sorted(path for path, split in parts.items() if split == "test")
    assert all(row["label"] == Path(row["path"]).parent.name for row in rows)
    assert all((row["label"] == row["predicted"]) == (row["correct"] == "1") for row in rows)
    assert scores["num_images"] == len(rows) == 6
    assert scores["top1"]["value"] == pytest.approx(np.mean([int(row["correct"]) for row in rows]))
    nll = -np.log([float(row["label_probability"]) for row in rows]).mean()
    assert scores["nll"]["value"] == pytest.approx(nll, abs=1e-4)


def test_validation_scores_are_those_of_the_training(trained: Run) -> None:
    (trained.evaluation("val") / "scores.json").rename(trained.folder / "earlier.json")
    before = json.loads((trained.folder / "earlier.json").read_text())
    evaluate(trained.folder, split="val")
    after = _scores(trained, "val")
    assert [after[name]["value"] for name in SCORES] == pytest.approx([before[name]["value"] for name in SCORES])


def test_promises_are_held_to_on_images_that_were_not_learnt_from(trained: Run, parted: Path) -> None:
    """The test split and other data; never what the calibration or the model has seen."""
    result = evaluate(trained.folder, coverage=0.8)
    assert result.verdicts is not None
    assert (result.verdicts.source, result.verdicts.coverage, result.verdicts.promised) == ("validation", 0.8, None)
    assert _scores(trained, "test")["verdicts"]["shares"] == result.verdicts.shares
    rows = _predictions(trained, "test")
    assert result.verdicts.set_size == pytest.approx(np.mean([len(row["possible"].split("; ")) for row in rows]))
    assert result.verdicts.covered == pytest.approx(
        np.mean([row["label"] in row["possible"].split("; ") for row in rows])
    )
    assert evaluate(trained.folder, split="val").verdicts is None
    assert evaluate(trained.folder, split="all").verdicts is None
    assert evaluate(trained.folder, parted).verdicts is not None


def test_looks_at_the_test_part_are_counted_for_all_runs(
    trained: Run, pictures: Path, tmp_path: Path, own_cache: Path
) -> None:
    assert evaluate(trained.folder).looks == 1
    assert _scores(trained, "test")["looks"] == 1
    assert evaluate(trained.folder, split="val").looks is None
    assert evaluate(trained.folder, split="train").looks is None
    assert _scores(trained, "val")["looks"] is None
    other = Run(shutil.copytree(trained.folder, tmp_path / "other"))
    assert evaluate(other.folder).looks == 2
    assert _scores(other, "test")["looks"] == 2
    assert _scores(trained, "test")["looks"] == 1
    assert list(json.loads((own_cache / "looks.json").read_text()).values()) == [2]


def test_another_test_part_has_a_count_of_its_own(trained: Run, parted: Path, own_cache: Path) -> None:
    assert evaluate(trained.folder).looks == 1
    assert evaluate(trained.folder, parted).looks == 1
    assert evaluate(trained.folder, parted).looks == 2
    assert sorted(json.loads((own_cache / "looks.json").read_text()).values()) == [1, 2]


def test_naming_the_runs_own_data_changes_nothing(trained: Run, pictures: Path) -> None:
    unnamed = evaluate(trained.folder)
    for named in (pictures, str(pictures), fieldmark.read(pictures)):
        result = evaluate(trained.folder, named)
        assert (result.split, result.num_images, result.scores) == ("test", 6, unnamed.scores)


def test_images_that_came_later_or_cannot_be_read_do_not_open_the_training_part(
    pictures: Path, tmp_path: Path, cli: Cli, tiny: Callable[..., list[str]]
) -> None:
    data = shutil.copytree(pictures, tmp_path / "photographs")
    (data / "jade" / "broken.png").write_bytes(b"not an image")
    run = Run(tmp_path / "run")
    assert cli("train", data, *tiny(), "--out", run.folder).status == 0
    shutil.copy(data / "plum" / "00.png", data / "plum" / "new.png")
    answer = cli("evaluate", run.folder)
    assert answer.status == 0
    assert "The test split, 6 images" in answer.out
    (warning,) = (line for line in answer.err.splitlines() if line.startswith("warning"))
    assert warning.startswith(
        "warning: 2 images without a split, because they are new or could not be read in training: "
    )
    assert {row["path"] for row in _predictions(run, "test")} == {
        path for path, split in run.splits().items() if split == "test"
    }


def test_the_bundle_of_a_run_stands_for_the_run(trained: Run) -> None:
    result = evaluate(trained.bundle)
    assert (result.split, result.num_images) == ("test", 6)
    assert result.folder == trained.evaluation("test")


def test_a_bundle_alone_needs_data(trained: Run, pictures: Path, parted: Path, tmp_path: Path, cli: Cli) -> None:
    bundle = shutil.copytree(trained.bundle, tmp_path / "shipped")
    complaint = cli("evaluate", bundle).complaint
    assert complaint == f"{bundle} does not say what data it was trained on. Name the data: evaluate RUN DATA."
    assert evaluate(bundle, parted).num_images == 12
    whole = evaluate(bundle, pictures)
    assert (whole.split, whole.num_images, whole.looks) == ("all", 42, None)
    assert whole.folder == bundle / "evaluation" / "all"


def test_other_data_that_is_not_split_is_scored_whole(trained: Run, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    other = shutil.copytree(pictures, tmp_path / "elsewhere")
    shutil.rmtree(other / "amber")  # a subset of the classes is fine
    answer = cli("evaluate", trained.folder, other)
    assert answer.status == 0
    assert "All splits, 28 images" in answer.out
    assert _scores(trained, "all")["num_images"] == 28
    assert cli("evaluate", trained.folder, other, "--split", "test").complaint == (
        "elsewhere has no test split. Choose one with --split: all."
    )


def test_a_table_of_other_images_in_the_same_folder_is_other_data(
    pictures: Path, tmp_path: Path, cli: Cli, tiny: Callable[..., list[str]]
) -> None:
    data = shutil.copytree(pictures, tmp_path / "photographs")
    for name, numbers in (("first", range(10)), ("second", range(10, 14))):
        rows = [f"{k}/{i:02}.png,{k}" for k in ("amber", "jade", "plum") for i in numbers]
        (data / f"{name}.csv").write_text("\n".join(["path,label", *rows]))
    run = tmp_path / "run"
    assert cli("train", data / "first.csv", *tiny(), "--out", run).status == 0
    result = evaluate(run, data / "second.csv")
    assert (result.split, result.num_images) == ("all", 12)
    own = evaluate(run, data / "first.csv")
    assert own.split == "test"
    assert own.num_images < 10


def test_parts_that_are_not_there(trained: Run, pictures: Path, parted: Path, cli: Cli) -> None:
    assert cli("evaluate", trained.folder, "--split", "tset").complaint == (
        f"{pictures.name} has no tset split. Choose one with --split: train, val, test, all."
    )
    assert cli("evaluate", trained.folder, parted, "--split", "val").complaint == (
        "parted has no val split. Choose one with --split: train, test, all."
    )


def test_classes_that_the_model_does_not_know(trained: Run, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    other = shutil.copytree(pictures, tmp_path / "elsewhere")
    (other / "plum").rename(other / "plums")
    complaint = cli("evaluate", trained.folder, other).complaint
    assert complaint == ("1 of 3 classes in elsewhere are unknown to the model: plums. Did you mean 'plum'?")
    with pytest.raises(DataError, match="unknown to the model"):
        evaluate(trained.folder, other)


def test_images_that_cannot_be_read_are_counted_and_named(trained: Run, parted: Path, cli: Cli) -> None:
    (parted / "test" / "jade" / "12.png").write_bytes(b"not an image")
    with pytest.warns(DataWarning, match=r"1 of 12 images could not be read and were skipped: test/jade/12\.png"):
        result = evaluate(trained.folder, parted)
    assert result.num_images == 11
    assert _scores(trained, "test")["unreadable"] == ["test/jade/12.png"]
    assert len(_predictions(trained, "test")) == 11
    for file in (parted / "test").rglob("*.png"):
        file.write_bytes(b"not an image")
    assert cli("evaluate", trained.folder, parted).complaint.startswith("None of 12 images could be read. Check ")


@pytest.mark.parametrize("columns", [60, 80])
def test_what_is_printed_fits_the_terminal(trained: Run, own_cache: Path, cli: Cli, columns: int) -> None:
    out = cli("evaluate", trained.folder, columns=columns).out
    *lines, last = out.splitlines()
    assert last == f"Written to {trained.evaluation('test')}"
    assert max(map(len, lines)) <= columns
    scores = _scores(trained, "test")
    top1 = "{value:.1f} %".format(value=100 * scores["top1"]["value"])
    assert re.search(rf"│ top-1 accuracy +│ {re.escape(top1)} +│", out)
    assert re.search(r"│ always the most frequent\s", out)
    assert "Classes, worst first" in out
    assert "This test split has now been scored once on this machine." in out
    assert "Verdicts on 6 images, calibrated on 6 validation images" in out
    assert "maximum softmax" in " ".join(out.split())
    words = " ".join(out.split())
    for pair in scores["confused"]:
        images = pair["num_first"] + pair["num_second"]
        mistakes = pair["first_as_second"] + pair["second_as_first"]
        assert f"│ {pair['first']} ↔ {pair['second']} │ {mistakes} of {images} │" in words
    again = cli("evaluate", trained.folder, columns=columns).out
    assert "This test split has now been scored 2 times on this machine." in again


def test_a_class_that_must_not_be_missed(
    parted: Path, tmp_path: Path, cli: Cli, tiny: Callable[..., list[str]]
) -> None:
    run = tmp_path / "run"
    cli("train", parted, *tiny(protocol="crossfit", folds="2", train__epochs="1"), "--out", run)
    answer = cli("evaluate", run, "--of-interest", "plum", "--sensitivity", 0.8)
    assert "class of interest" in answer.out
    (found,) = read_json(run / "evaluation/test/scores.json", dict[str, Any])["of_interest"]
    assert (found["name"], found["asked"], found["num_images"]) == ("plum", 0.8, 4)
    assert 0 <= found["specificity"]["low"] <= found["specificity"]["value"] <= found["specificity"]["high"] <= 1
    assert "class of interest" in Path(fieldmark.report(run, out=tmp_path / "page.html")).read_text()
    for options, problem in (
        (("plums",), "1 of 1 names are not classes of this model, such as 'plums'. Did you mean 'plum'?"),
        (("plum", "--sensitivity", 0.99), "A sensitivity of 99 % for 'plum' takes 99 held-out images of it"),
        (("plum", "--sensitivity", 2), "The sensitivity cannot be 2"),
    ):
        assert cli("evaluate", run, "--of-interest", *options).complaint.startswith(problem)


def test_a_burst_is_one_witness(trained: Run, own_cache: Path) -> None:
    catalog = fieldmark.read(trained.data()["source"])
    bursts = replace(catalog, groups=np.array([f"burst {path.split('/')[0]}" for path in catalog.paths]))
    alone, together = (evaluate(trained.folder, one, split="all").scores["top1"] for one in (catalog, bursts))
    assert alone.value == together.value
    assert together.high - together.low > alone.high - alone.low + 0.05


def test_scores_in_a_folder_of_their_own(trained: Run, parted: Path, tmp_path: Path, cli: Cli) -> None:
    before = {path: path.read_bytes() for path in trained.folder.rglob("*") if path.is_file()}
    before.pop(trained.folder / "times.json")
    out = tmp_path / "scores"
    for _ in range(2):
        answer = cli("evaluate", trained.folder, parted, "--out", out)
        assert answer.status == 0, answer.err
        assert answer.out.splitlines()[-1] == f"Written to {out}"
    assert {path.name for path in out.iterdir()} == {
        ".fieldmark", "scores.json", "predictions.csv", "classes.csv"
    }  # fmt: skip
    assert all(path.read_bytes() == data for path, data in before.items())
    assert not trained.evaluation("test").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "predictions.csv").write_text("mine")
    complaint = cli("evaluate", trained.folder, parted, "--out", tmp_path / "mine").complaint
    assert "is not empty, and Fieldmark did not make it for scores: it holds predictions.csv" in complaint
    assert (tmp_path / "mine" / "predictions.csv").read_text() == "mine"


def test_a_run_that_may_only_be_read(
    trained: Run, parted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    make_file, make_dir = os.open, os.mkdir

    def refuse(path: Any, *args: Any, **options: Any) -> None:  # the tests may run as root, whom chmod does not stop
        if isinstance(path, str | Path) and Path(path).is_relative_to(trained.folder):
            raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(os, "mkdir", lambda path, *args, **options: refuse(path) or make_dir(path, *args, **options))
    monkeypatch.setattr(
        os,
        "open",
        lambda path, flags, *args, **options: (
            (refuse(path) if flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY) else None)
            or make_file(path, flags, *args, **options)
        ),
    )
    picture = sorted((parted / "test").rglob("*.png"))[0]
    for command, place in (("evaluate", trained.evaluation("test")), ("report", trained.folder / "report")):
        assert cli(command, trained.folder).complaint == (
            f"Cannot write {place}: the file system is read-only. Name another place with --out."
        )
    assert cli("evaluate", trained.folder, "--out", tmp_path / "scores").status == 0
    assert cli("report", trained.folder, "--out", tmp_path / "report.html").status == 0
    assert cli("predict", trained.folder, picture).status == 0
    complaint = cli("explain", trained.folder, picture).complaint
    assert complaint.endswith("explanations: the file system is read-only. Name another place with --out.")
    assert cli("explain", trained.folder, picture, "--out", tmp_path / "why").status == 0
