"""Stand-ins for images whose features are known.

Weights that stay as they are make the same of the same picture in every epoch, so it is computed once and kept. A
method is then given a stand-in in place of the images, and its `backbone(images)` answers as ever. Nothing but the size
of the images is left: a method that looks at pixels, or at parts of them, is told so by `NotKept`.

Shapes: B images of S × S pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Self, final

import torch
from torch import Tensor

if TYPE_CHECKING:
    from fieldmark.model.backbone import Backbone, Features

__all__ = ["Absent", "Known", "NotKept"]


class NotKept(Exception):
    """Somebody reads a tensor of which nothing but the shape is left."""


_ABOUT: tuple[Any, ...] = (
    *(getattr(Tensor, name).__get__ for name in ("shape", "device", "dtype", "ndim")),
    *(Tensor.size, Tensor.dim, Tensor.__len__),
)


class Absent(Tensor):
    """The shape, the type and the device of a tensor that is not there. Raises NotKept where it is read."""

    @classmethod
    def of(cls, *shape: int, like: Tensor) -> Self:
        """One of this shape, of the type and on the device of another tensor."""
        return torch.empty((), dtype=like.dtype, device=like.device).expand(shape).as_subclass(cls)

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func not in _ABOUT:
            raise NotKept
        with torch._C.DisableTorchFunctionSubclass():
            return func(*args, **(kwargs or {}))


@final
class Known(Absent):
    """Images (B, 3, S, S) that are not there, and what a backbone makes of them."""

    seen: Callable[[Backbone, tuple[int, ...]], Features]
    """The backbone, and the levels that are asked of it → what it sees."""
    some: Callable[[slice], Known] | None
    """Some of the images; None if that is not known."""

    @classmethod
    def by(
        cls,
        seen: Callable[[Backbone, tuple[int, ...]], Features],
        *,
        some: Callable[[slice], Known] | None = None,
        count: int,
        side: int,
        like: Tensor,
    ) -> Known:
        """So many images of this size."""
        known = cls.of(count, 3, side, side, like=like)
        known.seen, known.some = seen, some
        return known

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.__getitem__ and isinstance(args[1], slice) and args[0].some:
            return args[0].some(args[1])
        return super().__torch_function__(func, types, args, kwargs)
