"""Trackers against stand-ins for the packages that they need, which are extras."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from fieldmark.core.errors import FieldmarkError
from fieldmark.core.listener import Done, EpochEnded, Event, Listener, Note, StepTaken
from fieldmark.core.trackers import tracker

EVENTS: list[Event] = [
    Note("a line"),
    *(StepTaken("model", step, 20, 1 / step, 90.0) for step in range(1, 21)),
    EpochEnded("model", 1, 1, 20, {"loss": 0.5, "val_top1": 0.75}),
    Done("train"),
]


def tell(listener: Listener) -> None:
    for event in EVENTS:
        listener.hear(event)


def test_tensorboard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scalars: list[tuple[str, float, int]] = []
    opened, closed = [], []

    class SummaryWriter:
        def __init__(self, folder: str) -> None:
            opened.append(folder)

        def add_scalar(self, name: str, value: float, step: int) -> None:
            scalars.append((name, value, step))

        def flush(self) -> None: ...

        def close(self) -> None:
            closed.append(True)

    module = ModuleType("torch.utils.tensorboard")
    monkeypatch.setattr(module, "SummaryWriter", SummaryWriter, raising=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    listener = tracker("tensorboard", tmp_path)
    listener.hear(Note("before anything is learnt"))
    assert opened == []  # a run begins in an empty folder
    tell(listener)
    assert opened == [str(tmp_path / "tensorboard")]
    assert closed == [True]
    assert scalars == [
        ("model/step loss", 0.1, 10),
        ("model/images per second", 90.0, 10),
        ("model/step loss", 0.05, 20),
        ("model/images per second", 90.0, 20),
        ("model/loss", 0.5, 20),
        ("model/val_top1", 0.75, 20),
    ]


def test_mlflow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[str, Any]] = []
    module: Any = ModuleType("mlflow")
    module.start_run = lambda run_name: calls.append(("start", run_name)) or object()
    module.log_metrics = lambda metrics, step: calls.append(("log", (metrics, step)))
    module.end_run = lambda: calls.append(("end", None))
    monkeypatch.setitem(sys.modules, "mlflow", module)
    tell(tracker("mlflow", tmp_path / "birds"))
    assert calls == [("start", "birds"), ("log", ({"model/loss": 0.5, "model/val_top1": 0.75}, 20)), ("end", None)]


@pytest.mark.parametrize(("name", "module"), [("tensorboard", "torch.utils.tensorboard"), ("mlflow", "mlflow")])
def test_what_is_not_installed_says_how_to_install_it(
    name: Any, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(FieldmarkError) as caught:
        tracker(name, tmp_path)
    assert str(caught.value) == (
        f"Tracking by {name} needs a package that is not installed. Install it: pip install 'fieldmark[{name}]'."
    )
