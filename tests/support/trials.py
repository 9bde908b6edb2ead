"""Trials of engines: a graph that is at hand, and clocks that say what a test wants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
import pytest

from fieldmark.answering.onnx import OnnxEngine
from fieldmark.answering.predictor import Predictor
from fieldmark.exporting import fastest as trying
from fieldmark.exporting import graph as exporting
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache, in which nothing is known yet."""
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def _graph(_trained: Path) -> onnx.ModelProto:
    return exporting.graph_of(Bundle.load(_trained))


def graphs(monkeypatch: pytest.MonkeyPatch, given: onnx.ModelProto | Exception) -> list[Bundle]:
    """What comes of making a graph; the bundles that one is asked of."""
    asked: list[Bundle] = []

    def graph_of(bundle: Bundle) -> onnx.ModelProto:
        asked.append(bundle)
        if isinstance(given, Exception):
            raise given
        return given

    monkeypatch.setattr(exporting, "graph_of", graph_of)
    return asked


@pytest.fixture
def made(_graph: onnx.ModelProto, monkeypatch: pytest.MonkeyPatch) -> list[Bundle]:
    """The bundles that a graph was made of; it is at hand, so that no test waits for it."""
    return graphs(monkeypatch, _graph)


@pytest.fixture
def long_jobs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is asked lasts long enough."""
    monkeypatch.setattr(trying, "_FEW", 1)
    monkeypatch.setattr(trying, "PAYS", 0.0)


def times(monkeypatch: pytest.MonkeyPatch, **seconds: float) -> None:
    """How long the engines take for an image, whatever the clock says."""
    monkeypatch.setattr(
        trying, "seconds_each", lambda engines, images, rounds: {name: seconds[name] for name in engines}
    )


def impossible(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[Bundle]:
    """No graph can be made; the bundles that it was tried for."""
    return graphs(monkeypatch, error)


def by_onnx(run: Run) -> bool:
    return isinstance(Predictor.load(run.folder, device="cpu").engine, OnnxEngine)


def choices(cache: Path) -> list[dict[str, Any]]:
    return [json.loads(file.read_text()) for file in (cache / "engines").glob("*/choice.json")]
