"""Listeners that tell other tools how a training goes: TensorBoard and MLflow. Each is an extra.

>>> from fieldmark.core.trackers import TensorBoard
>>> fieldmark.train("photographs/", out="runs/birds", listener=TensorBoard("runs/birds/tensorboard"))
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, final

from fieldmark.core.errors import FieldmarkError
from fieldmark.core.listener import Done, EpochEnded, Event, Listener, StepTaken

__all__ = ["MLflow", "TensorBoard", "tracker"]

_EVERY = 10
"""Steps from one loss that is written to the next."""


def tracker(name: Literal["tensorboard", "mlflow"], run: Path) -> Listener:
    """The tracker of this name for a run. Raises FieldmarkError where its package is not installed."""
    return TensorBoard(run / "tensorboard") if name == "tensorboard" else MLflow(run.name)


@final
class TensorBoard(Listener):
    """Scalars for `tensorboard --logdir FOLDER`."""

    def __init__(self, folder: Path | str) -> None:
        self._module = _needed("tensorboard", "torch.utils.tensorboard")
        self.folder = Path(folder)
        self._writer: Any = None

    def hear(self, event: Event) -> None:
        if isinstance(event, StepTaken) and event.step % _EVERY == 0:
            self._write(event.fit, event.step, {"step loss": event.loss, "images per second": event.images_per_second})
        elif isinstance(event, EpochEnded):
            self._write(event.fit, event.step, event.metrics)
        elif isinstance(event, Done) and self._writer is not None:
            self._writer.close()
            self._writer = None

    def _write(self, fit: str, step: int, metrics: Mapping[str, float]) -> None:
        if self._writer is None:  # only now: a run begins in an empty folder
            self._writer = self._module.SummaryWriter(str(self.folder))
        for name, value in metrics.items():
            self._writer.add_scalar(f"{fit}/{name}", value, step)
        self._writer.flush()


@final
class MLflow(Listener):
    """Metrics of an MLflow run of this name, where `MLFLOW_TRACKING_URI` says."""

    def __init__(self, name: str) -> None:
        self._module = _needed("mlflow", "mlflow")
        self.name = name
        self._run: Any = None

    def hear(self, event: Event) -> None:
        if isinstance(event, EpochEnded):
            if self._run is None:
                self._run = self._module.start_run(run_name=self.name)
            metrics = {f"{event.fit}/{name}": value for name, value in event.metrics.items()}
            self._module.log_metrics(metrics, step=event.step)
        elif isinstance(event, Done) and self._run is not None:
            self._module.end_run()
            self._run = None


def _needed(extra: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise FieldmarkError(
            f"Tracking by {extra} needs a package that is not installed",
            f"Install it: pip install 'fieldmark[{extra}]'.",
        ) from None
