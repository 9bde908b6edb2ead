"""What changed from one run to the one that goes on from it, on images that neither has learnt from.

Shapes: N images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.wording import counted, first_few
from fieldmark.evaluation.paired import Difference, gain

__all__ = ["Changed", "ClassChange"]


@final
@dataclass(frozen=True)
class ClassChange:
    """How many of the common images of a class were right before, and are now."""

    name: str
    images: int
    before: int
    after: int

    def __str__(self) -> str:
        return f"{self.name} ({self.before:,} → {self.after:,} of {self.images:,})"


@final
@dataclass(frozen=True)
class Changed:
    """How an older run and the one that goes on from it answer the images that both held out."""

    run: str
    """The folder of the older one."""
    images: int
    """How many there are of these, with the shares that are right."""
    before: float
    after: float
    gain: float
    low: float
    high: float
    """The difference, with its 95 % interval."""
    classes: tuple[ClassChange, ...]
    """Those with another number of right answers than before, the greatest changes first."""
    taken: int
    """Images that are now taken for a class that the older run did not know."""
    new_images: int
    """Held-out images that the older run did not have, and how many of them are right."""
    new_right: int

    @classmethod
    def of(
        cls,
        run: str,
        old_answers: Mapping[str, str],
        pictures: Sequence[str],
        labels: Sequence[str],
        answers: Sequence[str],
        units: NDArray[np.integer],
        *,
        known: Sequence[str],
        seed: int,
    ) -> Self | None:
        """Compare the `old_answers`, a class for each picture, with new ones for held-out pictures (N,) that belong to
        units (N,); the older run had the classes `known`. None if none was held out by both."""
        both = np.array([picture in old_answers for picture in pictures], np.bool_)
        if not both.any():
            return None
        right = np.array(answers, object) == np.array(labels, object)
        rows = np.flatnonzero(both).tolist()
        before = np.array([old_answers[pictures[row]] == labels[row] for row in rows], np.bool_)
        after, named = right[rows], np.array(labels, object)[rows]
        found: Difference = gain(before, after, units[rows], seed=seed)
        changes = (
            ClassChange(
                str(name), int((named == name).sum()), int(before[named == name].sum()), int(after[named == name].sum())
            )
            for name in dict.fromkeys(named)
        )
        return cls(
            run=run,
            images=len(rows),
            before=float(before.mean()),
            after=float(after.mean()),
            gain=found.value,
            low=found.low,
            high=found.high,
            classes=tuple(
                sorted((one for one in changes if one.before != one.after), key=lambda o: -abs(o.after - o.before))
            ),
            taken=sum(answers[row] not in set(known) for row in rows),
            new_images=int((~both).sum()),
            new_right=int(right[~both].sum()),
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """What `as_dict` gave."""
        return cls(**{**values, "classes": tuple(ClassChange(**one) for one in values["classes"])})

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def better(self) -> list[ClassChange]:
        return [one for one in self.classes if one.after > one.before]

    @property
    def worse(self) -> list[ClassChange]:
        return [one for one in self.classes if one.after < one.before]

    def sentences(self, named: int = 3) -> list[str]:
        """What it says, without full stops; of classes, so many are named."""
        said = [
            f"Of {counted(self.images, 'image')} that both runs held out, {self.run} has {100 * self.before:.1f} % "
            f"right and this run {100 * self.after:.1f} % ({100 * self.low:+.1f} to {100 * self.high:+.1f} points): "
            f"{self._judged}"
        ]
        groups = ((self.better, "Better"), (self.worse, "Worse"))
        if moved := [f"{word}: {first_few(map(str, some), named)}" for some, word in groups if some]:
            said.append("; ".join(moved))
        if self.taken:
            said.append(f"{self.taken:,} of these {'is' if self.taken == 1 else 'are'} now taken for a new class")
        if self.new_images:
            share = 100 * self.new_right / self.new_images
            said.append(f"Of {counted(self.new_images, 'new held-out image')}, {share:.1f} % are right")
        return said

    @property
    def _judged(self) -> str:
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no clear difference"
