"""The main path on real photographs: read, train, evaluate, predict."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat

from fieldmark.bundle import Bundle
from fieldmark.commands.evaluate import evaluate
from fieldmark.commands.predict import Skipped, predict
from fieldmark.commands.train import train
from fieldmark.data.catalog import Catalog
from fieldmark.data.read import read
from fieldmark.evaluation.verdict import Verdict
from fieldmark.run import Run

FIRST = 6  # classes, three of them albatrosses


@pytest.fixture(scope="module")
def birds(cub: Path) -> Catalog:
    """The first classes of CUB-200-2011."""
    catalog = read(cub)
    few = catalog.select(np.flatnonzero(catalog.labels < FIRST))
    taxonomy = {level: names[:FIRST] for level, names in few.taxonomy.items()}
    return replace(few, classes=few.classes[:FIRST], taxonomy=taxonomy)


@pytest.fixture(scope="module")
def run(birds: Catalog, imagenet_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A linear probe on small pictures."""
    return train(
        birds,
        "probe",
        out=tmp_path_factory.mktemp("birds") / "run",
        backbone="mobilenetv2_100",
        weights=str(imagenet_weights),
        overrides=["images.size=96"],
    )


def test_species_are_told_apart(run: Run, birds: Catalog) -> None:
    evaluation = evaluate(run.folder, birds)
    top1 = evaluation.scores["top1"]
    assert evaluation.part == "test"
    assert evaluation.num_images == len(birds.rows("test"))
    assert top1.value > 0.55  # a sixth by chance
    assert top1.low < top1.value < top1.high


def test_validation_was_cut_from_the_training_part(run: Run, birds: Catalog) -> None:
    splits = run.splits()
    test = {birds.paths[row] for row in birds.rows("test")}
    assert {path for path, part in splits.items() if part == "test"} == test
    counts = run.data()["counts"]
    assert counts["train"] + counts["val"] == len(birds.rows("train"))
    assert 0.1 < counts["val"] / len(birds.rows("train")) < 0.2


def test_single_files_are_answered(run: Run, birds: Catalog, tmp_path: Path) -> None:
    rows = birds.rows("test")[::12]
    files = [str(birds.file(row)) for row in rows]
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    *verdicts, bad = predict(run.folder, [*files, str(tmp_path / "bad.jpg")])
    assert isinstance(bad, Skipped)
    assert "bad.jpg" in bad.reason
    assert all(isinstance(verdict, Verdict) for verdict in verdicts)
    labels = [verdict.label for verdict in verdicts if isinstance(verdict, Verdict)]
    assert np.mean([label == birds.classes[birds.labels[row]] for label, row in zip(labels, rows, strict=True)]) > 0.5
    alone = Bundle.load(run.folder).predict(files[:1])[0]
    assert (alone.label, alone.path) == (labels[0], files[0])


def test_flowers_are_no_birds(run: Run, birds: Catalog, flowers: Path) -> None:
    """Two dozen validation images tell what a bird looks like, and cannot promise an accuracy."""
    bundle = Bundle.load(run.folder)
    rows = birds.rows("test")[::4]
    known = bundle.predict([birds.file(row) for row in rows], coverage=0.9)
    strange = bundle.predict(sorted((flowers / "jpg").glob("*.jpg"))[::200], coverage=0.9)
    assert np.mean([v.level == "none" for v in known]) < 0.25
    assert np.mean([v.level == "none" for v in strange]) > 0.8
    named = zip(known, (birds.classes[birds.labels[row]] for row in rows), strict=True)
    assert np.mean([label in (v.possible or ()) for v, label in named]) > 0.75
    rules = bundle.rules()
    assert rules is not None
    assert any("it would take about" in note or "surest answers" in note for note in rules.notes)


def test_flowers_from_a_table(flowers: Path, imagenet_weights: Path, tmp_path: Path) -> None:
    """The official parts of Flowers-102, written out as a table; five classes, two dozen test pictures of each."""
    labels = loadmat(flowers / "imagelabels.mat")["labels"][0]
    official = loadmat(flowers / "setid.mat")
    lines = ["path,label,split"]
    for part, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        for label in range(50, 55):
            numbers = [n for n in official[key][0] if labels[n - 1] == label]
            lines += [f"{flowers}/jpg/image_{n:05}.jpg,flower {label},{part}" for n in numbers[:24]]
    table = tmp_path / "flowers.csv"
    table.write_text("\n".join(lines))
    run = train(table, "probe", out=tmp_path / "run", weights=str(imagenet_weights), overrides=["images.size=64"])
    assert run.data()["counts"] == {"train": 50, "val": 50, "test": 120}
    evaluation = evaluate(run.folder)
    assert evaluation.num_images == 120
    assert evaluation.scores["top1"].value > 0.6  # a fifth by chance
