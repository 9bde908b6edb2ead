"""The main path on real photographs: read, train, evaluate, predict."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.io import loadmat
from torchvision.datasets import Flowers102

from fieldmark.answering.explaining.explainer import Explainer
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Skipped
from fieldmark.commands.evaluate import evaluate
from fieldmark.commands.predict import predict
from fieldmark.commands.train import train
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.sets import read
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.verdict import Verdict
from fieldmark.runs.run import Run

FIRST = 6  # classes, three of them albatrosses


@pytest.fixture(scope="module")
def birds(cub: Path) -> Catalog:
    """The first classes of CUB-200-2011."""
    catalog = read(cub)
    few = catalog.select(np.flatnonzero(catalog.labels < FIRST))
    classes = few.classes[:FIRST]
    taxonomy = Taxonomy.of(classes, {level: names[:FIRST] for level, names in few.taxonomy.items()})
    return replace(few, classes=classes, taxonomy=taxonomy)


@pytest.fixture(scope="module")
def run(birds: Catalog, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A linear probe on small pictures, from the weights that come with the installation."""
    out = tmp_path_factory.mktemp("birds") / "run"
    return train(birds, "probe", out=out, overrides=["images.size=128"])


def test_species_are_told_apart(run: Run, birds: Catalog) -> None:
    evaluation = evaluate(run.folder, birds)
    top1 = evaluation.scores["top1"]
    assert evaluation.split == "test"
    assert evaluation.num_images == len(birds.rows("test"))
    assert top1.value > 0.55  # a sixth by chance
    assert top1.low < top1.value < top1.high


def test_validation_was_cut_from_the_training_part(run: Run, birds: Catalog) -> None:
    splits = run.splits()
    test = {birds.paths[row] for row in birds.rows("test")}
    assert {path for path, split in splits.items() if split == "test"} == test
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
    alone = Predictor.load(run.folder).predict(files[:1])[0]
    assert (alone.label, alone.path) == (labels[0], files[0])


@pytest.fixture
def root() -> Path:
    if not (root := os.environ.get("FIELDMARK_DATA")):
        pytest.skip("FIELDMARK_DATA does not name a folder of real photographs")
    return Path(root)


@pytest.mark.parametrize(
    ("name", "folder", "classes", "counts"),
    [
        ("flowers102", "flowers-102", 102, (1020, 1020, 6149)),
        ("cub", "CUB_200_2011_first50", 50, (1500, 0, 1389)),
        ("cifar10", "cifar10-jpeg", 10, (50000, 0, 10000)),
    ],
)
def test_data_sets_by_name(name: str, folder: str, classes: int, counts: tuple[int, int, int], root: Path) -> None:
    if not (root / folder).is_dir():
        pytest.skip(f"{folder} is not in FIELDMARK_DATA")
    catalog = read(name, root)
    assert catalog.root == root / folder
    assert len(catalog.classes) == classes
    assert tuple(len(catalog.rows(split)) for split in SPLITS) == counts


def test_flowers_have_their_official_labels(flowers: Path) -> None:
    catalog = read("flowers102", flowers)
    official = loadmat(flowers / "imagelabels.mat")["labels"][0]
    numbers = [int(path[-9:-4]) for path in catalog.paths]
    assert [label + 1 for label in catalog.labels] == [official[number - 1] for number in numbers]
    assert sum(ours != theirs for ours, theirs in zip(catalog.classes, Flowers102.classes, strict=True)) < 5  # spelling


def test_an_answer_is_explained(run: Run, birds: Catalog) -> None:
    """Key points name the region; what is exchanged for B's speaks less for A than what other images of A have."""
    explainer = Explainer(run.folder)
    found = [explainer(birds.file(row)) for row in birds.rows("test")[::24]]
    assert all(one.regions and one.notes == () for one in found)
    assert np.mean([bool(one.regions[0].holds) for one in found]) > 0.5
    lost = [
        (one.regions[0].as_first.margin - one.margin, one.regions[0].as_second.margin - one.margin)
        for one in found
        if one.regions[0].as_first and one.regions[0].as_second
    ]
    own, other = np.mean(lost, axis=0)
    assert other < min(own, 0)
    for one in found:
        paths = {e.path for region in one.regions for e in (*region.first, *region.second)}
        assert paths <= {path for path, split in run.splits().items() if split == "train"}


def test_flowers_are_no_birds(run: Run, birds: Catalog, flowers: Path) -> None:
    """Two dozen validation images tell what a bird looks like, and cannot promise an accuracy."""
    bundle = Predictor.load(run.folder)
    rows = birds.rows("test")[::4]
    known = bundle.predict([birds.file(row) for row in rows], coverage=0.9)
    strange = bundle.predict(sorted((flowers / "jpg").glob("*.jpg"))[::200], coverage=0.9)
    assert np.mean([v.level == "none" for v in known]) < 0.25
    assert np.mean([v.level == "none" for v in strange]) > 0.8
    named = zip(known, (birds.classes[birds.labels[row]] for row in rows), strict=True)
    assert np.mean([label in (v.possible or ()) for v, label in named]) > 0.75
    thresholds = bundle.bundle.thresholds()
    assert thresholds is not None
    assert any("it would take about" in note or "most confident" in note for note in thresholds.notes)


def test_flowers_are_told_apart(flowers: Path, tmp_path: Path) -> None:
    """Five classes of the official parts, two dozen test pictures of each."""
    catalog = read("flowers102", flowers)
    rows = [
        row
        for split in SPLITS
        for label in range(50, 55)
        for row in [row for row in catalog.rows(split) if catalog.labels[row] == label][:24]
    ]
    few = catalog.select(np.array(rows))
    classes = few.classes[50:55]
    few = replace(few, classes=classes, labels=few.labels - 50, taxonomy=Taxonomy(classes))
    run = train(few, "probe", out=tmp_path / "run", overrides=["images.size=64"])
    assert run.data()["counts"] == {"train": 50, "val": 50, "test": 120}
    evaluation = evaluate(run.folder, few)
    assert evaluation.num_images == 120
    assert evaluation.scores["top1"].value > 0.6  # a fifth by chance
