"""The order of an epoch's images, class by class: each class equally often, however many images it has.

Shapes: N images, C classes among them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["class_order", "deal", "recurrences"]

Ints = NDArray[np.int64]


def class_order(labels: Ints, *, batches: int, classes: int, images: int, rng: np.random.Generator) -> Ints:
    """Positions in labels (N,) that make up batches of so many classes with so many images each (batches, P · K).

    Classes are dealt to batches and images to their class, both like cards. Where there are fewer classes than a batch
    has room for, some get the room of several; where a class has fewer images, they come again.
    """
    names, index = np.unique(labels, return_inverse=True)
    dealt = deal(len(names), classes, batches, rng)
    order = np.empty((batches * classes, images), np.int64)
    for members, places in zip(_positions(index, len(names)), _positions(dealt.ravel(), len(names)), strict=True):
        order[places] = members[deal(len(members), images, len(places), rng)]
    return order.reshape(batches, -1)


def deal(count: int, size: int, hands: int, rng: np.random.Generator) -> Ints:
    """(hands, size) of `count` cards. The deck is shuffled anew when all are out, so that none is dealt twice more than
    another, and no hand holds a card twice while there are enough.
    """
    decks: list[Ints] = []
    while len(decks) * count < hands * size:
        deck = rng.permutation(count)
        begun = len(decks) * count % size
        if begun:  # what the unfinished hand holds already goes to the bottom
            deck = deck[np.argsort(np.isin(deck, decks[-1][-begun:]), kind="stable")]
        decks.append(deck)
    cards = np.concatenate(decks) if decks else np.empty(0, np.int64)
    return cards[: hands * size].reshape(hands, size)


def recurrences(rows: Ints) -> Ints:
    """(N,) how often each row came before in rows (N,)."""
    by_row = np.argsort(rows, kind="stable")
    _, firsts, counts = np.unique(rows[by_row], return_index=True, return_counts=True)
    before = np.empty(len(rows), np.int64)
    before[by_row] = np.arange(len(rows)) - np.repeat(firsts, counts)
    return before


def _positions(index: Ints, count: int) -> list[Ints]:
    """Where 0, 1, … count − 1 are in index (N,)."""
    ends = np.cumsum(np.bincount(index, minlength=count))
    return np.split(np.argsort(index, kind="stable"), ends[:-1])
