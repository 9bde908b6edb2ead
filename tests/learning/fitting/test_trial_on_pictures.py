"""Trials that are held: on pictures, and from weights, where it is plain who must win."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from fieldmark.commands.train import train
from fieldmark.evaluation.beside_probe import Trial
from fieldmark.learning.fitting import trial
from support.hearing import Heard


@pytest.fixture(scope="module")
def tints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Class folders of eighteen pictures each: noise on one colour, which nobody can miss."""
    root, random = tmp_path_factory.mktemp("tints"), np.random.default_rng(0)
    for name, colour in {"blue": (40, 60, 200), "green": (40, 180, 60), "red": (200, 50, 40)}.items():
        (root / name).mkdir()
        for number in range(18):
            pixels = np.clip(colour + random.normal(0, 30, (64, 64, 3)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number:02}.png")
    return root


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eighteen pictures of a class are few."""
    monkeypatch.setattr(trial, "_FEW", 18)


def tried(tints: Path, out: Path, *overrides: str, **start: str) -> tuple[str, Trial]:
    run = train(tints, "finetune", out=out, overrides=overrides, listener=Heard(), **start)
    return run.solver, Trial(**run.decided("trial"))


def test_a_network_that_takes_one_step_loses(tints: Path, tmp_path: Path) -> None:
    """The default's features tell colours apart, and a head that has hardly moved from random numbers does not."""
    solver, found = tried(tints, tmp_path / "run", "images.size=64", "train.epochs=1")
    assert found.probe > found.network + 0.2
    assert solver == "logistic"


def test_a_probe_of_features_that_say_nothing_loses(tints: Path, tmp_path: Path) -> None:
    """Weights by which all pictures look the same: a probe can only guess, and the network learns to see."""
    torch.manual_seed(0)
    weights = timm.create_model("test_resnet", num_classes=0).state_dict()
    for name in ("layer4.0.bn2", "layer4.0.downsample.2"):
        weights[f"{name}.weight"].zero_()
        weights[f"{name}.bias"].fill_(0.1)
    save_file(weights, tmp_path / "blind.safetensors")
    learning = ["train.epochs=60", "train.lr=0.01", "train.head_lr=0.01", "train.layer_decay=1.0"]
    start = {"backbone": "test_resnet", "weights": str(tmp_path / "blind.safetensors")}
    solver, found = tried(tints, tmp_path / "run", "images.size=32", *learning, **start)
    assert found.network > found.probe + 0.2
    assert solver == "gradient"
