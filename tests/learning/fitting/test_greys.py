"""The depth of 16-bit greyscale is measured on training images, kept in the run and the bundle, and used by answers."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Thing
from fieldmark.commands.train import train
from fieldmark.core.recipe import Recipe
from fieldmark.data.readers.folder import read_folder
from fieldmark.learning.fitting.greys import decide_grey_bits
from fieldmark.runs.bundle import Bundle
from support.commands import settings
from support.drawn import picture
from support.hearing import Heard


@pytest.fixture(scope="module")
def greys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """12-bit photographs of two classes; some test images have 16 bits."""
    root = tmp_path_factory.mktemp("greys")
    for split, count, white in (("train", 6, 4095), ("val", 3, 2000), ("test", 2, 65535)):
        for label in range(2):
            folder = root / split / f"class {label}"
            folder.mkdir(parents=True)
            for number in range(count):
                grey = picture(10 * label + number, 48, 48)[..., 0] / 255
                Image.fromarray(np.rint(white * grey / grey.max()).astype(np.uint16)).save(folder / f"{number}.png")
    return root


def test_it_is_measured_once_and_answers_follow(greys: Path, tmp_path: Path) -> None:
    heard = Heard()
    run = train(greys, "walkthrough", out=tmp_path / "run", overrides=settings(), listener=heard)
    assert any("read as 12-bit ones" in note for note in heard.notes)
    assert run.decided("grey_bits") == {"bits": 12, "largest": 4095, "pictures": 12}
    assert run.recipe().images.grey_bits == "auto"
    predictor = Predictor.load(run.bundle)
    assert predictor.bundle.images.grey_bits == 12
    dark = Image.fromarray(np.full((48, 48), 819, np.uint16))  # alone it would pass for a bright one of 10 bits
    dark.save(tmp_path / "dark.png")
    for source in (tmp_path / "dark.png", (tmp_path / "dark.png").read_bytes(), dark):
        assert (predictor.decode(Thing("dark", source)).pixels == 51).all()


def test_bundles_of_before_answer_as_before(trained: object, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    folder.mkdir()
    for file in trained.bundle.iterdir():  # type: ignore[attr-defined]  # the fixture is a Run
        (folder / file.name).write_bytes(file.read_bytes())
    described = json.loads((folder / "model.json").read_text())
    assert described["images"].pop("grey_bits") == "auto"  # there was no 16-bit picture to learn from
    del described["indexed"]
    (folder / "model.json").write_text(json.dumps(described))
    (folder / "index.json").unlink()
    assert Bundle.load(folder).images.grey_depth == 16


def test_the_recipe_may_say_so(greys: Path) -> None:
    recipe = Recipe().with_overrides(["images.grey_bits=14"])
    assert decide_grey_bits(None, recipe, read_folder(greys), Heard()) == 14
    assert decide_grey_bits(None, Recipe(), read_folder(greys), Heard()) == 12  # whatever the test split holds
    assert decide_grey_bits(None, Recipe(), read_folder(greys / "test"), Heard()) == 16  # unsplit
