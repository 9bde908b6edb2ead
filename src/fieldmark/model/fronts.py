"""Fronts: the first layers of a backbone, or all of it, where they stay as they are, and what is kept of their work.

What leaves it is kept in the place of images, and a backbone goes on from there. How much that is depends on what is
read: `Pooled` features alone, the `Whole` last map with levels before it, or the map that leaves the `FirstStages`.
`found_front` finds out which it is, by trying.

Shapes: B images of S × S pixels, E numbers kept of each.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import prod
from typing import Any, final

import torch
from torch import Tensor, nn

from fieldmark.model.backbone import Backbone, Features
from fieldmark.model.known import Absent, Known, NotKept
from fieldmark.model.model import Model

__all__ = ["FirstStages", "Front", "Keeper", "Pooled", "Whole", "found_front"]


class Front(ABC):
    """What stays as it is."""

    @abstractmethod
    def compute(self, backbone: Backbone, images: Tensor) -> Sequence[Tensor]:
        """What leaves it, of normalised images (B, 3, S, S): tensors (B, …)."""

    @abstractmethod
    def follow(self, backbone: Backbone, kept: Sequence[Tensor], levels: tuple[int, ...]) -> Features:
        """What the backbone, whose last layers may have learnt since, makes of it."""


@final
@dataclass(frozen=True)
class Pooled(Front):
    """All of a backbone, of which nobody reads the map."""

    def compute(self, backbone: Backbone, images: Tensor) -> Sequence[Tensor]:
        return (backbone(images).pooled,)

    def follow(self, backbone: Backbone, kept: Sequence[Tensor], levels: tuple[int, ...]) -> Features:
        if levels:
            raise NotKept
        (pooled,) = kept
        return Features(Absent.of(len(pooled), backbone.channels, 1, 1, like=pooled), pooled)


@final
@dataclass(frozen=True)
class Whole(Front):
    """All of a backbone, of which the last map is read, and those of these levels; a neck behind it may learn."""

    levels: tuple[int, ...] = ()

    def compute(self, backbone: Backbone, images: Tensor) -> Sequence[Tensor]:
        last, levels = backbone.computed(images, self.levels)
        return last, *levels

    def follow(self, backbone: Backbone, kept: Sequence[Tensor], levels: tuple[int, ...]) -> Features:
        if not set(levels) <= set(self.levels):
            raise NotKept
        return backbone.features(kept[0], tuple(kept[1 + self.levels.index(level)] for level in levels))


@final
@dataclass(frozen=True)
class FirstStages(Front):
    """The modules of a backbone up to some map, all of which stay as they are."""

    passed: tuple[tuple[str, torch.Size], ...]
    """The names of the modules before, and the shapes of what they make of one image."""
    last: str
    """The name of the module that makes the map."""
    side: int
    """S."""

    def compute(self, backbone: Backbone, images: Tensor) -> Sequence[Tensor]:
        def stop(module: nn.Module, inputs: Any, output: Tensor) -> None:
            raise _Reached(output)

        handle = backbone.model.get_submodule(self.last).register_forward_hook(stop)
        try:
            backbone.model.forward_features(images)
        except _Reached as reached:
            return (reached.map,)
        finally:
            handle.remove()
        raise AssertionError("the module was found because it is called")

    def follow(self, backbone: Backbone, kept: Sequence[Tensor], levels: tuple[int, ...]) -> Features:
        (known,) = kept
        blanks = {name: known.new_empty(len(known), *shape) for name, shape in self.passed}  # nobody reads them
        with _answering(backbone.model, {**blanks, self.last: known}):
            return backbone.features(*backbone.computed(known.new_empty(len(known), 3, self.side, self.side), levels))


class _Reached(Exception):
    """The map was made; what comes behind it need not be computed."""

    def __init__(self, map: Tensor) -> None:
        super().__init__()
        self.map = map


@contextmanager
def _answering(model: Any, answers: dict[str, Tensor]) -> Iterator[None]:
    """In this context, modules of these names give these answers and compute nothing."""
    modules = {name: model.get_submodule(name) for name in answers}
    for name, module in modules.items():
        module.forward = lambda *args, answer=answers[name], **kwargs: answer
    try:
        yield
    finally:  # before anybody copies the model
        for module in modules.values():
            del module.forward


@final
@dataclass(frozen=True)
class Keeper:
    """Keeps what leaves a front, as one row of numbers for each image."""

    front: Front
    shapes: tuple[torch.Size, ...]
    """Of what leaves it, for one image."""
    dtype: torch.dtype
    side: int
    """S."""

    @property
    def width(self) -> int:
        """E."""
        return sum(map(prod, self.shapes))

    def keep(self, backbone: Backbone, images: Tensor) -> Tensor:
        """Normalised images (B, 3, S, S) → (B, E), on the processor."""
        with torch.no_grad():
            return self.rows(backbone, images).cpu()

    def rows(self, backbone: Backbone, images: Tensor) -> Tensor:
        """The same where the images are."""
        return torch.cat([one.flatten(1).to(self.dtype) for one in self.front.compute(backbone, images)], dim=1)

    def known(self, kept: Tensor, device: torch.device) -> Known:
        """(B, E) → what stands for the images."""
        rows = kept.to(device).split(list(map(prod, self.shapes)), dim=1)
        tensors = [_laid_out(row.unflatten(1, shape)) for row, shape in zip(rows, self.shapes, strict=True)]

        def seen(backbone: Backbone, levels: tuple[int, ...]) -> Features:
            return self.front.follow(backbone, tensors, levels)

        def some(which: slice) -> Known:
            return self.known(kept[which], device)

        return Known.by(seen, some=some, count=len(kept), side=self.side, like=tensors[0])


def _laid_out(values: Tensor) -> Tensor:
    """Maps as convolutions want them in memory."""
    return values.contiguous(memory_format=torch.channels_last) if values.ndim == 4 else values


def found_front(
    model: Model, images: Tensor, look: Callable[[Model, Tensor], object], *, frozen: Collection[nn.Parameter] | None
) -> Keeper | None:
    """What has to be kept of images for `look`, which is given a model and images or a stand-in for them.

    `frozen` are the parameters of the backbone that stay as they are; None for all of them. The result is None where
    pixels are read, or where what is frozen is no front of the backbone. `images` (B, 3, S, S) are some to try it with.
    """
    twin = copy.deepcopy(model).eval()
    levels: set[int] = set()
    with torch.no_grad():

        def seen(backbone: Backbone, asked: tuple[int, ...]) -> Features:
            levels.update(asked)
            return backbone(images, asked)

        if not _is_enough(twin, images, look, seen):
            return None
        asked = tuple(sorted(levels))
        fronts = _whole_fronts(twin.backbone, asked) if frozen is None else _first_stages(model, images, asked, frozen)
        for front in fronts:
            kept = front.compute(twin.backbone, images)
            dtype = torch.promote_types(kept[0].dtype, kept[-1].dtype)
            keeper = Keeper(front, tuple(one.shape[1:] for one in kept), dtype, images.shape[-1])
            known = keeper.known(keeper.keep(twin.backbone, images), images.device)
            if _agrees(twin.backbone, images, known, asked, front) and _is_enough(twin, images, look, known.seen):
                return keeper
    return None


def _is_enough(
    twin: Model,
    images: Tensor,
    look: Callable[[Model, Tensor], object],
    seen: Callable[[Backbone, tuple[int, ...]], Features],
) -> bool:
    """Whether `look`, which may put the twin in training mode, reads nothing but what is seen."""
    try:
        look(twin, Known.by(seen, count=len(images), side=images.shape[-1], like=images))
    except NotKept:
        return False
    finally:
        twin.eval()
    return True


def _agrees(backbone: Backbone, images: Tensor, known: Known, levels: tuple[int, ...], front: Front) -> bool:
    """Whether going on from what is kept gives what the whole backbone gives."""
    plain = backbone(images, levels)
    try:
        own = backbone(known, levels)
    except Exception:  # whatever a network raises that needs more than this map, it is no front
        return False
    pairs = [(plain.pooled, own.pooled)]
    if not isinstance(front, Pooled):
        pairs += [(plain.map, own.map), *zip(plain.levels, own.levels, strict=True)]
    return all(torch.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in pairs)


def _whole_fronts(backbone: Backbone, levels: tuple[int, ...]) -> list[Front]:
    """From the smallest on."""
    fronts: list[Front] = [Whole(levels)]
    return fronts if levels or backbone.neck else [Pooled(), *fronts]


def _first_stages(
    model: Model, images: Tensor, levels: tuple[int, ...], frozen: Collection[nn.Parameter]
) -> list[Front]:
    """The front that these parameters make, if they do: none where a module among them is called more than once."""
    backbone, stay = copy.deepcopy(model.backbone).eval(), set(map(id, frozen))
    names = {name for name, param in model.backbone.model.named_parameters() if id(param) in stay}
    called: list[tuple[str, torch.Size | None]] = []
    handles = []
    for name, module in backbone.model.named_modules():
        own = {f"{name}.{key}" for key, _ in module.named_parameters()}
        if name and own <= names:

            def note(module: nn.Module, inputs: Any, output: Any, name: str = name) -> None:
                called.append((name, output.shape[1:] if isinstance(output, Tensor) else None))

            handles.append(module.register_forward_hook(note))
    backbone.computed(images, levels)
    for handle in handles:
        handle.remove()
    outermost = [one for one in called if not any(one[0].startswith(f"{other}.") for other, _ in called)]
    learns = {name for name, _ in outermost if any(key.startswith(f"{name}.") for key in names)}
    with suppress(StopIteration):
        last = next(index for index, (name, _) in reversed(list(enumerate(outermost))) if name in learns)
        front, rest = outermost[: last + 1], {name for name, _ in outermost[last + 1 :]}
        passed = tuple((name, shape) for name, shape in front[:-1] if shape is not None)
        once = rest.isdisjoint(dict(front)) and len(dict(front)) == len(front)
        if once and len(passed) == last and front[-1][1] is not None:
            return [FirstStages(passed, front[-1][0], images.shape[-1])]
    return []
