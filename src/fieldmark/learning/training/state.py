"""Everything that resuming needs, in one safetensors file that is replaced in one step."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NotRequired

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from typing_extensions import TypedDict

from fieldmark.core.errors import RunError
from fieldmark.core.reading import parse_json
from fieldmark.core.storage import read_tensors, write_tensors
from fieldmark.core.wording import first_few
from fieldmark.learning.training.identity import Identity, Kept
from fieldmark.learning.training.soup import move_towards
from fieldmark.model.model import Model

__all__ = ["TrainingState", "ema_decay"]

_FORMAT = "3"
_MOVE = "Move it away, and --resume trains what it should hold from the start; or start a new run with --out."


class _Meta(TypedDict):
    """What a checkpoint says beside its tensors."""

    format: str
    step: int
    sums: dict[str, float]
    seconds: float
    of: NotRequired[Kept]
    """The training; absent from checkpoints of earlier versions."""


def ema_decay(num_steps: int) -> float:
    """min(0.9999, max(0, 1 − 1/(0.1 · steps))): the average spans a tenth of the run, however short the run is."""
    return min(0.9999, max(0.0, 1 - 1 / (0.1 * num_steps)))


@dataclass
class TrainingState:
    """The moving parts of a training. Generators are re-seeded at each step, so none is kept."""

    model: Model
    optimizer: Optimizer
    ema: AveragedModel | None
    start: dict[str, Tensor] | None = None
    """Those weights before the first step of which a share is shipped."""
    keep_start: float = 0.0
    """That share."""
    step: int = 0
    """Batches that are done, since the start of the training."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of the losses in the running epoch."""
    seconds: float = 0.0
    """Spent in training steps so far, over all sittings."""
    pieces: int = 1
    """In how many pieces a batch is computed, since memory does not suffice for more at once."""
    identity: Identity | None = None
    """The training that checkpoints are of; None where none is written."""

    @classmethod
    def begin(
        cls,
        model: Model,
        optimizer: Optimizer,
        *,
        ema: bool,
        num_steps: int,
        keep_start: float = 0.0,
        knows: Callable[[str], bool] = lambda key: True,
    ) -> TrainingState:
        """The state before the first step. `keep_start` is of the weights that know something then, by their names."""
        average = None
        if ema:
            # Buffers are averaged too, so that the average can be looked at between epochs; before anything is
            # shipped the loop re-estimates them.
            average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(ema_decay(num_steps)), use_buffers=True)
            average.requires_grad_(False)
        start = {key: value.clone() for key, value in model.state_dict().items() if knows(key)} if keep_start else None
        return cls(model, optimizer, average, start, keep_start)

    @property
    def shipped(self) -> Model:
        """The weights that would be shipped now: the average if there is one, moved towards the start."""
        shipped = self.model if self.ema is None else self.ema.module
        assert isinstance(shipped, Model)
        if self.start is None:
            return shipped
        mixed = copy.deepcopy(shipped)
        move_towards(mixed, self.start, self.keep_start)
        return mixed

    def save(self, path: Path) -> None:
        """Write all of it to `path`, in one step."""
        tensors = self.moving()
        if self.ema is not None:
            tensors |= {f"ema.{key}": value for key, value in self.ema.state_dict().items()}
        if self.start is not None:
            tensors |= {f"start.{key}": value for key, value in self.start.items()}
        meta: _Meta = {"format": _FORMAT, "step": self.step, "sums": self.sums, "seconds": self.seconds}
        if self.identity is not None:
            meta["of"] = self.identity.kept()
        write_tensors(path, tensors, {"state": json.dumps(meta)})

    def moving(self) -> dict[str, Tensor]:
        """What a step needs: the weights and the optimiser's moments, by name."""
        tensors = {f"model.{key}": value for key, value in self.model.state_dict().items()}
        for index, entries in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{key}": value for key, value in entries.items() if value is not None}
        return tensors

    def follow(self, step: int, tensors: Mapping[str, Tensor]) -> None:
        """Stand where another process stands after `step` steps; `tensors` are its `moving`."""
        self.model.load_state_dict(_part("model.", tensors))
        self._restore_optimizer(_part("optimizer.", tensors))
        self.step = step

    def restore(self, path: Path) -> None:
        """Restore what `save` wrote, bit for bit. Raises RunError for a file that is not a checkpoint of this training,
        as far as it says so."""
        tensors, meta = _read(path)
        if self.identity is not None and "of" in meta and (others := self.identity.differences(meta["of"])):
            raise RunError(f"The checkpoint {path} is of another training: {first_few(others)}", _MOVE)
        start, moments = _part("start.", tensors), _part("optimizer.", tensors)
        if start.keys() != (self.start or {}).keys() or not self._fits(moments):
            raise RunError(f"The checkpoint {path} is of another training", _MOVE)
        try:
            self.model.load_state_dict(_part("model.", tensors))
            if self.ema is not None:
                self.ema.load_state_dict(_part("ema.", tensors))
        except RuntimeError as error:  # torch's own text runs over as many lines as there are layers
            raise RunError(f"The checkpoint {path} is of another model", _MOVE) from error
        for key, value in (self.start or {}).items():
            value.copy_(start[key])
        self._restore_optimizer(moments)
        self.step, self.sums, self.seconds = meta["step"], meta["sums"], meta["seconds"]

    def _fits(self, moments: Mapping[str, Tensor]) -> bool:
        """Whether these are moments of this optimiser."""
        places = [key.split(".", 1) for key in moments]
        count = sum(len(group["params"]) for group in self.optimizer.param_groups)
        sgd = isinstance(self.optimizer, SGD)
        return all(int(index) < count and (name == "momentum_buffer") == sgd for index, name in places)

    def _restore_optimizer(self, entries: dict[str, Tensor]) -> None:
        """Moments get the memory layout of their parameters back: vectorised kernels round by layout."""
        params = [p for group in self.optimizer.param_groups for p in group["params"]]
        self.optimizer.state.clear()
        for key, value in entries.items():
            index, name = key.split(".", 1)
            param = params[int(index)]
            if value.shape == param.shape:
                value = torch.empty_like(param, requires_grad=False).copy_(value)
            self.optimizer.state[param][name] = value


def _part(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}


def _read(path: Path) -> tuple[dict[str, Tensor], _Meta]:
    try:
        tensors, about = read_tensors(path)
        version = parse_json(about.get("state", "{}"), dict[str, object]).get("format")
        meta = parse_json(about["state"], _Meta) if version == _FORMAT else None
    except (ValueError, OSError) as error:
        raise RunError(
            f"The checkpoint {path} cannot be read ({error})",
            "Delete it, and --resume trains what it holds from the start and keeps the rest; or start a new run with "
            "--out.",
        ) from None
    if meta is None:
        raise RunError(
            f"The checkpoint {path} was written by another version of Fieldmark",
            "Finish it with that version, or start a new run with --out.",
        )
    return tensors, meta
