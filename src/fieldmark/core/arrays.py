"""Arrays on disk have a schema: their kind, their sides and their range, an `Array` for each name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Literal

from fieldmark.core.wording import brief

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Array", "parse_arrays"]


@dataclass(frozen=True)
class Array:
    """What an array must be."""

    kind: Literal["float", "half", "int64", "bool"]
    sides: tuple[str | int, ...]
    """The length of each side, as a number or as a letter that stands for the same number wherever it occurs."""
    least: float = -inf
    most: float | str = inf
    """The range of its values, both ends included; a letter means below that number."""
    ascending: bool = False
    shortest: int = 0
    """How many values there must be."""
    optional: bool = False


_TYPES = {"float": ("float32", "float64"), "half": ("float16",), "int64": ("int64",), "bool": ("bool",)}


def parse_arrays(data: bytes, shapes: Mapping[str, Array], sizes: Mapping[str, int]) -> dict[str, NDArray[Any]]:
    """The arrays in the bytes of a safetensors file.

    `sizes` are the letters that are known. Raises ValueError for what is no such file, and for an array that is missing
    or not what it must be; others are left out.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        found = load(data)
    except (SafetensorError, KeyError, TypeError, AttributeError) as error:  # the latter for types that numpy lacks
        raise ValueError(f"it is not a safetensors file of arrays ({error})") from None
    if missing := sorted(name for name, one in shapes.items() if name not in found and not one.optional):
        raise ValueError(f"there is no array {missing[0]!r}")
    kept, known = {name: found[name] for name in shapes if name in found}, dict(sizes)
    for name, values in kept.items():
        if problem := _problem(values, shapes[name], known):
            raise ValueError(f"the array {name!r} {problem}")
    return kept


def _problem(values: NDArray[Any], shape: Array, known: dict[str, int]) -> str:
    """What is wrong with an array, or "". Letters that it is the first to have become `known`."""
    if values.dtype.name not in _TYPES[shape.kind]:
        return f"is of type {values.dtype.name}, where {shape.kind} was expected"
    if values.ndim == len(shape.sides):
        for side, length in zip(shape.sides, values.shape, strict=True):
            if isinstance(side, str):
                known.setdefault(side, length)
    sides = tuple(side if isinstance(side, int) else known.get(side, side) for side in shape.sides)
    if values.shape != sides:
        return f"is of shape {brief(values.shape)}, where {brief(sides)} was expected"
    if values.size < shape.shortest:
        return f"has {values.size} values, where at least {shape.shortest} was expected"
    most = known[shape.most] - 1 if isinstance(shape.most, str) else shape.most
    if shape.kind == "bool" or not values.size:
        return ""
    low, high = float(values.min()), float(values.max())  # NaN if there is one
    if not (max(shape.least, -1e300) <= low and high <= min(most, 1e300)):
        return f"has values from {low:g} to {high:g}, where {shape.least:g} to {most:g} was expected"
    if shape.ascending and (values[1:] < values[:-1]).any():
        return "is not in ascending order"
    return ""
