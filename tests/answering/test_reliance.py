"""Background reliance, measured and remedied."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from fieldmark.commands.evaluate import evaluate
from fieldmark.commands.report import report
from fieldmark.commands.train import train
from fieldmark.core.errors import RecipeError
from fieldmark.core.reading import read_json
from fieldmark.methods.part_discovery import PartDiscovery
from fieldmark.model.method import Prediction
from support.hearing import Heard

# two plain discs may look like one photograph taken twice
pytestmark = pytest.mark.filterwarnings("ignore:Near-duplicates")  # plain discs look alike

Cli = Callable[..., Any]
GREENS, BLUES = ((40, 120, 40), (90, 160, 60)), ((30, 60, 140), (80, 110, 190))
OVERRIDES = ["backbone.weights=fieldguide", "images.size=32", "augment.flip=true"]


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Discs, light or dark, of which the light ones lie on green and the dark ones on blue."""
    folder, random = tmp_path_factory.mktemp("tied"), np.random.default_rng(0)
    lines = ["path,label,split,x,y,width,height"]
    for split, count in (("train", 16), ("val", 8), ("test", 8)):
        for name, grounds in (("dark", BLUES), ("light", GREENS)):
            for number in range(count):
                shade = 170 if name == "light" else 140
                image = Image.new("RGB", (48, 40), grounds[random.integers(2)])
                x, y = (int(v) for v in random.integers(4, 20, 2))
                ImageDraw.Draw(image).ellipse((x, y, x + 15, y + 15), fill=(shade, shade, shade))
                image.save(folder / f"{split}-{name}-{number}.png")
                lines.append(f"{split}-{name}-{number}.png,{name},{split},{x},{y},16,16")
    (folder / "discs.csv").write_text("\n".join(lines) + "\n")
    return folder / "discs.csv"


@pytest.fixture(scope="module")
def leaning(tied: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learnt the background."""
    out = tmp_path_factory.mktemp("leaning") / "run"
    return train(tied, "demo", out=out, overrides=[*OVERRIDES, "train.solver=logistic"]).folder


def test_a_model_that_leans_is_found_out(leaning: Path) -> None:
    result = evaluate(leaning, split="val", background=True)
    found = result.reliance
    assert found is not None
    assert found.num_images == 16
    assert found.known_by == "boxes"
    assert found.accuracy["whole"].value == result.scores["top1"].value == 1
    assert found.gap.value == pytest.approx(found.accuracy["same"].value - found.accuracy["other"].value)
    assert found.is_bad
    assert "augment.background" in found.advice
    written = read_json(leaning / "evaluation" / "val" / "background.json", dict[str, Any])
    assert written["gap"] == found.gap.as_dict()
    files = [file for example in written["examples"] for file in example["files"].values()]
    assert files
    assert all((leaning / "evaluation" / "val" / file).is_file() for file in files)
    assert evaluate(leaning, split="val").reliance is None


def test_the_report_shows_it(leaning: Path) -> None:
    evaluate(leaning, split="val", background=True)
    page = report(leaning).read_text(encoding="utf-8")
    assert "on a background of another class" in page
    assert "augment.background=0.5" in page


def test_exchanged_backgrounds_teach_something_else(tied: Path, tmp_path: Path) -> None:
    plain = [*OVERRIDES, "train.epochs=2"]
    one = train(tied, "demo", out=tmp_path / "one", overrides=[*plain, "augment.background=0.5"])
    again = train(tied, "demo", out=tmp_path / "again", overrides=[*plain, "augment.background=0.5"])
    other = train(tied, "demo", out=tmp_path / "other", overrides=plain)
    weights = [(run.folder / "bundle" / "model.safetensors").read_bytes() for run in (one, again, other)]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_the_parts_that_a_model_has_found_do_where_no_box_is_given(
    tied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that takes what is grey for its parts, and answers by the colour of the rest."""

    def forward(self: Any, images: torch.Tensor) -> Prediction:
        pixels = images * torch.tensor(self.backbone.normalization.std).view(1, 3, 1, 1)
        pixels = pixels + torch.tensor(self.backbone.normalization.mean).view(1, 3, 1, 1)
        grey = (pixels.amax(1) - pixels.amin(1) < 0.1).float()
        rest = (pixels * (1 - grey[:, None])).sum((2, 3))
        maps = torch.stack([grey / 2, grey / 2, 1 - grey], dim=1)
        logits = torch.stack([rest[:, 2] - rest[:, 1], rest[:, 1] - rest[:, 2]], dim=1)
        seen = logits.new_ones(len(images), self.cells.channels)
        return Prediction(logits, seen, seen, maps)

    bare = tied.parent / "bare.csv"
    bare.write_text("\n".join(",".join(line.split(",")[:3]) for line in tied.read_text().splitlines()) + "\n")
    options = [*OVERRIDES, "method.name=part_discovery", "train.epochs=1"]
    run = train(bare, "demo", out=tmp_path / "run", overrides=options)
    monkeypatch.setattr(PartDiscovery, "forward", forward)
    found = evaluate(run.folder, split="val", background=True).reliance
    assert found is not None
    assert found.known_by == "the parts that the model has found"
    assert found.num_images == 16
    assert {name: found.accuracy[name].value for name in ("whole", "scenery", "same", "other")} == {
        "whole": 1, "scenery": 1, "same": 1, "other": 0,
    }  # fmt: skip
    assert found.gap.value == 1
    assert "the parts that the model has found" in report(run.folder).read_text(encoding="utf-8")


def test_nobody_knows_where_the_object_is(pictures: Path, trained: Any, cli: Cli) -> None:
    looks = Path(os.environ["FIELDMARK_CACHE"]) / "looks.json"
    before = looks.read_bytes() if looks.exists() else b""
    assert "mask" in cli("evaluate", trained.folder, "--background").complaint
    assert (looks.read_bytes() if looks.exists() else b"") == before  # what is refused has looked at nothing
    recipe = ["--recipe", "demo", "--weights", "none", "--set", "images.size=32", "--set", "augment.background=0.5"]
    assert "box" in cli("train", pictures, *recipe, "--out", pictures.parent / "none").complaint


def test_a_recipe_may_do_without(pictures: Path, tmp_path: Path) -> None:
    options = [*OVERRIDES, "train.epochs=1", "augment.background=0.5", "augment.if_missing=skip"]
    listener = Heard()
    train(pictures, "demo", out=tmp_path / "run", overrides=options, listener=listener)
    assert [text for text in listener.notes if text.startswith("Continuing without augment.background: ")]


def test_options_that_make_no_sense(tied: Path, tmp_path: Path) -> None:
    for senseless in ("train.solver=logistic", "augment.crop=false"):
        with pytest.raises(RecipeError, match="this recipe does not augment them"):
            train(tied, "demo", out=tmp_path / "run", overrides=[*OVERRIDES, "augment.background=0.5", senseless])
