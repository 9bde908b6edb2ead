"""`Verdict`: the answer for one image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from fieldmark.core.wording import counted

__all__ = ["NO_PROMISE", "Candidate", "Trait", "Verdict", "trait", "verdict"]

_MOST_LISTED = 100
"""Classes of a set that a table names. A model that knows little of 10,000 classes rules out few of them, and all the
names for every image would be gigabytes."""
NO_PROMISE = "no accuracy can be promised"
"""The reason why an answer is not vouched for where none is."""


@dataclass(frozen=True)
class Candidate:
    """A possible class, with its probability."""

    label: str
    probability: float


@dataclass(frozen=True)
class Trait:
    """The most likely value of an attribute."""

    value: str
    probability: float
    """A plain softmax, as if all values were equally common, unless the recipe says otherwise."""


@dataclass(frozen=True, repr=False)
class Verdict:
    """The answer for one image: plain probabilities and, from a calibrated bundle, the most specific reliable name."""

    path: str
    label: str
    """The most likely class, reliable or not."""
    probability: float
    """The probability of `label`: an uncalibrated softmax if the bundle is not calibrated."""
    candidates: tuple[Candidate, ...]
    """The most likely classes, best first; the first is `label`."""
    outside: float | None = None
    """With a checklist, the probability of the classes outside it, before these were excluded."""
    name: str | None = None
    """The most specific name that is vouched for, or None at level "none"."""
    level: str | None = None
    """The level of `name`: "species" (or "class"), "genus", …, "none"; None if the bundle is not calibrated."""
    certainty: float | None = None
    """The calibrated probability that `name` is correct."""
    promised: float | None = None
    """The accuracy that names like this one are promised to have; None if nobody vouches for the answer."""
    familiar: bool | None = None
    """Whether the picture looks like those of the known classes; None if the bundle is not calibrated."""
    possible: tuple[str, ...] | None = None
    """The classes that cannot be ruled out at the requested coverage, best first, or None if unknown."""
    reason: str = ""
    """The reason why the answer is not a class, if it is not."""
    frames: int | None = None
    """With bursts, the number of photographs behind the answer, where `path` is their folder; otherwise None."""
    attributes: Mapping[str, Trait] | None = None
    """The attributes of the pictured thing, or None if the model has learnt none."""
    photographs: int | None = None
    """The number of photographs that `label` was enrolled from; None for a class that was learnt in training."""

    @property
    def said(self) -> str:
        """The answer in words, which differ wherever nobody vouches for it."""
        shown = "" if self.photographs is None else f" (from {counted(self.photographs, 'photograph')})"
        if self.name is not None:
            is_class = self.name == self.label and not self.reason  # a genus may have the name of its class
            return self.name + shown if is_class else f"{self.name} ({self.level})"
        if self.familiar is False:
            return "no answer"
        return f"likely {self.label}{shown}, not vouched for"

    @property
    def sureness(self) -> float | None:
        """The probability that goes with what is said; None where a picture looks unlike every class, since the
        probabilities of classes mean nothing then."""
        if self.familiar is False:
            return None
        return self.probability if self.certainty is None else self.certainty

    @property
    def listed(self) -> str:
        """The classes that cannot be ruled out, for a table: "robin; wren"; of very many, the likeliest, and how many
        more there are."""
        possible = self.possible or ()
        more = [f"and {len(possible) - _MOST_LISTED:,} more"] if len(possible) > _MOST_LISTED else []
        return "; ".join([*possible[:_MOST_LISTED], *more])

    def __repr__(self) -> str:
        sure = "" if self.sureness is None else f" {100 * self.sureness:.1f} %"
        rest = [c for c in self.candidates[:3] if c.label not in (self.name, None if self.name else self.label)]
        then = "; then " + ", ".join(f"{c.label} {100 * c.probability:.0f} %" for c in rest) if rest and sure else ""
        why = f"; {self.reason}" if self.reason else ""
        return f"Verdict({self.path}: {self.said}{sure}{why}{then})"

    def as_dict(self) -> dict[str, Any]:
        """The verdict as plain values: path, label, probability, candidates, promised.

        A calibrated bundle adds name, level, certainty, familiar, possible and reason. Bursts add frames, learnt
        attributes add attributes, a checklist adds outside, and a class that was enrolled adds photographs.
        """
        values: dict[str, Any] = {
            "path": self.path,
            "label": self.label,
            "probability": round(self.probability, 6),
            "candidates": [{"label": c.label, "probability": round(c.probability, 6)} for c in self.candidates],
            "promised": self.promised,
        }
        if self.level is not None:
            values |= {
                "name": self.name,
                "level": self.level,
                "certainty": None if self.certainty is None else round(self.certainty, 6),
                "familiar": self.familiar,
                "possible": None if self.possible is None else list(self.possible),
                "reason": self.reason,
            }
        if self.frames is not None:
            values["frames"] = self.frames
        if self.photographs is not None:
            values["photographs"] = self.photographs
        if self.attributes is not None:
            values["attributes"] = {
                name: {"value": one.value, "probability": round(one.probability, 6)}
                for name, one in self.attributes.items()
            }
        return values if self.outside is None else values | {"outside": round(self.outside, 6)}


def trait(logits: NDArray[np.floating], values: Sequence[str]) -> Trait:
    """The most likely of these values for logits (V,), or log-probabilities."""
    probabilities = softmax(logits.astype(np.float64))
    best = int(probabilities.argmax())
    return Trait(values[best], float(probabilities[best]))


def verdict(
    path: str,
    logits: NDArray[np.floating],
    classes: Sequence[str],
    *,
    among: NDArray[np.int64] | None = None,
    most: int = 5,
) -> Verdict:
    """The plain answer for logits (K,), or log-probabilities.

    `among` keeps only these class indices and rescales their probabilities to a sum of one.
    """
    probabilities = softmax(logits.astype(np.float64))
    outside = None
    if among is not None:
        outside = float(1 - probabilities[among].sum())
        kept = softmax(logits[among].astype(np.float64))
        probabilities = np.zeros_like(probabilities)
        probabilities[among] = kept
    considered = np.arange(len(classes)) if among is None else among
    best = considered[np.argsort(-probabilities[considered], kind="stable")][:most]
    candidates = tuple(Candidate(classes[i], float(probabilities[i])) for i in best)
    return Verdict(path, candidates[0].label, candidates[0].probability, candidates, outside)
