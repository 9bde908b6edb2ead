"""Bundles that earlier versions wrote answer as they did.

`bundles/` has one of each form, made on 60 drawings of noise in three colours (a vision transformer of two layers):
before there were calibrations, before there were checksums, with an enrolled class, and with its graph. The JSON file
beside each has what the version that wrote it said of the pictures. Whoever changes the form adds one, and keeps these.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from fieldmark.answering.predictor import Predictor
from fieldmark.commands.bundle import bundle
from fieldmark.runs.bundle import Bundle

HERE = Path(__file__).parent / "bundles"
OLD = sorted(folder.name for folder in HERE.iterdir() if (folder / "model.json").is_file())


def test_each_form_is_there() -> None:
    assert OLD == ["calibrated", "enrolled", "exported", "uncalibrated"]


@pytest.mark.parametrize("name", OLD)
@pytest.mark.parametrize("engine", ["auto", "torch"])
def test_answers_are_the_same(name: str, engine: str) -> None:
    said = json.loads((HERE / f"{name}.json").read_text(encoding="utf-8"))
    predictor = Predictor.load(HERE / name, engine=engine)
    found = predictor.predict_proba([HERE / "pictures" / picture for picture in said])
    np.testing.assert_allclose(found, list(said.values()), atol=2e-4)


@pytest.mark.parametrize("name", OLD)
def test_they_are_whole(name: str) -> None:
    notes = bundle(HERE / name, check=True).notes
    assert ("without checksums, since it is of an earlier version" in notes) == (name in ("calibrated", "uncalibrated"))


def test_what_they_know() -> None:
    known = {name: Bundle.load(HERE / name) for name in OLD}
    assert {name for name, one in known.items() if one.calibration is None} == {"uncalibrated"}
    assert known["enrolled"].classes == ("amber", "jade", "slate", "rose")
    assert {one.classes for name, one in known.items() if name != "enrolled"} == {("amber", "jade", "slate")}
