"""What a frozen backbone makes of pictures is computed once in a command, whoever asks for it again.

A probe looks at the same pictures in each fold, to learn from them, to take class means and to answer; a head that is
trained on a frozen backbone looks at them in every epoch. What is kept goes by all that decides it: the backbone's
weights, the view, the precision. So it never matters who computed it, and another network finds nothing.

Shapes: E numbers kept of each look at a picture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any, Literal, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.answering.engine import TorchEngine
from fieldmark.answering.pieces import Pieces
from fieldmark.answering.stream import Shown, stream
from fieldmark.core.listener import Listener, Tick
from fieldmark.core.machine import Machine, memory_size, num_decoders
from fieldmark.core.ranks import size
from fieldmark.core.recipe import NONE, Recipe
from fieldmark.core.storage import as_json, tensor_digest
from fieldmark.core.wording import counted
from fieldmark.data.loader import Keys, Sampled, Samples, Schedule, batches_of
from fieldmark.evaluation.outputs import Outputs
from fieldmark.learning.fitting.glance import Glance
from fieldmark.learning.training.optimizer import early_stages
from fieldmark.learning.training.state import TrainingState
from fieldmark.model.batch import Batch
from fieldmark.model.fronts import Keeper, found_front
from fieldmark.model.model import Model
from fieldmark.model.precision import autocast

__all__ = ["Kept", "KeptViews", "answers_from_kept", "backbone_stays", "kept_views", "steps_are_small"]

See = Callable[[int], Shown]
"""From a row of the catalogue to what a model sees of it."""

_SHARE = 1 / 4
"""Of the memory, what may be kept."""
_BATCH = 32
_GLANCE = 8
"""Images that tell what is read of them."""


@final
class Kept:
    """Rows of numbers, each known by what it is of, in tables that are known by how it was made. A copy in another
    process begins empty."""

    def __init__(self, limit: float | None = None) -> None:
        """`limit`: in bytes; a quarter of the memory if not given."""
        self.limit = _SHARE * memory_size() if limit is None else limit
        self.keepers: dict[Hashable, Keeper | None] = {}
        self.glance: tuple[Hashable, Glance] | None = None
        """The last one, and what it was of: a network is not kept for longer."""
        self.marks: dict[Hashable, Sequence[Tensor | None]] = {}
        """The box and the key points of each view."""
        self._tables: dict[Hashable, dict[Hashable, Tensor]] = {}
        self._bytes = 0

    def __reduce__(self) -> Any:
        return Kept, (self.limit,)

    def lacks(self, table: Hashable, keys: Sequence[Hashable]) -> list[int]:
        """The places of those that are not there."""
        known = self._tables.get(table, {})
        return [place for place, key in enumerate(keys) if key not in known]

    def has_room(self, count: int, keeper: Keeper) -> bool:
        """Whether so many rows can be added."""
        return self._bytes + count * keeper.width * keeper.dtype.itemsize <= self.limit

    def put(self, table: Hashable, keys: Sequence[Hashable], rows: Tensor) -> None:
        """Keep rows (N, E) of N keys."""
        self._tables.setdefault(table, {}).update(zip(keys, rows, strict=True))
        self._bytes += rows.nbytes

    def get(self, table: Hashable, keys: Sequence[Hashable]) -> Tensor:
        """(N, E)."""
        known = self._tables[table]
        return torch.stack([known[key] for key in keys])


def backbone_stays(recipe: Recipe) -> bool:
    """Whether no weight of the backbone is learnt."""
    return recipe.train.solver == "logistic" or recipe.train.freeze_stages == "all"


def origin_of(model: Model, recipe: Recipe, precision: str) -> tuple[str, ...]:
    """All that decides what a backbone makes of a view."""
    device = next(model.parameters()).device
    digest = tensor_digest(model.backbone.model.state_dict())
    return digest, as_json(recipe.backbone.model_dump(mode="json")), str(model.backbone.pools), precision, device.type


def answers_from_kept(
    kept: Kept, recipe: Recipe, engine: TorchEngine, see: See, rows: NDArray[np.int64], listener: Listener, tick: Tick
) -> Iterator[Outputs] | None:
    """What the engine says of these rows in batches, by what is kept of them once it is computed.

    None where too little of the backbone stays, where the method looks at pixels, or where memory is lacking.
    """
    if not backbone_stays(recipe) or not len(rows):
        return None
    model = engine.model
    origin = origin_of(model, recipe, engine.precision)
    pieces = as_json(recipe.model_dump(mode="json", include={"method", "neck"}))
    if (origin, pieces) not in kept.keepers:
        kept.keepers[origin, pieces] = _keeper(engine, see(int(rows[0])))
    if (keeper := kept.keepers[origin, pieces]) is None:
        return None
    images = recipe.images
    seen = (origin, keeper.front, images.size, images.crop, images.whole)
    tables = [(*seen, look) for look in range(1 + model.mirrored)]
    lacking = [(look, places) for look, table in enumerate(tables) if (places := kept.lacks(table, rows.tolist()))]
    missing = rows[np.unique([place for _, places in lacking for place in places]).astype(np.int64)]
    if not kept.has_room(len(missing) * len(lacking), keeper):
        return None
    if lacking:
        looks = tuple(look for look, _ in lacking)
        if kept.glance is None or kept.glance[0] != (seen, looks):
            kept.glance = (seen, looks), Glance(engine, keeper, looks)
        done = len(rows) - len(missing)
        for few, found in _glanced(kept.glance[1], see, missing, listener):
            for look, numbers in zip(looks, found, strict=True):
                kept.put(tables[look], few, numbers)
            tick(done := done + len(few), len(rows))
    tick(len(rows), len(rows))
    return (
        engine.answer(*(keeper.known(kept.get(table, batch), engine.device) for table in tables))
        for batch in (rows[start : start + _BATCH].tolist() for start in range(0, len(rows), _BATCH))
    )


def _glanced(
    glance: Glance, see: See, rows: NDArray[np.int64], listener: Listener
) -> Iterator[tuple[Sequence[int], list[Tensor]]]:
    """Batches of rows, with what is kept of each look at them."""

    def some() -> NDArray[np.uint8]:
        return np.stack([see(row).view for row in np.resize(rows, _BATCH).tolist()])

    def look_at(images: NDArray[np.uint8]) -> list[Tensor]:
        full = np.resize(images, (_BATCH, *images.shape[1:]))  # the last digits depend on the size of a batch
        return [numbers[: len(images)] for numbers in glance(full)]

    glance.try_others(some, len(rows), listener)
    for answered in stream(rows.tolist(), see, look_at, batch_size=_BATCH, threads=num_decoders()):
        assert answered.output is not None, "what cannot be read is left out beforehand"
        yield answered.things, answered.output


def _keeper(engine: TorchEngine, shown: Shown) -> Keeper | None:
    """What has to be kept to answer, found by a look at one picture."""
    model = engine.model
    view = torch.from_numpy(shown.view).to(engine.device).unsqueeze(0)
    with autocast(engine.precision, engine.device):
        return found_front(
            model,
            model.backbone.normalization(view),
            lambda twin, images: twin.answer(images),
            frozen=None,
        )


@final
@dataclass(frozen=True)
class KeptViews:
    """The batches of a training whose frozen stages are computed: what was kept of each view, in place of images."""

    keeper: Keeper
    kept: Kept
    table: Hashable
    samples: Samples
    """Everything else is theirs."""

    def batch(self, keys: Keys) -> Sampled:
        """See `Samples.batch`."""
        rows = torch.tensor([row for _, row in keys])
        labels = torch.from_numpy(self.samples.catalog.labels[rows.numpy()])
        seen = self.kept.get(self.table, keys)
        marks = [self.kept.marks[self.table, key] for key in keys]
        boxes, points = (None if one[0] is None else torch.stack(one) for one in zip(*marks, strict=True))
        return Sampled(seen, labels, rows, boxes, points)


def kept_views(
    kept: Kept,
    recipe: Recipe,
    machine: Machine,
    state: TrainingState,
    samples: Samples,
    schedule: Schedule,
    listener: Listener,
    *,
    flip: bool,
) -> KeptViews | None:
    """The training images as frozen stages see them, mirrored at random with `flip`, each view computed once; None
    where nothing is frozen, or where that would save nothing or cannot be done, which is told."""
    model, views, frozen = state.model, schedule.views, recipe.train.freeze_stages
    if not frozen or size() > 1:
        return None
    keys = [(view, row) for row in schedule.rows.tolist() for view in range(views)]
    if (schedule.num_steps - state.step) * schedule.step_size <= max(len(keys), len(schedule.rows)):
        return None
    if why := _why_not(recipe, views):
        listener.note(f"What is frozen is computed anew in each step: {why}")
        return None
    device = next(model.parameters()).device
    with autocast(machine.precision, device):
        keeper = _front_of_losses(model, samples, schedule, frozen)
    if keeper is None:
        listener.note(
            "What is frozen is computed anew in each step: the method looks at parts of images, too, or the network "
            "cannot go on from its frozen stages alone"
        )
        return None
    augment = as_json(recipe.augment.model_dump(mode="json"))
    partners = hashlib.sha256(schedule.rows.tobytes()).hexdigest() if samples.changes else ""
    view = (recipe.seed, augment, flip, keeper.side, partners)
    table = (origin_of(model, recipe, machine.precision), keeper.front, *view)
    seen = KeptViews(keeper, kept, table, samples)
    missing = [keys[place] for place in kept.lacks(table, keys)]
    if not kept.has_room(len(missing), keeper):
        room = len(missing) * keeper.width * keeper.dtype.itemsize / 1e9
        listener.note(f"What is frozen is computed anew in each step: to keep it would take {room:.1f} GB of memory")
        return None
    if missing:
        what = "the frozen backbone" if frozen == "all" else counted(frozen, "frozen stage")
        listener.note(f"Computing {what} once for {counted(views, 'view')} of {counted(len(schedule.rows), 'image')}")
        _fill(seen, model, missing, machine, listener)
    return seen


def steps_are_small(recipe: Recipe, views: int) -> bool:
    """Whether all of the backbone is computed once, before the first step of a training with so many views."""
    return recipe.train.freeze_stages == "all" and size() == 1 and not _why_not(recipe, views)


def _why_not(recipe: Recipe, views: int) -> str:
    """Why nothing can be kept, as far as the recipe says; "" if it can."""
    if not views:
        return "each epoch has views of its own (augment.views=8 keeps eight of each image)"
    if recipe.augment.mix != NONE:
        return f"augment.mix = {recipe.augment.mix!r} mixes images"
    return ""


def _front_of_losses(model: Model, samples: Samples, schedule: Schedule, frozen: int | Literal["all"]) -> Keeper | None:
    """What has to be kept to learn, found by a look at a few images."""
    some = samples.batch(schedule.batch(0)[:_GLANCE])
    device = next(model.parameters()).device
    images = model.backbone.normalization(some.images.to(device))
    weights = torch.ones(len(some.labels), 1, device=device)
    marks = (None if one is None else one.to(device) for one in (some.boxes, some.keypoints))
    batch = Batch(images, some.labels.to(device).unsqueeze(1), weights, some.rows.to(device), *marks)

    def look(twin: Model, images: Tensor) -> None:
        twin.train()
        for step in range(twin.method.steps_per_batch):
            twin.losses(replace(batch, images=images), step)

    early = None if frozen == "all" else early_stages(model.backbone, frozen)
    return found_front(model, images, look, frozen=early)


def _fill(views: KeptViews, model: Model, missing: Keys, machine: Machine, listener: Listener) -> None:
    """Compute what is not there."""
    model.eval()
    device, done = next(model.parameters()).device, 0
    keeper, kept, table = views.keeper, views.kept, views.table
    steps = [missing[start : start + _BATCH] for start in range(0, len(missing), _BATCH)]

    def looked(images: Tensor) -> Tensor:
        with autocast(machine.precision, device):
            return keeper.keep(model.backbone, model.backbone.normalization(images.to(device)))

    compute = Pieces(looked, lambda pieces: torch.cat(list(pieces)))
    with listener.progress("Computing what is frozen") as tick:
        for keys, seen in zip(steps, batches_of(views.samples, steps, machine.workers), strict=True):
            full = torch.from_numpy(np.resize(seen.images.numpy(), (_BATCH, *seen.images.shape[1:])))
            kept.put(table, keys, compute(full)[: len(keys)])
            boxes, points = (repeat(None) if one is None else one for one in (seen.boxes, seen.keypoints))
            for key, *marks in zip(keys, boxes, points):  # noqa: B905  (what repeats has no length)
                kept.marks[table, key] = marks
            tick(done := done + len(keys), len(missing))
