"""Held-out images calibrate only where they can tell classes apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fieldmark.commands.train import train
from fieldmark.data.catalog import Catalog
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run
from support.hearing import Heard

SMALL = {"backbone": "test_resnet", "weights": "fieldguide"}
SETTINGS = ["images.size=32", "backbone.mean=[0.5, 0.5, 0.5]"]


def trained(catalog: Catalog, out: Path, *overrides: str) -> tuple[Run, Heard]:
    heard = Heard()
    return train(catalog, "probe", out=out, overrides=[*SETTINGS, *overrides], listener=heard, **SMALL), heard


def two_classes(pictures: Path, splits: list[str], groups: list[str]) -> Catalog:
    """Ten pictures of the first class and four of the second."""
    first, second = sorted(one.name for one in pictures.iterdir())[:2]
    paths = [f"{first}/{i:02}.png" for i in range(10)] + [f"{second}/{i:02}.png" for i in range(4)]
    return Catalog(
        name="two",
        root=pictures,
        paths=tuple(paths),
        labels=np.array([0] * 10 + [1] * 4),
        classes=(first, second),
        splits=np.array(splits, dtype="<U5"),
        groups=np.array(groups),
    )


@pytest.mark.parametrize("bursts", [1, 2])
def test_a_class_in_one_group_leaves_another_nothing_to_be_taken_for(
    pictures: Path, tmp_path: Path, bursts: int
) -> None:
    """Its fold's model knows the other class only, and said nothing else with a probability of one."""
    groups = [""] * 10 + [f"burst {i % bursts}" for i in range(4)]
    catalog = two_classes(pictures, ["train"] * 14, groups)
    run, heard = trained(catalog, tmp_path / "run", "protocol=crossfit", "folds=3")
    calibration = Bundle.load(run.folder).calibration
    refused = [text for text in heard.warnings if text.startswith("Not calibrated")]
    if bursts == 1:
        assert calibration is None
        assert refused == [
            "Not calibrated, so verdicts are plain softmax: all out-of-fold images of classes that were learnt are of "
            f"one class, {catalog.classes[0]!r}. At least two classes must have images in two groups or more"
        ]
    else:
        assert calibration is not None
        assert calibration.scaling.temperature < 20
        assert not refused
    assert run.is_finished


def test_validation_images_of_one_class_do_not_calibrate(pictures: Path, tmp_path: Path) -> None:
    catalog = two_classes(pictures, ["train"] * 6 + ["val"] * 4 + ["train"] * 4, [""] * 14)
    run, heard = trained(catalog, tmp_path / "run", "protocol=holdout")
    assert Bundle.load(run.folder).calibration is None
    (said,) = (text for text in heard.warnings if text.startswith("Not calibrated"))
    assert said.endswith("At least two classes must have validation images")
