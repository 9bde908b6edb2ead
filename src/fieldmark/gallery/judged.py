"""What `verify` answers: about two pictures, about a picture and a reference, and about itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

import numpy as np

from fieldmark.answering.things import Skipped
from fieldmark.core.wording import counted
from fieldmark.evaluation.paired import Share
from fieldmark.evaluation.verification import RATES, Point, Verification, at_rate

__all__ = ["Candidate", "Identified", "Measured", "Verified"]


@final
@dataclass(frozen=True)
class Verified:
    """Whether two pictures are of one class, at a rate of false accepts."""

    one: str
    other: str
    likeness: float
    """The log-odds of PLDA, which are overstated: they order pairs, and only the threshold gives them a meaning."""
    rate: float
    """Of false accepts, that was asked for."""
    point: Point
    """The threshold, and the shares of pairs of two classes and of one that it accepts."""
    alike: Point
    """The shares of such pairs that are at least as alike as these two."""
    basis: str
    """Where the threshold comes from, in words."""
    learnt: bool
    """Whether it comes from classes that the network has learnt, which it holds apart better than others."""

    def __repr__(self) -> str:
        return f"Verified({self.answer}: {self.one}, {self.other})"

    @property
    def same(self) -> bool:
        return self.likeness >= self.point.threshold

    @property
    def answer(self) -> str:
        return "same" if self.same else "different"

    @property
    def close(self) -> bool:
        """Whether the threshold that other classes give may lie on the other side of these two."""
        return self.alike.false_accepts.low <= self.rate <= self.alike.false_accepts.high

    @property
    def said(self) -> tuple[str, ...]:
        """In words: the answer, and what it rests on."""
        genuine = self.alike.true_accepts
        less = Share(1 - genuine.value, 1 - genuine.high, 1 - genuine.low)
        return (
            f"{self.answer}, at {_percent(self.rate)} false accepts" + (" (a close call)" if self.close else ""),
            f"of pairs of different classes, {self.alike.false_accepts} are at least as alike; "
            f"of pairs of one class, {less} are less alike",
            f"likeness {self.likeness:.1f}, threshold {self.point.threshold:.1f}: it accepts "
            f"{self.point.false_accepts} of pairs of different classes "
            f"and {self.point.true_accepts} of pairs of one class",
            f"threshold from {self.basis}",
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "one": self.one,
            "other": self.other,
            "answer": self.answer,
            "close": self.close,
            "likeness": round(self.likeness, 3),
            "rate": self.rate,
            "threshold": round(self.point.threshold, 3),
            "accepted": {"different": vars(self.point.false_accepts), "same": vars(self.point.true_accepts)},
            "at_least_as_alike": {"different": vars(self.alike.false_accepts), "same": vars(self.alike.true_accepts)},
            "basis": self.basis,
            "of_learnt_classes": self.learnt,
        }


@final
@dataclass(frozen=True)
class Candidate:
    """A known class, as a picture resembles it."""

    name: str
    likeness: float
    photographs: int
    """How many show it."""
    nearest: tuple[str, ...]
    """The paths of those that are most alike."""


@final
@dataclass(frozen=True)
class Identified:
    """Which of the known classes a picture shows, or none, at a rate of false positive identifications."""

    path: str
    rate: float
    point: Point
    """The threshold, and the shares of searches that end with a name: of strangers, and the right one of known ones."""
    alike: Share
    """The share of strangers of which some known class is at least as alike."""
    candidates: tuple[Candidate, ...]
    """The most alike first."""
    num_known: int
    basis: str
    learnt: bool

    def __repr__(self) -> str:
        return f"Identified({self.path}: {self.name or 'none of them'})"

    @property
    def name(self) -> str | None:
        """None if it is none of the known ones."""
        best = self.candidates[0]
        return best.name if best.likeness >= self.point.threshold else None

    @property
    def close(self) -> bool:
        """Whether the threshold that other strangers give may lie on the other side."""
        return self.alike.low <= self.rate <= self.alike.high

    @property
    def said(self) -> tuple[str, ...]:
        """In words: the answer, and what it rests on."""
        none = "none of them" if self.num_known > 1 else f"not {self.candidates[0].name}"
        known = self.point.true_accepts
        found = "" if np.isnan(known.value) else f", and {known} of known ones get the right one"
        return (
            f"{self.path}: {self.name or none}, at {_percent(self.rate)} false identifications"
            + (" (a close call)" if self.close else ""),
            f"{self.alike} of strangers are at least as alike"
            + (f" to one of {self.num_known:,} known ones" if self.num_known > 1 else ""),
            f"likeness {self.candidates[0].likeness:.1f}, threshold {self.point.threshold:.1f}: "
            f"{self.point.false_accepts} of strangers get a name{found}",
            f"threshold from {self.basis}",
            *(
                f"{one.likeness:8.1f}  {one.name} ({counted(one.photographs, 'photograph')}): {one.nearest[0]}"
                for one in self.candidates
            ),
        )

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; null where nothing could be measured."""
        return {
            "path": self.path,
            "name": self.name,
            "close": self.close,
            "rate": self.rate,
            "threshold": round(self.point.threshold, 3),
            "named": {"strangers": vars(self.point.false_accepts), "known": vars(self.point.true_accepts)},
            "at_least_as_alike": vars(self.alike),
            "candidates": [vars(one) | {"likeness": round(one.likeness, 3)} for one in self.candidates],
            "basis": self.basis,
            "of_learnt_classes": self.learnt,
        }


@final
@dataclass(frozen=True, eq=False)
class Measured:
    """How well pairs of classes that the run was not trained on are told apart."""

    verification: Verification
    place: str
    num_new: int
    """How many of the photographs were not there before."""
    skipped: tuple[Skipped, ...]
    """Those that cannot be used, with the reasons."""

    def __repr__(self) -> str:
        return f"Measured({self.place!r}: equal error rate {self.verification.equal_error_rate()})"

    @property
    def said(self) -> tuple[str, ...]:
        """In words, with the ROC as a table."""
        found = self.verification
        rows = [
            f"{_percent(rate):>12}  {point.threshold:>9.1f}  {point.true_accepts}"
            + ("" if kept else "   not promised: too few classes")
            for rate, point, kept in self.roc()
        ]
        return (
            f"equal error rate {found.equal_error_rate()}; 95 % intervals over classes",
            f"{counted(len(found.scores), 'pair')} of {counted(found.num_pictures, 'photograph')} of "
            f"{found.num_classes:,} classes that the run was not trained on, {self.num_new:,} of them added now: "
            f"{self.place}",
            "false accepts  threshold  true accepts",
            *rows,
        )

    def roc(self) -> list[tuple[float, Point, bool]]:
        """For each usual rate of false accepts: what happens at its threshold, and whether it can be promised."""
        found = self.verification
        return [(rate, *at_rate(found, rate)) for rate in RATES]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        found = self.verification
        return {
            "photographs": found.num_pictures,
            "classes": found.num_classes,
            "pairs": {"same": int(found.genuine.sum()), "different": int((~found.genuine).sum())},
            "equal_error_rate": vars(found.equal_error_rate()),
            "roc": [
                {
                    "rate": rate,
                    "promised": kept,
                    "threshold": round(point.threshold, 3),
                    "false_accepts": vars(point.false_accepts),
                    "true_accepts": vars(point.true_accepts),
                }
                for rate, point, kept in self.roc()
            ],
            "skipped": [vars(one) for one in self.skipped],
            "kept": self.place,
        }


def _percent(share: float) -> str:
    return f"{100 * share:g} %"
