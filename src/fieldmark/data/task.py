"""What is to be told apart, as far as losses, heads and scores need to know it.

Shapes: K classes, V values of an attribute.
"""

from __future__ import annotations

from dataclasses import dataclass

from fieldmark.data.taxonomy import Taxonomy

__all__ = ["Attribute", "Task"]


@dataclass(frozen=True)
class Attribute:
    """Something else that is to be told of each image, beside its class."""

    name: str
    values: tuple[str, ...]
    """(V) what it may be."""
    counts: tuple[int, ...] = ()
    """(V) training images of each value; () where it is not known."""


@dataclass(frozen=True)
class Task:
    """What is to be told apart, as far as a loss or a head needs to know it."""

    num_classes: int
    counts: tuple[int, ...] = ()
    """(K) training images of each class; () where it is not known, as in a loaded bundle."""
    taxonomy: Taxonomy | None = None
    """What stands above the classes; none or an empty one where nothing does."""
    keypoints: tuple[str, ...] | None = None
    """Names of the key points, () where no training image has a visible one; none where it is not known, as in a loaded
    bundle."""
    grades: tuple[int, ...] = ()
    """(K) the place of each class in the order of grades, from 0; () where classes are not graded."""
    attributes: tuple[Attribute, ...] = ()
