"""A frozen backbone computes by the engine that is faster here, and what is learnt does not depend on which it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fieldmark.answering.onnx import can_make_graphs
from fieldmark.answering.trial import TOLERANCE, off
from fieldmark.commands.train import train
from fieldmark.learning.fitting import glance
from fieldmark.learning.training.probe import STRENGTHS
from support.hearing import Heard
from support.weights import weights

pytestmark = pytest.mark.skipif(not can_make_graphs(), reason="needs the extra onnx")

SETTINGS = ["images.size=32", "backbone.mean=[0.5, 0.5, 0.5]"]


@pytest.fixture(autouse=True)
def long_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is computed takes long enough."""
    monkeypatch.setattr(glance, "_FEW", 1)
    monkeypatch.setattr(glance, "PAYS", 0.0)


def times(monkeypatch: pytest.MonkeyPatch, torch: float, onnx: float) -> None:
    known = {"torch": torch, "onnx": onnx}
    monkeypatch.setattr(glance, "seconds_each", lambda engines, *_, **__: {name: known[name] for name in engines})


def probe(pictures: Path, out: Path, *overrides: str) -> tuple[dict[str, torch.Tensor], list[str]]:
    heard = Heard()
    settings = [*SETTINGS, *overrides]
    how: dict[str, Any] = {"backbone": "test_resnet", "weights": "fieldguide", "overrides": settings}
    run = train(pictures, "probe", out=out, device="cpu", listener=heard, **how)
    return weights(run), [text for text in heard.notes if "ONNX Runtime" in text]


@pytest.mark.parametrize("mirror", ["true", "false"])
def test_the_faster_engine_gives_the_same_head(
    mirror: str, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    times(monkeypatch, torch=1.0, onnx=0.5)
    monkeypatch.setitem(STRENGTHS, "unit", (100.0,))  # of two that are equally good, rounding decides
    tried, said = probe(pictures, tmp_path / "tried", f"images.mirror={mirror}")
    (note,) = said  # once in a command, whoever asks for more pictures
    assert note.endswith("it gives the same features 2 times as fast as PyTorch, and computes the others")
    monkeypatch.setattr(glance, "PAYS", 1e9)
    plain, said = probe(pictures, tmp_path / "plain", f"images.mirror={mirror}")
    assert not said
    assert all(off(plain[key].float().numpy(), tried[key].float().numpy()) < 0.005 for key in plain)


def test_the_slower_engine_computes_nothing(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times(monkeypatch, torch=1.0, onnx=1.0)
    tried, said = probe(pictures, tmp_path / "tried")
    assert [text.partition("): ")[2] for text in said] == ["it gives the same features 1 times as fast as PyTorch"]
    monkeypatch.setattr(glance, "PAYS", 1e9)
    plain, _ = probe(pictures, tmp_path / "plain")
    assert all(torch.equal(tried[key], plain[key]) for key in plain)


def test_features_that_differ_are_not_used(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glance, "off", lambda *_: np.nextafter(TOLERANCE, 1))
    _, said = probe(pictures, tmp_path / "run")
    assert len(said) == 1
    assert "its features differ by up to 0.0001, where 0.0001 is rounding" in said[0]


def test_a_network_that_no_graph_can_express_is_computed_all_the_same(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(glance, "opened_graph", fail)
    _, said = probe(pictures, tmp_path / "run")
    assert len(said) == 1
    assert "it cannot compute this network: no such operator" in said[0]
