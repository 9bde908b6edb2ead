"""Flips are switched off where they would teach the wrong class, by the tool itself, once for a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from fieldmark.answering.predictor import Predictor
from fieldmark.commands.train import train
from fieldmark.core.errors import RunError
from fieldmark.core.listener import Event, StepTaken
from fieldmark.core.recipe import Recipe
from fieldmark.data.sets import read
from fieldmark.learning.fitting import flips
from support.hearing import Heard


def recipe(**augment: Any) -> Recipe:
    return Recipe.parse(
        {
            "protocol": "refit",
            "images": {"size": 32},
            "backbone": {"name": "test_resnet", "weights": "none"},
            "augment": augment,
            "train": {"epochs": 1, "batch_size": 16, "precision": "fp32"},
        },
        source="test",
    )


@pytest.fixture(scope="module")
def arrows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Arrows to the east and to the west, and a class without a direction; no name says so."""
    root = tmp_path_factory.mktemp("arrows")
    rng = np.random.default_rng(0)
    for name in ("east", "west", "round"):
        (root / name).mkdir()
        for i in range(30):
            ground, ink = rng.integers(0, 110, 3), rng.integers(150, 256, 3)
            picture = Image.new("RGB", (64, 64), tuple(ground.tolist()))
            pen = ImageDraw.Draw(picture)
            x, y, r = (int(v) for v in (rng.integers(26, 38), rng.integers(26, 38), rng.integers(14, 22)))
            sign = 1 if name == "east" else -1
            shape = [(x + sign * r, y), (x - sign * r, y - r), (x - sign * r, y + r)]
            colour = tuple(ink.tolist())
            if name == "round":
                pen.ellipse([x - r, y - r, x + r, y + r], fill=colour)
            else:
                pen.polygon(shape, fill=colour)
            picture.save(root / name / f"{i:02}.png")
    return root


def note_of(listener: Heard) -> list[str]:
    return [note for note in listener.notes if "mirror" in note]


def test_flips_are_switched_off_and_the_run_says_why(arrows: Path, tmp_path: Path) -> None:
    listener = Heard()
    run = train(arrows, recipe(), out=tmp_path / "run", listener=listener)
    (note,) = note_of(listener)
    assert note.startswith("Training images are not mirrored: ")
    assert "'east'" in note
    assert "'west'" in note
    found = run.decided("flip")
    assert found["keeps_meaning"] is False
    assert sorted(found["pair"]) == ["east", "west"]
    assert found["exchanged"] > 0.8
    assert run.recipe().augment.flip == "auto"


def test_the_recipes_word_counts(arrows: Path, tmp_path: Path) -> None:
    for flip in (True, False):
        listener = Heard()
        run = train(arrows, recipe(flip=flip), out=tmp_path / str(flip), listener=listener)
        assert not note_of(listener)
        assert run.decided("flip") is None


def test_answers_mirror_where_training_does(arrows: Path, pictures: Path, tmp_path: Path) -> None:
    for data, mirrored in ((arrows, False), (pictures, True)):
        asked = recipe().with_overrides(["images.mirror=true"])
        predictor = Predictor.load(train(data, asked, out=tmp_path / data.name).folder)
        assert predictor.bundle.images.mirror is mirrored
        assert predictor.model.mirrored is mirrored


def test_ordinary_pictures_are_mirrored(pictures: Path, tmp_path: Path) -> None:
    listener = Heard()
    run = train(pictures, recipe(), out=tmp_path / "run", listener=listener)
    assert run.decided("flip")["keeps_meaning"] is True
    assert not note_of(listener)


@pytest.mark.parametrize(("each", "named"), [(4, False), (12, True)])
def test_few_images_are_said_to_be_too_few(arrows: Path, tmp_path: Path, each: int, named: bool) -> None:
    """Who trains hears that it cannot be told, not that a mirror keeps the meaning."""
    for name in ("east", "round"):
        (tmp_path / "few" / name).mkdir(parents=True)
        for i in range(each):
            (tmp_path / "few" / name / f"{i:02}.png").symlink_to(arrows / name / f"{i:02}.png")
    listener = Heard()
    run = train(tmp_path / "few", recipe(), out=tmp_path / "run", listener=listener)
    (note,) = note_of(listener)
    assert note.startswith("Training images are mirrored, but they are too few to tell")
    assert ("'east' and 'round'" in note) is named
    found = run.decided("flip")
    assert found["keeps_meaning"] is True
    assert found["enough"] is False
    assert ("pair" in found) is named


def test_every_unit_and_class_is_measured_before_any_twice() -> None:
    labels = np.repeat([0, 1, 2], [60, 30, 3])
    units = np.arange(93) // 3  # 20, 10 and 1
    rng = np.random.default_rng(0)
    few = flips._chosen(labels, units, 9, rng)
    assert np.bincount(labels[few]).tolist() == [4, 4, 1]
    assert len(np.unique(units[few])) == 9
    more = flips._chosen(labels, units, 40, rng)
    assert len(np.unique(units[more])) == 31
    assert flips._chosen(labels, units, 1000, rng).tolist() == list(range(93))


def test_nothing_is_measured_where_nothing_is_mirrored(pictures: Path, tmp_path: Path) -> None:
    assert train(pictures, recipe(crop=False), out=tmp_path / "run").decided("flip") is None


def test_a_resume_does_not_measure_again(arrows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Heard):
        def hear(self, event: Event) -> None:
            if isinstance(event, StepTaken):
                raise RunError("the machine went away")
            super().hear(event)

    def never(*_: Any) -> dict[str, Any]:
        raise AssertionError("measured twice")

    with monkeypatch.context() as patch:
        patch.setattr("fieldmark.runs.run.Run.discard", lambda self: None)
        with pytest.raises(RunError):
            train(arrows, recipe(), out=tmp_path / "run", listener=Interrupted())
    monkeypatch.setattr(flips, "_measured", never)
    listener = Heard()
    run = train(arrows, out=tmp_path / "run", resume=True, listener=listener)
    assert run.is_finished
    assert len(note_of(listener)) == 1


def test_names_that_differ_by_side_are_enough(pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name, source in (("turn left", "amber"), ("turn right", "jade")):
        (tmp_path / "data" / name).symlink_to(pictures / source)
    listener = Heard()
    run = train(tmp_path / "data", recipe(), out=tmp_path / "run", listener=listener)
    assert note_of(listener) == ["Training images are not mirrored: some class names differ only by left and right"]
    assert run.decided("flip") is None


def test_so_are_values_of_an_attribute_that_is_learnt(pictures: Path, tmp_path: Path) -> None:
    catalog = read(pictures)
    sides = {
        "side": np.array(["left", "right"] * (len(catalog) // 2)),
        "size": np.array(["s", "m"] * (len(catalog) // 2)),
    }
    catalog = replace(catalog, attributes=sides)
    for name, notes in (
        ("side", ["Training images are not mirrored: some values of 'side' differ only by left and right"]),
        ("size", []),
    ):
        listener = Heard()
        asked = recipe().with_overrides([f'labels.attributes=["{name}"]'])
        train(catalog, asked, out=tmp_path / name, listener=listener)
        assert note_of(listener) == notes
