"""`Verdict`: one image's answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

__all__ = ["Candidate", "Verdict", "verdict"]


@dataclass(frozen=True)
class Candidate:
    """A class that it may be."""

    label: str
    probability: float


@dataclass(frozen=True, repr=False)
class Verdict:
    """One image's answer."""

    path: str
    label: str
    probability: float
    """Of `label`; uncalibrated softmax."""
    candidates: tuple[Candidate, ...]
    """The likeliest classes, best first; the first is `label`."""
    outside: float | None = None
    """With a checklist: the probability that fell on classes outside it, before it was set aside."""

    def __repr__(self) -> str:
        rest = ", ".join(f"{c.label} {100 * c.probability:.0f} %" for c in self.candidates[1:3])
        return f"Verdict({self.path}: {self.label} {100 * self.probability:.1f} %{f'; then {rest}' if rest else ''})"

    def as_dict(self) -> dict[str, Any]:
        """Plain values with the keys path, label, probability, candidates (and outside, with a checklist)."""
        values: dict[str, Any] = {
            "path": self.path,
            "label": self.label,
            "probability": round(self.probability, 6),
            "candidates": [{"label": c.label, "probability": round(c.probability, 6)} for c in self.candidates],
        }
        return values if self.outside is None else values | {"outside": round(self.outside, 6)}


def verdict(
    path: str,
    logits: NDArray[np.float32],
    classes: Sequence[str],
    *,
    among: NDArray[np.int64] | None = None,
    most: int = 5,
) -> Verdict:
    """The answer for logits (K,). `among` keeps only these class indices and spreads their probability to one."""
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
