"""`Verdict`: one image's answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

__all__ = ["Candidate", "Trait", "Verdict", "trait", "verdict"]


@dataclass(frozen=True)
class Candidate:
    """A class that it may be."""

    label: str
    probability: float


@dataclass(frozen=True)
class Trait:
    """What an attribute is."""

    value: str
    probability: float
    """Plain softmax; as if all values were equally common, unless the recipe says otherwise."""


@dataclass(frozen=True, repr=False)
class Verdict:
    """One image's answer: plain probabilities and, from a calibrated bundle, the name that can be vouched for."""

    path: str
    label: str
    """The likeliest class, whether it can be vouched for or not."""
    probability: float
    """Of `label`; uncalibrated softmax where the bundle is not calibrated."""
    candidates: tuple[Candidate, ...]
    """The likeliest classes, best first; the first is `label`."""
    outside: float | None = None
    """With a checklist: the probability that fell on classes outside it, before it was set aside."""
    name: str | None = None
    """The deepest name that can be vouched for; none at level "none"."""
    level: str | None = None
    """Of `name`: "species" (or "class"), "genus", …, "none"; none where the bundle is not calibrated."""
    certainty: float | None = None
    """Calibrated probability that `name` is true."""
    possible: tuple[str, ...] | None = None
    """The classes that cannot be ruled out at the coverage that was asked for, best first; none where unknown."""
    reason: str = ""
    """Why the answer is not a class."""
    frames: int | None = None
    """With bursts: how many photographs the answer is of, `path` being their folder; none for a single one."""
    attributes: Mapping[str, Trait] | None = None
    """What else was told of it; none where no attribute was learnt."""

    def __repr__(self) -> str:
        rest = ", ".join(f"{c.label} {100 * c.probability:.0f} %" for c in self.candidates[1:3])
        then = f"; then {rest}" if rest else ""
        if self.name == self.label or self.level is None:
            return f"Verdict({self.path}: {self.label} {100 * self.probability:.1f} %{then})"
        given = "none" if self.certainty is None else f"{self.name} ({self.level}) {100 * self.certainty:.1f} %"
        return f"Verdict({self.path}: {given}; {self.label} {100 * self.probability:.0f} %{then})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values: path, label, probability, candidates.

        From a calibrated bundle also name, level, certainty, possible and reason; frames where bursts were asked for;
        attributes where some were learnt; outside with a checklist.
        """
        values: dict[str, Any] = {
            "path": self.path,
            "label": self.label,
            "probability": round(self.probability, 6),
            "candidates": [{"label": c.label, "probability": round(c.probability, 6)} for c in self.candidates],
        }
        if self.level is not None:
            values |= {
                "name": self.name,
                "level": self.level,
                "certainty": None if self.certainty is None else round(self.certainty, 6),
                "possible": None if self.possible is None else list(self.possible),
                "reason": self.reason,
            }
        if self.frames is not None:
            values["frames"] = self.frames
        if self.attributes is not None:
            values["attributes"] = {
                name: {"value": one.value, "probability": round(one.probability, 6)}
                for name, one in self.attributes.items()
            }
        return values if self.outside is None else values | {"outside": round(self.outside, 6)}


def trait(logits: NDArray[np.floating], values: Sequence[str]) -> Trait:
    """The likeliest of these values for logits (V,), or log-probabilities."""
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

    `among` keeps only these class indices and spreads their probability to one.
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
