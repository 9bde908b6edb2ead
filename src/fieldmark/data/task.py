"""What a model is to tell apart, as far as losses, heads and scores need to know it.

Shapes: K classes, V values of an attribute.
"""

from __future__ import annotations

from dataclasses import dataclass

from fieldmark.data.taxonomy import Taxonomy

__all__ = ["Attribute", "Task"]


@dataclass(frozen=True)
class Attribute:
    """Something that a model predicts for each image in addition to its class."""

    name: str
    values: tuple[str, ...]
    """(V) the values that it may have."""
    counts: tuple[int, ...] = ()
    """(V) the number of training images of each value; () if it is not known."""


@dataclass(frozen=True)
class Task:
    """What a model is to tell apart, as far as a loss or a head needs to know it."""

    num_classes: int
    counts: tuple[int, ...] = ()
    """(K) the number of training images of each class; () if it is not known, as in a loaded bundle."""
    taxonomy: Taxonomy | None = None
    """The levels above the classes; None or an empty taxonomy if there are none."""
    keypoints: tuple[str, ...] | None = None
    """The names of the key points, () if no training image has a visible one; None if it is not known, as in a loaded
    bundle."""
    grades: tuple[int, ...] = ()
    """(K) the place of each class in the order of grades, from 0; () if the classes are not grades."""
    attributes: tuple[Attribute, ...] = ()
    unlearnt: tuple[int, ...] = ()
    """The classes without training images, which no answer may name."""

    @property
    def learnt(self) -> list[int]:
        """The classes with training images."""
        return sorted(set(range(self.num_classes)).difference(self.unlearnt))
