"""`Tap`: a place in a backbone where its map is read, or exchanged for another. It works by forward hooks, so that no
method has to know of it.

Shapes: B images, C channels, h × w cells.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol, final

from torch import Tensor, nn

from fieldmark.core.errors import RecipeError
from fieldmark.model.backbone import Backbone
from fieldmark.model.method import Prediction

__all__ = ["CELLS", "Network", "Tap", "answers", "last_map", "read", "tap"]

CELLS = 8
"""Across the picture, at least; a coarser map does not tell an eye from a beak."""


class Network(Protocol):
    """A method, a model, or whatever else gives predictions by a backbone."""

    @property
    def backbone(self) -> Backbone: ...

    def __call__(self, images: Tensor) -> Prediction: ...

    def eval(self) -> Any: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def modules(self) -> Iterator[nn.Module]: ...


@final
@dataclass(frozen=True, eq=False)
class Tap:
    """A place in a backbone."""

    backbone: Backbone
    module: nn.Module

    @contextmanager
    def hooked(self, change: Callable[[Tensor], Tensor]) -> Iterator[list[bool]]:
        """While this lasts, `change` sees what the model gives here and returns what the model goes on with.

        Only the first look of a forward pass is changed: a method that looks again at crops sees them as they are.
        Gives a list that grows by one at each look.
        """
        looks: list[bool] = []

        def hook(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            looks.append(True)
            return change(output) if len(looks) == 1 else output

        handle = self.module.register_forward_hook(hook)
        try:
            yield looks
        finally:
            handle.remove()


def last_map(method: Network) -> Tap:
    """The last map of a method's backbone."""
    return Tap(method.backbone, method.backbone.last)


def tap(method: Network, size: int) -> Tap:
    """The deepest map that has `CELLS` cells across a picture of `size` pixels; the last where there is no such.

    Of a transformer it is the map before the last block: where the class token alone is read, the tokens that leave the
    last block say nothing any more.
    """
    backbone = method.backbone
    try:
        levels = backbone.levels
    except RecipeError:  # it names no maps
        return last_map(method)
    if not levels[-1].module:  # no single place makes them
        return last_map(method)
    if getattr(backbone.model, "num_prefix_tokens", 0) and len(levels) > 1:
        return Tap(backbone, backbone.model.get_submodule(levels[-2].module))
    fine = [level for level in levels if level.stride * CELLS <= size] or levels[:1]
    deepest = fine[-1] == levels[-1]
    return last_map(method) if deepest else Tap(backbone, backbone.model.get_submodule(fine[-1].module))


@contextmanager
def read(places: Sequence[Tap]) -> Iterator[dict[Tap, Tensor]]:
    """The maps (B, C, h, w) at these taps in the forward pass that follows."""
    found: dict[Tap, Tensor] = {}

    def keep(place: Tap) -> Callable[[Tensor], Tensor]:
        def change(output: Tensor) -> Tensor:
            found[place] = place.backbone.as_map(output)
            return output.clone()  # what follows may work in place

        return change

    with ExitStack() as stack:
        for place in places:
            stack.enter_context(place.hooked(keep(place)))
        yield found


def answers(method: Network, image: Tensor, place: Tap, maps: Tensor) -> Tensor:
    """(n, K) the logits with these maps (n, C, h, w) in place of that of the image (1, 3, S, S)."""
    given = maps.to(image.device)

    def look(images: Tensor) -> tuple[Tensor, int]:
        with place.hooked(partial(place.backbone.with_map, given=given)) as looks:
            return method(images).logits, len(looks)

    with suppress(RuntimeError):  # a method that reads more than one map of the image
        logits, num_looks = look(image)  # what comes before the map is the same for all: once is enough
        if num_looks == 1 and len(logits) == len(given):
            return logits
    return look(image.expand(len(given), -1, -1, -1))[0]
