"""Grades, a taxonomy and attributes from the command line: trained, scored, answered and refused."""

from __future__ import annotations

import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldmark.answering.predictor import Predictor
from fieldmark.runs.run import Run

Cli = Callable[..., Any]
Tiny = Callable[..., list[str]]
ATTRIBUTES = '--set=labels.attributes=["tint", "grain"]'


@pytest.fixture
def table(pictures: Path, tmp_path: Path) -> Path:
    """Three classes of 14: `tint` follows the class, `grain` is known of half of them, `secret` is the label."""
    folder = shutil.copytree(pictures, tmp_path / "photographs")
    with (folder / "catalog.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ["path", "label", "split", "level.genus", "attribute.tint", "attribute.grain", "attribute.secret"]
        )
        for k, name in enumerate(("amber", "jade", "plum")):
            for i in range(14):
                split = "train" if i < 8 else "val" if i < 10 else "test"
                tint = "warm" if name == "amber" else "cold"
                grain = "" if i % 2 else ("fine" if i % 4 else "coarse")
                writer.writerow([f"{name}/{i:02}.png", name, split, f"genus {min(k, 1)}", tint, grain, name])
    return folder / "catalog.csv"


def scores(run: Run, split: str = "test") -> dict[str, Any]:
    return json.loads((run.evaluation(split) / "scores.json").read_text())


def test_attributes_are_learnt_scored_and_told(table: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    run = Run(tmp_path / "run")
    learning = tiny(backbone__weights="fieldguide", train__epochs="12", train__batch_size="8", train__lr="0.003")
    assert cli("train", table, *learning, ATTRIBUTES, "--out", run.folder).status == 0
    assert list(scores(run, "val")["attributes"]) == ["tint", "grain"]
    answer = cli("evaluate", run.folder)
    assert answer.status == 0
    found = scores(run)["attributes"]
    assert {name: one["num_images"] for name, one in found.items()} == {"tint": 12, "grain": 6}
    assert all(one["low"] <= one["value"] <= one["high"] for one in found.values())
    assert found["tint"]["value"] > 0.7  # half by chance
    printed = " ".join(answer.out.split())
    assert f"│ tint │ {100 * found['tint']['value']:.1f} % │" in printed
    with (run.evaluation("test") / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    warm = [row["attribute.tint"] == "warm" for row in rows]
    recall = [
        np.mean([w == is_ for w, row in zip(warm, rows, strict=True) if (row["label"] == "amber") == is_])
        for is_ in (True, False)
    ]
    assert found["tint"]["value"] == pytest.approx(np.mean(recall))

    image = table.parent / "amber" / "13.png"
    told = json.loads(cli("predict", run.folder, image, "--format", "json").out)["attributes"]
    assert list(told) == ["tint", "grain"]
    assert told["tint"]["value"] in ("warm", "cold")
    assert 0.5 <= told["tint"]["probability"] <= 1
    (row,) = csv.DictReader(io.StringIO(cli("predict", run.folder, image, "--format", "csv").out))
    assert row["attribute.tint"] == told["tint"]["value"]
    assert float(row["attribute.tint.probability"]) == told["tint"]["probability"]
    assert (
        f"tint {told['tint']['value']} {100 * told['tint']['probability']:.1f} %"
        in cli("predict", run.folder, image).out
    )

    predictor = Predictor.load(run.folder)
    assert predictor.bundle.attributes == {"tint": ("cold", "warm"), "grain": ("coarse", "fine")}
    assert "secret" not in (run.bundle / "model.json").read_text()
    single, pooled = predictor.predict([image], bursts=True)
    assert single.attributes is not None
    assert pooled.attributes is not None
    assert single.attributes["tint"].value == pooled.attributes["tint"].value == told["tint"]["value"]
    assert single.attributes["tint"].probability == pytest.approx(told["tint"]["probability"], abs=1e-5)


def test_data_without_the_attributes_is_scored_all_the_same(
    table: Path, parted: Path, tmp_path: Path, cli: Cli, tiny: Tiny
) -> None:
    run = Run(tmp_path / "run")
    assert cli("train", table, *tiny(), ATTRIBUTES, "--out", run.folder).status == 0
    answer = cli("evaluate", run.folder, parted)
    assert answer.status == 0
    assert "warning: parted does not have the attribute 'tint', so it is not scored." in answer.err
    assert "attributes" not in scores(run)
    table.write_text(table.read_text().replace("warm,fine", "hot,fine"))
    answer = cli("evaluate", run.folder)
    what = "the score of 'tint': the model does not know the values hot"
    assert f"warning: 1 image left out of {what}." in answer.err
    assert scores(run)["attributes"]["tint"]["num_images"] == 11


@pytest.mark.parametrize("protocol", ["holdout", "crossfit"])
def test_a_probe_learns_attributes(table: Path, tmp_path: Path, cli: Cli, protocol: str) -> None:
    run = Run(tmp_path / "run")
    settings = ["images.size=32", f"protocol={protocol}", "folds=2"]
    options = ["--backbone", "test_resnet", "--weights", "none", *(f"--set={one}" for one in settings)]
    assert cli("train", table, "--recipe", "probe", *options, ATTRIBUTES, "--out", run.folder).status == 0
    split = "val" if protocol == "holdout" else "crossfit"
    assert scores(run, split)["attributes"]["tint"]["num_images"] == (6 if split == "val" else 30)
    assert cli("evaluate", run.folder).status == 0
    assert scores(run)["attributes"]["tint"]["value"] > 0.7


def test_grades_and_a_taxonomy_are_scored(table: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    run = Run(tmp_path / "run")
    order = '--set=labels.order=["plum", "amber", "jade"]'
    assert cli("train", table, *tiny(loss__name="ordinal"), order, "--out", run.folder).status == 0
    answer = cli("evaluate", run.folder)
    with (run.evaluation("test") / "predictions.csv").open(newline="") as file:
        rows = [(row["label"], row["predicted"]) for row in csv.DictReader(file)]
    grade = {"plum": 0, "amber": 1, "jade": 2}
    genus = {"amber": 0, "jade": 1, "plum": 1}
    found = scores(run)
    assert found["grade_error"]["value"] == pytest.approx(np.mean([abs(grade[a] - grade[b]) for a, b in rows]))
    assert found["tree_distance"]["value"] == pytest.approx(
        np.mean([(a != b) + (genus[a] != genus[b]) for a, b in rows])
    )
    assert -1 <= found["quadratic_kappa"]["value"] <= 1
    for title in ("quadratic weighted kappa", "mean error in grades", "mean taxonomic distance"):
        assert f"│ {title} │" in " ".join(answer.out.split())
    assert Predictor.load(run.folder).bundle.recipe.labels.order == ("plum", "amber", "jade")


def test_plain_classes_have_neither(trained: Run, cli: Cli) -> None:
    cli("evaluate", trained.folder)
    assert not {"quadratic_kappa", "grade_error", "tree_distance", "mistake_severity"} & set(scores(trained))


def test_the_taxonomy_loss_learns(table: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    assert cli("train", table, *tiny(loss__name="taxonomy"), "--out", tmp_path / "run").status == 0


REFUSED = [
    (
        "loss.name=taxonomy",
        "The loss 'taxonomy' needs a taxonomy of the classes, but the data has none. Nest the class",
    ),
    (
        "loss.name=ordinal",
        "The loss 'ordinal' needs ordered classes, but neither their names nor the recipe define an order.",
    ),
    ('labels.order=["amber", "jade"]', "labels.order leaves out plum. List every class, from the lowest grade up."),
    (
        'labels.attributes=["tint"]',
        "labels.attributes names 'tint', but photographs has no attributes. Give its table a",
    ),
]


@pytest.mark.parametrize(("setting", "complaint"), REFUSED)
def test_labels_that_the_data_does_not_have(
    pictures: Path, tmp_path: Path, cli: Cli, tiny: Tiny, setting: str, complaint: str
) -> None:
    data = shutil.copytree(pictures, tmp_path / "photographs")
    answer = cli("train", data, *tiny(), "--set", setting, "--out", tmp_path / "run")
    assert answer.complaint.startswith(complaint)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        (
            'labels.attributes=["tnit"]',
            "labels.attributes names 'tnit', which photographs does not have. Did you mean 'tint'?",
        ),
        ('labels.attributes=["tint", "tint"]', "labels.attributes names 'tint' twice."),
        ('labels.attributes=["name"]', "The attribute 'name' has 30 values in 30 images, too many to learn."),
        ('labels.attributes=["one"]', "The attribute 'one' has only the value 'x' outside the test split. Leave"),
        (
            "labels.attributes=tint",
            "--set: labels.attributes = 'tint' is not allowed. Input should be a list in brackets.",
        ),
    ],
)
def test_attributes_that_cannot_be_learnt(
    table: Path, tmp_path: Path, cli: Cli, tiny: Tiny, setting: str, complaint: str
) -> None:
    header, *lines = table.read_text().splitlines()
    more = [f"{line},bird {at},{'y' if ',test,' in line else 'x'}" for at, line in enumerate(lines)]
    table.write_text("\n".join([f"{header},attribute.name,attribute.one", *more]))
    answer = cli("train", table, *tiny(), "--set", setting, "--out", tmp_path / "run")
    assert answer.complaint.startswith(complaint)


def test_a_logistic_regression_has_a_loss_of_its_own(table: Path, tmp_path: Path, cli: Cli) -> None:
    complaint = cli(
        "train", table, "--recipe", "probe", "--set", "loss.name=taxonomy", "--out", tmp_path / "run"
    ).complaint
    assert complaint.startswith("A logistic regression minimises cross-entropy and cannot use the loss 'taxonomy'.")


def test_bundles_of_before_are_read(trained: Run) -> None:
    """They knew neither attributes nor an order."""
    path = trained.bundle / "model.json"
    description = json.loads(path.read_text())
    assert description["format"] == 2
    del description["attributes"], description["labels"], description["indexed"]
    path.write_text(json.dumps(description))
    (trained.bundle / "index.json").unlink()
    bundle = Predictor.load(trained.folder).bundle
    assert not bundle.attributes
    assert bundle.recipe.labels.order == "auto"
