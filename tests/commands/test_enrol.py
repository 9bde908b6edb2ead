"""`fieldmark enrol`: a new class from photographs, how it answers, how it is changed and taken out, what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import fieldmark
from conftest import paint
from fieldmark.answering.predictor import Predictor
from fieldmark.commands.enrol import _again, enrol
from fieldmark.commands.evaluate import evaluate
from fieldmark.commands.train import train
from fieldmark.core.errors import DataError, RunError
from fieldmark.core.locks import lock
from fieldmark.data.sets import read
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.gallery.known import SAME
from fieldmark.gallery.maker import maker_of
from fieldmark.runs import enrolling
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run
from support.commands import settings
from support.hearing import Heard

Cli = Callable[..., Any]


@pytest.fixture
def teal(tmp_path: Path) -> Path:
    """Photographs of a colour that nobody has learnt."""
    return painted(tmp_path / "teal", (0, 250, 250), 5, seed=900)


def painted(folder: Path, color: tuple[int, int, int], count: int, seed: int) -> Path:
    folder.mkdir()
    for i in range(count):
        paint(color, seed + i).save(folder / f"{i}.png")
    return folder


def files(run: Run) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.bundle.iterdir()}


def test_a_new_class_answers_and_goes_again(trained: Run, teal: Path, pictures: Path, cli: Cli) -> None:
    before, answers = files(trained), Predictor.load(trained.folder).outputs(teal)
    maker = maker_of(Predictor.load(trained.folder))
    answer = cli("enrol", trained.folder, "teal", teal)
    assert answer.status == 0
    assert answer.out.startswith("teal is known from 5 photographs; ")
    assert "Scores of the model before this, until they are made again: val" in answer.err
    predictor = Predictor.load(trained.folder)
    assert predictor.classes == ("amber", "jade", "plum", "teal")
    outputs = predictor.outputs(teal)
    np.testing.assert_allclose(outputs.logits[:, :3], answers.logits, atol=1e-5)
    assert maker_of(predictor) == maker, "galleries stay valid"
    assert predictor.predict_proba(teal).shape == (5, 4)
    (verdict, *_) = [one for one in predictor.predict([*teal.glob("*.png")]) if one.label == "teal"]
    assert "(from 5 photographs)" in repr(verdict)
    assert verdict.as_dict()["photographs"] == 5
    assert all("photographs" not in one.as_dict() for one in predictor.predict(pictures) if one.label != "teal")
    assert {name: data for name, data in files(trained).items() if name in before} == before, (
        "training's own files stay"
    )

    gone = cli("enrol", trained.folder, "Teal", "--remove")
    assert gone.out == "teal is no class any more\n"
    assert "Scores" not in gone.err, "they are of this model again"
    assert files(trained) == before
    np.testing.assert_array_equal(Predictor.load(trained.folder).outputs(teal).logits, answers.logits)


def test_several_classes_come_and_go_in_any_order(trained: Run, teal: Path, tmp_path: Path) -> None:
    rose = painted(tmp_path / "rose", (250, 0, 120), 3, seed=950)
    enrol(trained.folder, "teal", teal)
    alone = Predictor.load(trained.folder).outputs(rose).logits
    first = Bundle.load(trained.folder).enrolled_as
    enrol(trained.folder, "rose", rose)
    assert Bundle.load(trained.folder).photographs == {"teal": 5, "rose": 3}
    enrol(trained.folder, "teal", remove=True)
    assert Bundle.load(trained.folder).photographs == {"rose": 3}
    enrol(trained.folder, "teal", teal)
    assert Bundle.load(trained.folder).classes[3:] == ("rose", "teal")
    enrol(trained.folder, "rose", remove=True)
    assert Bundle.load(trained.folder).enrolled_as == first
    np.testing.assert_array_equal(Predictor.load(trained.folder).outputs(rose).logits, alone)
    assert len(list(trained.bundle.glob("enrolled-*"))) == 1


def test_photographs_are_added_and_copies_and_damaged_ones_skipped(trained: Run, teal: Path, cli: Cli) -> None:
    some = [teal / f"{i}.png" for i in range(3)]
    enrol(trained.folder, "teal", some)
    (teal / "broken.png").write_bytes(b"no picture")
    answer = cli("enrol", trained.folder, "teal", "--add", *sorted(teal.glob("*.png")))
    assert answer.status == 1
    assert answer.out.startswith("teal is known from 5 photographs; ")
    assert answer.err.count("the same picture was given before") == 3
    assert answer.err.count("skipped: ") == 4
    assert Bundle.load(trained.folder).photographs == {"teal": 5}


@given(st.lists(st.integers(0, 12), max_size=5), st.lists(st.integers(0, 12), max_size=9))
def test_the_same_picture_is_left_out_whenever_it_comes(before: list[int], drawn: list[int]) -> None:
    """Neighbours on the circle are the same picture, and those two steps apart are not."""
    angles = 0.01 * np.array([*before, *drawn], float)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    seen, expected = list(vectors[: len(before)]), []
    for own in vectors[len(before) :]:
        expected.append(any(own @ other > SAME for other in seen))
        seen += [] if expected[-1] else [own]
    assert _again(vectors[len(before) :], vectors[: len(before)]).tolist() == expected


def test_a_class_gets_another_name(trained: Run, teal: Path, cli: Cli) -> None:
    enrol(trained.folder, "teal", teal)
    before = Predictor.load(trained.folder).outputs(teal).logits
    assert cli("enrol", trained.folder, "TEAL", "--rename", "cyan").out == "cyan is known from 5 photographs\n"
    assert Predictor.load(trained.folder).classes[3] == "cyan"
    np.testing.assert_array_equal(Predictor.load(trained.folder).outputs(teal).logits, before)
    assert enrol(trained.folder, "cyan", rename="Cyan").name == "Cyan"
    with pytest.raises(RunError, match="jade is a class of this run already"):
        enrol(trained.folder, "cyan", rename="Jade")


def test_what_is_refused(trained: Run, teal: Path, cli: Cli) -> None:
    enrol(trained.folder, "teal", teal)
    kept = files(trained)
    for arguments, said in (
        (["Teal", teal], "teal is enrolled already, from 5 photographs. To add photographs: --add."),
        (["Jade", teal], "jade is a class of this run already, learnt in training."),
        (["jade", teal, "--add"], "jade was learnt in training, not enrolled."),
        (["jade", "--remove"], "jade was learnt in training, not enrolled."),
        (["teel", "--remove"], "No class 'teel' is enrolled in"),
        (["rose"], "No photographs were given. Give files,"),
        (["rose", teal, "--remove"], "A class is either shown, renamed or removed."),
        ([" ", teal], "The name of the class is empty."),
        (["rose", teal / "nothing"], f"{teal / 'nothing'}"),
        (["rose", teal, "--under", "genus=x"], "The taxonomy of this run has no level 'genus'."),
        (["rose", teal, "--under", "genus"], "--under cannot be 'genus'."),
        (["rose", teal], "No photograph can be used: "),
    ):
        assert said in cli("enrol", trained.folder, *arguments).complaint
    assert files(trained) == kept


def test_one_photograph_will_do_and_is_said_to_be_little(trained: Run, teal: Path, cli: Cli) -> None:
    answer = cli("enrol", trained.folder, "teal", teal / "0.png")
    assert answer.out == "teal is known from 1 photograph\n"
    assert "One photograph shows little of teal" in answer.err
    assert "(from 1 photograph)" in repr(Predictor.load(trained.folder).predict(teal / "0.png"))


def test_odd_photographs_are_named_and_shown(trained: Run, teal: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = enrolling.fit_enrolment
    odd = np.arange(5) == 1
    monkeypatch.setattr(enrolling, "fit_enrolment", lambda *given, **named: fit(*given, **named)._replace(odd=odd))
    heard = Heard()
    found = enrol(trained.folder, "teal", sorted(teal.glob("*.png")), listener=heard)
    assert found.odd == (str(teal / "1.png"),)
    page = trained.folder / "enrolled.html"
    (warning,) = (text for text in heard.warnings if "1 photograph does not look like the others of teal" in text)
    assert f"They are shown in {page}" in warning
    shown = page.read_text()
    assert shown.count("<img") == 5
    assert shown.index("Unlike the others") < shown.index("1.png") < shown.index("The others") < shown.index("0.png")


def test_a_place_in_the_taxonomy(pictures: Path, teal: Path, tmp_path: Path) -> None:
    catalog = read(pictures)
    levels = {"tone": ("warm", "cold", "warm"), "kingdom": ("hue", "hue", "hue")}
    catalog = replace(catalog, taxonomy=Taxonomy.of(catalog.classes, levels))
    run = train(catalog, "walkthrough", out=tmp_path / "run", overrides=settings()).folder
    with pytest.raises(RunError, match=r"which tone the new class belongs\. Say it with --under tone=NAME"):
        enrol(run, "teal", teal)
    with pytest.raises(RunError, match=r"The kingdom 'other' does not go with tone 'cold', which belongs to 'hue'"):
        enrol(run, "teal", teal, under={"tone": "cold", "kingdom": "other"})
    with pytest.raises(RunError, match="warm is the name of a tone"):
        enrol(run, "Warm", teal, under={"tone": "cold"})
    with pytest.raises(RunError, match="which kingdom"):
        enrol(run, "teal", teal, under={"tone": "bright"})
    enrol(run, "teal", teal, under={"Tone": "Cold"})
    bundle = Bundle.load(run)
    assert bundle.taxonomy.parent("teal", "tone") == "cold"
    assert bundle.taxonomy.parent("teal", "kingdom") == "hue"
    assert len(Predictor.load(run).predict(teal)) == 5


@pytest.mark.parametrize(
    ("recipe", "protocol"),
    [("walkthrough", "crossfit"), ("walkthrough", "refit"), ("probe", "holdout"), ("probe", "crossfit")],
)
def test_recipes_and_protocols(recipe: str, protocol: str, pictures: Path, teal: Path, tmp_path: Path) -> None:
    overrides = [f"protocol={protocol}", *(one for one in settings() if not one.startswith("train."))]
    run = train(pictures, recipe, out=tmp_path / "run", overrides=overrides).folder
    heard = Heard()
    enrol(run, "teal", teal, listener=heard)
    assert (Bundle.load(run).calibration is None) == (protocol == "refit")
    assert any("Nothing was held out in training" in text for text in heard.notes) == (protocol == "refit")
    assert Predictor.load(run).predict_proba(teal).shape == (5, 4)


def test_a_bundle_of_before_keeps_nothing_to_enrol_by(trained: Run, teal: Path) -> None:
    index = json.loads((trained.bundle / "index.json").read_text())
    del index["sha256"]["held.safetensors"]
    (trained.bundle / "index.json").write_text(json.dumps(index))
    (trained.bundle / "held.safetensors").unlink()
    with pytest.raises(RunError, match="keeps nothing by which a class could be enrolled"):
        enrol(trained.folder, "teal", teal)


def test_an_enrolled_bundle_is_saved_whole_and_known_for_its_own(trained: Run, teal: Path, tmp_path: Path) -> None:
    enrol(trained.folder, "teal", teal)
    predictor = Predictor.load(trained.folder)
    predictor.save(tmp_path / "copy")
    again = Predictor.load(tmp_path / "copy")
    assert again.classes == predictor.classes
    np.testing.assert_array_equal(again.outputs(teal).logits, predictor.outputs(teal).logits)
    enrol(tmp_path / "copy", "teal", remove=True)
    (arrays,) = trained.bundle.glob("enrolled-*")
    other = json.loads((trained.bundle / "enrolled.json").read_text()) | {"bundle": "0" * 64}
    damaged = arrays.read_bytes()
    arrays.write_bytes(damaged[:-1] + bytes([damaged[-1] ^ 1]))
    with pytest.raises(RunError, match="is damaged: its SHA-256"):
        Bundle.load(trained.folder)
    arrays.unlink()
    with pytest.raises(RunError, match="cannot be read"):
        Bundle.load(trained.folder)
    (trained.bundle / "enrolled.json").write_text(json.dumps(other))
    with pytest.raises(RunError, match="were enrolled in another bundle"):
        Bundle.load(trained.folder)


def test_what_a_killed_process_left_is_nothing(trained: Run, teal: Path) -> None:
    before = files(trained)
    torn = trained.bundle / "enrolled-0123456789abcdef.safetensors"
    torn.write_bytes(b"half of it")
    assert not Bundle.load(trained.folder).photographs
    enrol(trained.folder, "teal", teal)
    assert not torn.exists()
    enrol(trained.folder, "teal", remove=True)
    assert files(trained) == before


def test_one_process_at_a_time(trained: Run, teal: Path, cli: Cli) -> None:
    with lock(trained.bundle / ".enrolling"):
        assert "Another process is enrolling in" in cli("enrol", trained.folder, "teal", teal).complaint
    assert cli("enrol", trained.folder, "teal", teal).status == 0


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "jade"}, "its names do not go with those of the bundle"),
        ({"above": {"genus": "x"}}, "its names do not go with those of the bundle"),
        ({"photographs": 4}, "it has other photographs"),
        ({"photographs": -1}, "enrolled.json"),
    ],
)
def test_a_description_that_is_wrong(changes: dict[str, Any], said: str, trained: Run, teal: Path, cli: Cli) -> None:
    enrol(trained.folder, "teal", teal)
    path = trained.bundle / "enrolled.json"
    found = json.loads(path.read_text())
    path.write_text(json.dumps(found | {"classes": [found["classes"][0] | changes]}))
    assert said in cli("predict", trained.folder, teal).complaint


def test_scores_say_which_model_they_are_of(trained: Run, pictures: Path, teal: Path, tmp_path: Path, cli: Cli) -> None:
    evaluate(trained.folder)
    enrol(trained.folder, "teal", teal)
    page = tmp_path / "page.html"
    told = "these scores are of the model before"
    cli("report", trained.folder, "--out", page)
    assert told in page.read_text()
    everything = tmp_path / "all"
    shutil.copytree(pictures, everything)
    shutil.copytree(teal, everything / "teal")
    assert evaluate(trained.folder, everything, out=tmp_path / "scores").num_images == 47, "new classes are scored, too"
    evaluate(trained.folder)
    cli("report", trained.folder, "--out", page)
    assert told not in page.read_text()
    enrol(trained.folder, "teal", remove=True)
    cli("report", trained.folder, "--out", page)
    assert told in page.read_text()


def test_an_enrolled_class_was_not_trained_on(trained: Run, pictures: Path, teal: Path, tmp_path: Path) -> None:
    everything = shutil.copytree(pictures, tmp_path / "all")
    shutil.copytree(teal, everything / "teal")
    enrol(trained.folder, "teal", teal)
    found = fieldmark.retrieve(trained.folder, everything, unseen=True)
    assert (found.num_classes, found.num_pictures) == (1, 5)


def test_a_new_class_is_explained(trained: Run, teal: Path) -> None:
    enrol(trained.folder, "teal", teal)
    found = fieldmark.explain(trained.folder, teal / "0.png")
    if found.first != "teal":
        found = fieldmark.explain(trained.folder, teal / "0.png", versus="teal")
    assert "teal" in (found.first, found.second)
    assert any("No photograph of teal is kept" in note for note in found.notes)
    assert np.isfinite(found.margin)


def test_from_python(trained: Run, tmp_path: Path) -> None:
    noise = [np.asarray(Image.effect_noise((48, 48), 80 + i).convert("RGB")) for i in range(4)]
    found = fieldmark.enrol(trained.folder, "noise", noise)
    assert (found.name, found.photographs) == ("noise", 4)
    with pytest.raises(DataError, match="No photographs were given"):
        fieldmark.enrol(trained.folder, "other")
