"""`fieldmark verify`: two photographs, a photograph and what is known, and thresholds that are measured for both."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fieldmark
from conftest import paint
from fieldmark.commands.verify import identify, measure, verify
from fieldmark.core.errors import DataError, FieldmarkWarning, ImageError, RunError
from fieldmark.gallery.judged import Identified
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run
from support.hearing import Heard

Cli = Callable[..., Any]
COLOURS = {
    "black": (0, 0, 0),
    "blue": (0, 0, 250),
    "green": (0, 250, 0),
    "grey": (128, 128, 128),
    "pink": (250, 150, 200),
    "red": (250, 0, 0),
    "rose": (250, 0, 120),
    "teal": (0, 250, 250),
    "white": (255, 255, 255),
    "yellow": (250, 250, 0),
}
RATE = 0.2


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of colours that nobody has learnt."""
    root = tmp_path_factory.mktemp("others")
    for k, (name, colour) in enumerate(COLOURS.items()):
        (root / name).mkdir()
        for i in range(6):
            paint(colour, 5000 + 100 * k + i).save(root / name / f"{i}.png")
    return root


@pytest.fixture
def measured(trained: Run, others: Path) -> Run:
    measure(trained.folder, others)
    return trained


def test_a_pair_at_a_measured_threshold(measured: Run, others: Path, cli: Cli) -> None:
    one, other = others / "red" / "0.png", others / "red" / "1.png"
    answer = cli("verify", measured.folder, one, other, "--false-accepts", RATE, "--format", "json")
    assert answer.status == 0
    found = json.loads(answer.out)
    assert answer.err == "", "nothing to warn of: the classes are new"
    assert not found["of_learnt_classes"]
    predictor = fieldmark.Predictor.load(measured.folder)
    kept = Bundle.load(measured.folder).read_kept()
    assert kept is not None
    plda = kept.plda()
    own = plda.coordinates(predictor.embed([one, other]).astype(np.float64))
    assert found["likeness"] == pytest.approx(plda.same(own[:1], own[1:])[0], abs=1e-2)
    assert found["answer"] == ("same" if found["likeness"] >= found["threshold"] else "different")
    assert found["accepted"]["different"]["value"] <= RATE
    assert verify(predictor, other, one, false_accepts=RATE).likeness == pytest.approx(found["likeness"], abs=1e-2)
    lines = cli("verify", measured.folder, one, other, "--false-accepts", RATE).out.splitlines()
    assert lines[0].startswith(f"{found['answer']}, at 20 % false accepts")
    assert lines[-1].startswith("  threshold from 60 photographs of 10 classes that the run was not trained on (")


def test_alike_means_the_same_and_unlike_different(measured: Run, others: Path) -> None:
    """At the threshold, and with the shares that the pair's own likeness has."""
    right = []
    for name in ("red", "blue", "white", "green"):
        pair = verify(measured.folder, others / name / "0.png", others / name / "1.png", false_accepts=RATE)
        other = verify(measured.folder, others / name / "0.png", others / "pink" / "1.png", false_accepts=RATE)
        right.append(pair.likeness > other.likeness)
        for found in (pair, other):
            assert found.same == (found.alike.false_accepts.value <= found.point.false_accepts.value)
            assert found.answer in repr(found)
    assert sum(right) >= 3


def test_measuring_sets_learnt_classes_aside(
    trained: Run, others: Path, pictures: Path, tmp_path: Path, cli: Cli
) -> None:
    both = tmp_path / "both"
    shutil.copytree(others, both)
    shutil.copytree(pictures / "jade", both / "Jade")
    (both / "red" / "broken.png").write_bytes(b"no picture")
    answer = cli("verify", trained.folder, "--measure", both, "--format", "json")
    assert answer.status == 1
    assert "14 photographs of classes that the run was trained on set aside" in answer.err
    assert "skipped: " in answer.err
    found = json.loads(answer.out)
    assert (found["photographs"], found["classes"]) == (60, 10)
    assert found["pairs"] == {"same": 150, "different": 1620}
    assert 0 < found["equal_error_rate"]["low"] <= found["equal_error_rate"]["value"] < 0.5
    rates = [one["true_accepts"]["value"] for one in found["roc"]]
    assert rates == sorted(rates)
    again = cli("verify", trained.folder, "--measure", others)
    assert "60 photographs of 10 classes that the run was not trained on, 0 of them added now: " in again.out
    assert "not promised: too few classes" in again.out
    with pytest.raises(DataError, match="There is no photograph of a class that the run was not trained on"):
        measure(trained.folder, pictures)
    with pytest.raises(DataError, match="only the latter"):
        measure(trained.folder, _table(tmp_path, others), measured=tmp_path / "elsewhere")


def _table(folder: Path, others: Path) -> Path:
    """One photograph of each class."""
    path = folder / "one.csv"
    path.write_text("path,label\n" + "".join(f"{others / name / '0.png'},{name}\n" for name in COLOURS))
    return path


def test_what_was_measured_is_of_one_model(measured: Run, others: Path, tmp_path: Path, cli: Cli) -> None:
    pair = others / "red" / "0.png", others / "red" / "1.png"
    place = tmp_path / "kept"
    assert cli("verify", measured.folder, "--measure", others, "--measured", place).status == 0
    assert verify(measured.folder, *pair, measured=place, false_accepts=RATE).basis.endswith(f"({place})")
    with pytest.raises(RunError, match="Nothing was measured at"):
        verify(measured.folder, *pair, measured=tmp_path / "nothing")
    predictor = fieldmark.Predictor.load(measured.folder)
    with_other_weights = predictor.model.backbone.model
    next(with_other_weights.parameters()).data.add_(0.01)
    with pytest.raises(RunError, match=r"is of another model, one .*: transfer on .* \(weights \w{8}\), where"):
        verify(predictor, *pair)


def test_the_evidence_is_a_picture(measured: Run, others: Path, tmp_path: Path, cli: Cli) -> None:
    pair = [others / "red" / "0.png", others / "red" / "1.png", "--false-accepts", RATE]
    picture = tmp_path / "pictures" / "evidence.png"
    assert cli("verify", measured.folder, *pair, "--evidence", picture).status == 0
    with Image.open(picture) as image:
        assert image.size == (1265, 803)
        assert len(np.unique(np.asarray(image.convert("RGB")).reshape(-1, 3), axis=0)) > 1000
    assert cli("verify", measured.folder, *pair, "--evidence", picture).status == 0, "its own picture is replaced"
    foreign = shutil.copy(others / "red" / "0.png", tmp_path / "mine.png")
    assert "is in the way" in cli("verify", measured.folder, *pair, "--evidence", foreign).complaint


def test_three_learnt_classes_promise_nothing(trained: Run, others: Path, cli: Cli) -> None:
    pair = others / "red" / "0.png", others / "red" / "1.png"
    assert "was trained on 3 classes, too few to say how often" in cli("verify", trained.folder, *pair).complaint


def test_without_a_measurement_the_threshold_is_that_of_learnt_classes(
    others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = fieldmark.train(
        others,
        "probe",
        out=tmp_path / "run",
        overrides=["images.size=32", "backbone.name=test_resnet", "backbone.weights=none", "protocol=crossfit"],
    ).folder
    monkeypatch.setattr("fieldmark.evaluation.verification._WIDEST", 10)
    with pytest.warns(FieldmarkWarning, match="comes from classes that the run was trained on"):
        found = verify(run, others / "red" / "0.png", others / "red" / "1.png", false_accepts=RATE)
    assert found.learnt
    assert found.basis == "50 images of 10 classes that the run was trained on"


def test_what_cannot_be_compared(measured: Run, others: Path, tmp_path: Path, cli: Cli) -> None:
    one, other = others / "red" / "0.png", others / "red" / "1.png"
    copy = shutil.copy(one, tmp_path / "copy.png")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    for arguments, said in (
        ([one, copy], "are the same photograph, which proves nothing"),
        ([one, broken], "broken.png"),
        ([one], "1 photograph instead of two. Expected: fieldmark verify RUN A B"),
        ([], "No photographs were given. Expected:"),
        ([one, others / "red"], "Two pictures are compared, and one of them is 6"),
        ([one, other, "--false-accepts", "1"], "--false-accepts 1 is no share"),
        ([one, other, "--false-accepts", "0.001"], "of 0.1 % cannot be promised from 10 classes: "),
        ([one, other, "--measure", others], "--measure takes its own photographs"),
        (["--reference", others], "No photograph was given to compare"),
        ([one, "--reference", others, "--evidence", "x.png"], "--evidence is about two photographs"),
        ([one, "--reference", copy], "The reference has no photograph but"),
        ([one, "--reference", broken], "has no photograph that can be read"),
    ):
        assert said in cli("verify", measured.folder, *arguments).complaint
    with pytest.raises(ImageError):
        verify(measured.folder, broken, one)


def test_a_bundle_of_before_keeps_nothing_to_compare_by(trained: Run, others: Path) -> None:
    index = json.loads((trained.bundle / "index.json").read_text())
    del index["sha256"]["held.safetensors"]
    (trained.bundle / "index.json").write_text(json.dumps(index))
    with pytest.raises(RunError, match=r"keeps nothing by which pictures could be compared\. It is of an earlier"):
        verify(trained.folder, others / "red" / "0.png", others / "red" / "1.png")


def test_which_of_the_known_ones(measured: Run, others: Path, tmp_path: Path, cli: Cli) -> None:
    known = tmp_path / "known"
    for name in ("red", "blue", "white"):
        shutil.copytree(others / name, known / name)
    asked = known / "blue" / "0.png"
    answer = cli("verify", measured.folder, asked, "--reference", known, "--false-accepts", RATE, "--format", "json")
    assert answer.status == 0
    found = json.loads(answer.out)
    assert sorted(one["name"] for one in found["candidates"]) == ["blue", "red", "white"]
    photographs = {one["name"]: one["photographs"] for one in found["candidates"]}
    assert photographs == {"blue": 5, "red": 6, "white": 6}, "without the photograph itself"
    assert str(asked) not in [path for one in found["candidates"] for path in one["nearest"]]
    likeness = [one["likeness"] for one in found["candidates"]]
    assert likeness == sorted(likeness, reverse=True)
    assert found["name"] == (found["candidates"][0]["name"] if likeness[0] >= found["threshold"] else None)
    assert found["named"]["strangers"]["value"] <= RATE
    assert found["basis"].startswith("17 photographs of the reference and 42 photographs of 7 classes that the run")
    said = cli("verify", measured.folder, asked, "--reference", known, "--false-accepts", RATE).out
    assert said.startswith(f"{asked}: {found['name'] or 'none of them'}, at 20 % false identifications")


def test_one_genuine_article_and_a_gallery(measured: Run, others: Path, tmp_path: Path) -> None:
    heard = Heard()
    fakes = [others / "blue" / "0.png", tmp_path / "gone.png", others / "red" / "5.png"]
    genuine = tmp_path / "genuine"
    genuine.mkdir()
    for k in range(5):
        shutil.copy(others / "red" / f"{k}.png", genuine)
    blue, gone, red = identify(measured.folder, fakes, genuine, false_positives=RATE, listener=heard)
    assert isinstance(blue, Identified)
    assert isinstance(red, Identified)
    assert (red.candidates[0].name, red.candidates[0].photographs, red.num_known) == ("genuine", 5, 1)
    assert red.candidates[0].likeness > blue.candidates[0].likeness
    assert "gone.png" in getattr(gone, "path", "")
    named = red.candidates[0].likeness >= red.point.threshold
    assert red.said[0].startswith(f"{red.path}: {'genuine' if named else 'not genuine'}, at")
    fieldmark.index(measured.folder, genuine, gallery=tmp_path / "gallery")
    (again,) = identify(measured.folder, others / "red" / "5.png", tmp_path / "gallery", false_positives=RATE)
    assert isinstance(again, Identified)
    assert again.candidates[0].name == "gallery"
    assert again.candidates[0].likeness == pytest.approx(red.candidates[0].likeness, abs=0.1)
