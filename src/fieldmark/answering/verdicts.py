"""From a network's outputs to verdicts, using what a bundle knows about its answers. Nothing here needs torch.

Shapes: N images, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from fieldmark.answering.stream import Answered
from fieldmark.answering.things import Skipped, Thing
from fieldmark.data.bursts import grouped, taken
from fieldmark.evaluation.blocks import blocks
from fieldmark.evaluation.bursts import DEPENDENT, pool
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.evaluation.unknown import nearness
from fieldmark.evaluation.verdict import Verdict, trait, verdict
from fieldmark.runs.bundle import Bundle

__all__ = ["Evidence", "Speaker", "evidence_of"]

Floats = NDArray[np.float64]


class Evidence(NamedTuple):
    """All that verdicts on N images are made from, which is less than what a network answers."""

    logits: NDArray[np.float32]
    """(N, K)."""
    near: Floats
    """(N,) the cosine to the nearest class mean; zeros if nothing is calibrated."""
    attributes: tuple[NDArray[np.float32], ...] = ()
    """Logits (N, V) of each attribute."""


def evidence_of(bundle: Bundle, outputs: Outputs) -> Evidence:
    """What a bundle's verdicts need of a network's outputs."""
    known = bundle.calibration
    near = nearness(outputs.embedding, known.means) if known and len(outputs.logits) else np.zeros(len(outputs.logits))
    return Evidence(outputs.logits, near, outputs.attributes)


@final
@dataclass(frozen=True, eq=False)
class Speaker:
    """Turns outputs into verdicts, using the thresholds and the checklist that a user asked for."""

    bundle: Bundle
    thresholds: Thresholds | None
    """The thresholds, or None if nothing is calibrated; verdicts are then plain probabilities."""
    among: NDArray[np.int64] | None = None
    """The classes of the checklist, or None without one."""
    candidates: int = 5
    """The number of classes that a verdict lists."""

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        *,
        among: Sequence[str] | None = None,
        candidates: int = 5,
        accuracy: float | None = None,
        coverage: float | None = None,
    ) -> Speaker:
        """Make a speaker for a bundle. Raises RunError for an unknown class, and for a promise that cannot be kept."""
        rows = None if among is None else bundle.class_rows(among)
        return cls(bundle, bundle.thresholds(accuracy, coverage), rows, candidates)

    def verdicts(self, names: Sequence[str], found: Outputs | Evidence) -> list[Verdict]:
        """Return one verdict for each of N images."""
        return list(self.spoken(names, found))

    def spoken(self, names: Sequence[str], found: Outputs | Evidence) -> Iterator[Verdict]:
        """Yield one verdict for each of N images, whose probabilities need not fit into memory together."""
        if not len(names):
            return
        known = found if isinstance(found, Evidence) else evidence_of(self.bundle, found)
        for rows in blocks(*known.logits.shape):
            verdicts = self._spoken(names[rows], self.bundle.log_probabilities(known.logits[rows]), known.near[rows])
            yield from self._completed(verdicts, [log_softmax(logits[rows], axis=1) for logits in known.attributes])

    def pooled(self, names: Sequence[str], groups: NDArray[np.int64], found: Outputs | Evidence) -> list[Verdict]:
        """Return one verdict for each of U groups of photographs of one thing, from the groups (N,) of its images.

        What groups of several photographs are promised comes from bursts among the held-out images.
        """
        if not len(names):
            return []
        known = found if isinstance(found, Evidence) else evidence_of(self.bundle, found)
        frames = np.bincount(groups)
        power = self.bundle.calibration.power if self.bundle.calibration else DEPENDENT
        log_probabilities = pool(self.bundle.log_probabilities(known.logits), groups, power)
        spoken = self._spoken(names, log_probabilities, np.bincount(groups, known.near) / frames, frames)
        return self._completed(
            spoken, [pool(log_softmax(logits, axis=1), groups, DEPENDENT) for logits in known.attributes]
        )

    def as_they_come(
        self, stream: Iterable[Answered[Thing, Outputs]], *, bursts: bool = False, gap: float | None = None
    ) -> Iterator[Verdict | Skipped]:
        """Yield a verdict for each image of a stream, or `Skipped`, and in the end those of folders or of bursts."""
        names: dict[str, int] = {}
        kept: list[Outputs] = []
        pooling = bursts or gap is not None
        for answered in stream:
            readable = [thing.name for thing in answered.readable]
            verdicts = iter(self.verdicts(readable, answered.output) if answered.output else ())
            for thing, error in zip(answered.things, answered.errors, strict=True):
                if error is not None:
                    yield Skipped(thing.name, str(error))
                else:
                    yield replace(next(verdicts), frames=1) if pooling else next(verdicts)
            if pooling and answered.output:
                new = {name: at for at, name in enumerate(readable) if name not in names}
                names |= new
                kept.append(answered.output.at(list(new.values())))
        if kept:
            times = None if bursts else [taken(Path(name)) for name in names]
            pooled = self.pooled(*grouped(list(names), times, None if bursts else gap), joined(kept))
            yield from (one for one in pooled if bursts or one.frames != 1)

    def _spoken(
        self, names: Sequence[str], log_probabilities: Floats, near: Floats, frames: NDArray[np.int64] | None = None
    ) -> list[Verdict]:
        if self.thresholds:
            return self.thresholds.verdicts(
                names, log_probabilities, near, frames=frames, among=self.among, most=self.candidates
            )
        numbers = [None] * len(names) if frames is None else frames.tolist()
        answers = zip(names, log_probabilities, numbers, strict=True)
        return [
            replace(verdict(name, z, self.bundle.classes, among=self.among, most=self.candidates), frames=number)
            for name, z, number in answers
        ]

    def _completed(self, verdicts: list[Verdict], attributes: Sequence[NDArray[np.floating]]) -> list[Verdict]:
        """Add the most likely value of each attribute, from its log-probabilities (N, V), and of how many photographs
        an enrolled class is known."""
        if photographs := self.bundle.photographs:
            verdicts = [replace(one, photographs=photographs.get(one.label)) for one in verdicts]
        if not self.bundle.attributes:
            return verdicts
        told = list(zip(self.bundle.attributes.items(), attributes, strict=True))
        return [
            replace(one, attributes={name: trait(z[i], values) for (name, values), z in told})
            for i, one in enumerate(verdicts)
        ]
