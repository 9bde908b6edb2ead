"""A training says whether a probe would have done."""

from __future__ import annotations

from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldmark.commands.evaluate import evaluate
from fieldmark.commands.report import report
from fieldmark.commands.train import train
from fieldmark.evaluation.beside_probe import BesideProbe
from fieldmark.runs.run import Run
from support.hearing import Heard

SMALL = {"backbone": "test_resnet", "weights": "fieldguide"}
SIZE = ["images.size=64", "backbone.mean=[0.5, 0.5, 0.5]"]
TRAINED = "train.solver=gradient"


def lines(heard: Heard) -> list[str]:
    return [text for text in heard.notes if "validation image" in text and "probe" in text]


def test_both_are_scored_on_the_same_images(pictures: Path, tmp_path: Path) -> None:
    heard = Heard()
    run = train(
        pictures,
        "finetune",
        out=tmp_path / "run",
        overrides=[*SIZE, TRAINED, "train.epochs=1", "images.mirror=false"],
        listener=heard,
        **SMALL,
    )
    (said,) = lines(heard)
    found = run.decided("beside_probe")
    assert f"{100 * found['probe']:.1f} %" in said
    assert f"{said}." in unescape(report(run.folder).read_text())
    assert found["gain"] == pytest.approx(found["trained"] - found["probe"])
    assert found["low"] <= found["gain"] <= found["high"]
    # against the real thing: what `--recipe probe` gets on the same split
    alone = train(pictures, "probe", out=tmp_path / "probe", overrides=SIZE, listener=Heard(), **SMALL)
    own = {run.folder: found["trained"], alone.folder: found["probe"]}
    for folder, share in own.items():
        assert evaluate(folder, split="val").scores["top1"].value == pytest.approx(share)
    assert alone.decided("beside_probe") is None


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "none"},
        {"backbone": "test_resnet+test_resnet", "weights": "none+none"},
        {"overrides": [*SIZE, TRAINED, "train.epochs=1", "protocol=refit"]},
    ],
)
def test_nothing_is_said_where_there_is_nothing_to_compare(
    change: dict[str, Any], pictures: Path, tmp_path: Path
) -> None:
    heard = Heard()
    options: dict[str, Any] = {"overrides": [*SIZE, TRAINED, "train.epochs=1"], **SMALL, **change}
    run = train(pictures, "finetune", out=tmp_path / "run", listener=heard, **options)
    assert lines(heard) == []
    assert Run.open(run.folder).decided("beside_probe") is None


@pytest.mark.parametrize(
    ("low", "high", "ending"),
    [
        (-9, -1, "--recipe probe is better here"),
        (-2, 3, "no clear difference, so --recipe probe would do, in a fraction of the time"),
        (1, 5, "(+1.0 to +5.0 points)"),
    ],
)
def test_what_is_said(low: float, high: float, ending: str) -> None:
    middle = (low + high) / 2
    text = BesideProbe(0.8, 0.8 + middle / 100, *np.array([middle, low, high]) / 100).sentence(200)
    assert text.startswith("A probe is right for 80.0 % of 200 validation images, this model for ")
    assert text.endswith(ending)
