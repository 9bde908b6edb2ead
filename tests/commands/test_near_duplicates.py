"""Near-duplicates are one witness wherever a run is scored: right after training, and later."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fieldmark
from conftest import COLORS, paint
from fieldmark.core.reading import read_json
from fieldmark.core.storage import write_rows
from fieldmark.evaluation.metrics import Score, share
from fieldmark.runs.run import Run
from support.commands import settings

COPIES = 5


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on fourteen scenes of each class, each of them photographed five times, almost alike."""
    folder = tmp_path_factory.mktemp("repeated")
    rng = np.random.default_rng(0)
    for k, (name, colour) in enumerate(COLORS.items()):
        (folder / "data" / name).mkdir(parents=True)
        for scene in range(14):
            pixels = np.asarray(paint(colour, 100 * k + scene)).astype(float)
            for copy in range(COPIES):
                noisy = np.clip(pixels + rng.normal(0, 1, pixels.shape), 0, 255).astype(np.uint8)
                Image.fromarray(noisy).save(folder / "data" / name / f"{scene:02} {copy}.png")
    return fieldmark.train(folder / "data", "walkthrough", out=folder / "run", overrides=settings(), device="cpu")


@pytest.fixture
def run(repeated: Run, tmp_path: Path) -> Run:
    return Run(shutil.copytree(repeated.folder, tmp_path / "run"))


def check_scenes(run: Run, split: str) -> None:
    """Intervals are over scenes, which the names of the files tell."""
    with (run.evaluation(split) / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    scenes = np.unique([row["path"].rsplit(" ", 1)[0] for row in rows], return_inverse=True)[1]
    assert len(rows) == COPIES * (scenes.max() + 1)
    most = Counter(row["label"] for row in rows).most_common(1)[0][0]
    found = read_json(run.evaluation(split) / "scores.json", dict)
    assert found["majority"] == pytest.approx(share(np.array([row["label"] == most for row in rows]), scenes).as_dict())
    least = share(np.array([row["correct"] == "1" for row in rows]), scenes)
    assert found["top1"]["value"] == pytest.approx(least.value)
    assert found["top1"]["low"] <= least.low + 1e-9
    assert found["top1"]["high"] >= least.high - 1e-9


def test_scores_of_training_count_scenes(run: Run) -> None:
    check_scenes(run, "val")


def test_validation_scores_stay_those_of_the_training(run: Run) -> None:
    scores = read_json(run.evaluation("val") / "scores.json", dict)
    again = fieldmark.evaluate(run.folder, split="val", device="cpu").scores
    for name in ("top1", "mean_class_accuracy", "nll", "calibration_error"):
        assert again[name].as_dict() == pytest.approx(scores[name]), name


def _width(score: Score) -> float:
    return score.high - score.low


def test_test_scores_count_scenes(run: Run) -> None:
    found = fieldmark.evaluate(run.folder, device="cpu").scores
    check_scenes(run, "test")
    assert fieldmark.evaluate(run.folder, fieldmark.read(run.data()["source"]), device="cpu").scores == found


def test_a_run_of_before_goes_by_groups(run: Run) -> None:
    """It did not keep which images are near-duplicates."""
    known = fieldmark.evaluate(run.folder, device="cpu").scores["top1"]
    header = ["path", "split", "label", "picture"]
    write_rows(run.folder / "splits.csv", header, [[row[name] for name in header] for row in run.images()])
    before = fieldmark.evaluate(run.folder, device="cpu").scores["top1"]
    assert before.value == known.value
    assert _width(before) < _width(known)


def test_the_same_scenes_elsewhere_are_other_data(run: Run, tmp_path: Path) -> None:
    """Nobody has looked for near-duplicates there."""
    own = fieldmark.evaluate(run.folder, split="all", device="cpu").scores["top1"]
    moved = shutil.copytree(run.data()["source"], tmp_path / "moved")
    other = fieldmark.evaluate(run.folder, moved, device="cpu").scores["top1"]
    assert other.value == own.value
    assert _width(other) < _width(own)
