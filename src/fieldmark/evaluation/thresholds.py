"""`Thresholds`: how a calibration turns answers into verdicts at one accuracy and one coverage.

Shapes: N images, K classes, L levels from the class upwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import RunError
from fieldmark.core.wording import CROSSFIT, counted
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.backoff import NONE, Promise, highest_promise, promise
from fieldmark.evaluation.calibration import COVERAGE, Calibration
from fieldmark.evaluation.conformal import images_needed, score, set_limits, sets
from fieldmark.evaluation.unknown import ACCEPTED
from fieldmark.evaluation.verdict import NO_PROMISE, Verdict, verdict

__all__ = ["Thresholds"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Thresholds:
    """The thresholds for an accuracy of given answers and a coverage of sets."""

    calibration: Calibration
    taxonomy: Taxonomy
    promise: Promise
    """What single images are promised; without a threshold, no answer is vouched for."""
    of_bursts: Promise
    """The same for bursts of several images, whose accuracy may be another one."""
    coverage: float
    limits: Floats
    """(K,) the limits of the sets' scores; infinite if the data does not suffice for the coverage."""
    notes: tuple[str, ...]
    """Statements of what cannot be promised."""

    @classmethod
    def of(
        cls,
        calibration: Calibration,
        taxonomy: Taxonomy,
        *,
        accuracy: float | None = None,
        coverage: float | None = None,
    ) -> Thresholds:
        """The thresholds for an accuracy and a coverage in (0, 1).

        By default, the accuracy is the highest of 95, 90, 80 and 70 % that the held-out images can carry, and the
        coverage is 90 %. What cannot be promised by default is left out, with a note. Raises RunError for a requested
        accuracy or coverage that cannot be promised.
        """
        for name, share in (("accuracy", accuracy), ("coverage", coverage)):
            if share is not None and not 0 < share < 1:
                raise RunError(f"The {name} cannot be {share:g}", "Expected a share between 0 and 1, such as 0.95.")
        held_out = calibration.confidences, calibration.right
        given, missed = highest_promise(*held_out) if accuracy is None else (promise(*held_out, accuracy), None)
        if given.problem and accuracy is not None:
            raise RunError(given.problem, _attainable(calibration, accuracy))
        pooled = calibration.burst_confidences, calibration.burst_right
        of_bursts = highest_promise(*pooled)[0] if accuracy is None else promise(*pooled, accuracy)
        share = coverage or COVERAGE
        limits = set_limits(
            score(calibration.above, calibration.rank, calibration.penalty),
            calibration.labels,
            len(calibration.means),
            share,
        )
        lacking = ""
        if np.isinf(limits).any():
            lacking = (
                f"A coverage of {100 * share:g} % cannot be promised from "
                f"{counted(len(calibration.labels), 'independent validation image')}: it takes {images_needed(share):,}"
            )
            if coverage is not None:
                raise RunError(lacking, "Ask for a lower coverage, or leave it out.")
        short = _fallen_short(calibration, taxonomy, given, missed) if missed else ""
        notes = (short, _of_bursts(given, of_bursts), lacking)
        return cls(calibration, taxonomy, given, of_bursts, share, limits, tuple(note for note in notes if note))

    @property
    def promised(self) -> float | None:
        """The accuracy that given answers are promised to have; None if nothing can be promised."""
        return None if self.promise.threshold is None else self.promise.accuracy

    @property
    def gives_sets(self) -> bool:
        """Whether the data suffices for the coverage."""
        return not np.isinf(self.limits).any()

    def levels(self, confidences: Floats, familiar: NDArray[np.bool_], frames: Ints | None = None) -> Ints:
        """(N,) the level of each answer; NONE if no name is vouched for or the picture is not familiar (N,).

        `frames` (N,): of how many images each answer is the burst, if any is.
        """
        levels = self.promise.levels(confidences)
        if frames is not None:
            levels = np.where(frames > 1, self.of_bursts.levels(confidences), levels)
        return np.where(familiar, levels, NONE)

    def sets(self, probabilities: Floats) -> NDArray[np.bool_]:
        """(N, K) the classes that cannot be ruled out, for calibrated probabilities (N, K)."""
        return sets(probabilities, self.limits, self.calibration.penalty)

    def shares_below(self, probabilities: Floats, near: Floats) -> Floats:
        """(N,) the share of known images that look no more familiar than each image."""
        familiarity = self.calibration.familiarity
        return familiarity.share_below(familiarity.score(probabilities.max(axis=1), near))

    def verdicts(
        self,
        paths: Sequence[str],
        log_probabilities: Floats,
        near: Floats,
        *,
        frames: Ints | None = None,
        among: Ints | None = None,
        most: int = 5,
    ) -> list[Verdict]:
        """One verdict for each image, or burst of `frames` (N,), from calibrated log-probabilities (N, K) and nearness
        (N,)."""
        if not len(paths):
            return []
        unlisted = np.exp(log_probabilities)
        shares = self.shares_below(unlisted, near)
        familiar = shares > 1 - ACCEPTED
        considered = log_probabilities if among is None else _within(log_probabilities, among)
        probabilities = np.exp(considered)
        answers, confidences = self.calibration.order(self.taxonomy, considered)
        if among is not None:
            # The promise was tested on answers without a checklist: such an answer keeps it if it is on the list, too,
            # since a list that holds the right class only strikes out wrong ones.
            anywhere, unrestricted = self.calibration.order(self.taxonomy, log_probabilities)
            confidences = np.where(answers == anywhere, unrestricted, 0.0)
        certainties = self.taxonomy.shares(probabilities, answers)
        levels = self.levels(confidences, familiar, frames)
        # Sets were calibrated without a checklist, too, and lose nothing right by it. It may strike out all of a set.
        possible = self.sets(unlisted) & (probabilities > 0)
        possible[np.arange(len(paths)), probabilities.argmax(axis=1)] = True
        verdicts = []
        for i, path in enumerate(paths):
            given = self.promise if frames is None or frames[i] == 1 else self.of_bursts
            said = replace(
                verdict(path, log_probabilities[i], self.taxonomy.classes, among=among, most=most),
                level="none",
                familiar=bool(familiar[i]),
                possible=self._listed(probabilities[i], possible[i]) if self.gives_sets else None,
                reason=self._reason(int(levels[i]), confidences[i], float(shares[i]), given),
                frames=None if frames is None else int(frames[i]),
            )
            if (level := int(levels[i])) != NONE:
                said = replace(
                    said,
                    name=self.taxonomy.levels[level].names[answers[i, level]],
                    level=self.taxonomy.levels[level].name,
                    certainty=float(certainties[i, level]),
                    promised=given.accuracy,
                )
            verdicts.append(said)
        return verdicts

    def _listed(self, probabilities: Floats, inside: NDArray[np.bool_]) -> tuple[str, ...]:
        """The classes of a set, best first."""
        among = np.flatnonzero(inside)
        order = among[np.argsort(-probabilities[among], kind="stable")]
        return tuple(self.taxonomy.classes[k] for k in order.tolist())

    def _reason(self, level: int, confidences: Floats, share: float, given: Promise) -> str:
        """The reason why the answer is not a class, in words."""
        if level == 0:
            return ""
        if level == NONE and share <= 1 - ACCEPTED:
            more = f"{100 * (1 - share):.0f} % of the known images" if share >= 0.005 else "any known image"
            return f"less familiar than {more}"
        if given.threshold is None:
            return NO_PROMISE
        tried = range(len(confidences) if level == NONE else level)
        found = ", ".join(f"{self.taxonomy.levels[k].name} {100 * confidences[k]:.0f} %" for k in tried)
        return f"{found}; {100 * given.accuracy:g} % accuracy requires {100 * given.threshold:.0f} %"


def _fallen_short(calibration: Calibration, taxonomy: Taxonomy, given: Promise, missed: Promise) -> str:
    """Why nothing higher is promised by default, what is promised instead, and what would help."""
    instead = (
        "No answer is vouched for"
        if given.threshold is None
        else f"{100 * given.accuracy:g} % is promised instead, for {100 * given.share:.0f} % of the images"
    )
    help = ["more images"]
    if calibration.source == "validation":
        help = ["more validation images", f"`{CROSSFIT}`, where every training image serves for validation"]
    if len(taxonomy.levels) == 1:
        help.append("a taxonomy, so that a genus can be named where the species is uncertain")
    return f"{missed.problem}. {instead}. What helps: {'; '.join(help)}"


def _of_bursts(single: Promise, bursts: Promise) -> str:
    """What bursts are promised, if there were bursts to test it on and it is not what single images are promised."""
    if not bursts.num_images:
        return ""
    if bursts.threshold is None:
        return "" if single.threshold is None else "For bursts, no answer is vouched for"
    if single.threshold is not None and single.accuracy == bursts.accuracy:
        return ""
    return f"For bursts, {100 * bursts.accuracy:g} % accuracy is promised for the names given"


def _attainable(calibration: Calibration, accuracy: float) -> str:
    """What to ask for instead of an accuracy that cannot be promised. To try others until one passes would void the
    promise."""
    default = highest_promise(calibration.confidences, calibration.right)[0]
    if default.threshold is None:
        return "Leave the accuracy out: answers are then given as likely, and none is vouched for."
    return f"Leave the accuracy out: {100 * default.accuracy:g} % is then promised."


def _within(log_probabilities: Floats, among: Ints) -> Floats:
    """(N, K) log-probabilities given that it is one of these classes."""
    kept = np.full_like(log_probabilities, -np.inf)
    inside = log_probabilities[:, among]
    kept[:, among] = inside - np.logaddexp.reduce(inside, axis=1, keepdims=True)
    return kept
