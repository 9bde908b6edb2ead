"""Listeners that report a training to other tools: TensorBoard and MLflow. Each is an extra.

>>> from fieldmark.core.trackers import TensorBoard
>>> fieldmark.train("photographs/", out="runs/birds", listener=TensorBoard("runs/birds/tensorboard"))
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, final

from fieldmark.core.errors import FieldmarkError
from fieldmark.core.listener import DataRead, Done, EpochEnded, Event, Listener, StepTaken

__all__ = ["MLflow", "TensorBoard", "tracker"]

_EVERY = 10
"""A loss is written every so many steps."""


def tracker(name: Literal["tensorboard", "mlflow"], run: Path) -> Listener:
    """The tracker of this name for a run. Raises FieldmarkError if its package is not installed."""
    return TensorBoard(run / "tensorboard") if name == "tensorboard" else MLflow(run.name)


@final
class TensorBoard(Listener):
    """Writes scalars for `tensorboard --logdir FOLDER`."""

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
    """Logs metrics to an MLflow run of this name, at the place that `MLFLOW_TRACKING_URI` gives."""

    def __init__(self, name: str) -> None:
        self._module = _needed("mlflow", "mlflow")
        self.name = name
        self._run: Any = None

    def hear(self, event: Event) -> None:
        if isinstance(event, DataRead) and self._run is None:  # before anything is learnt
            self._run = self._begun()
        elif isinstance(event, EpochEnded):
            metrics = {f"{event.fit}/{name}": value for name, value in event.metrics.items()}
            self._module.log_metrics(metrics, step=event.step)
        elif isinstance(event, Done) and self._run is not None:
            self._module.end_run()
            self._run = None

    def _begun(self) -> Any:
        try:
            return self._module.start_run(run_name=self.name)
        except Exception as error:  # whatever a store raises that is not there
            reason = " ".join(str(error).split())
            raise FieldmarkError(
                f"MLflow cannot begin a run: {reason}", "Set MLFLOW_TRACKING_URI to a server or to sqlite:///mlflow.db."
            ) from error


def _needed(extra: str, module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise FieldmarkError(
            f"Tracking with {extra} needs a package that is not installed",
            f"Install it: pip install 'fieldmark[{extra}]'.",
        ) from None
