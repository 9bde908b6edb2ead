"""`Comparer`: a run that compares pictures, and knows how often it is wrong about that.

Photographs of classes that the run was not trained on are kept in a gallery of their own, RUN/measured. So adding to
them, a crash meanwhile and another model are what they are for any gallery.

Shapes: D embedding.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.core.errors import DataError, RunError
from fieldmark.core.wording import counted
from fieldmark.data.names import lookup
from fieldmark.evaluation.comparing import Basis
from fieldmark.evaluation.enrolment import Kept
from fieldmark.evaluation.identification import Identification, Reference
from fieldmark.evaluation.paired import group_codes
from fieldmark.evaluation.plda import Plda
from fieldmark.evaluation.verification import Judged, Point, Verification, check_rate, promised
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.judged import Candidate, Identified, Verified
from fieldmark.gallery.known import SAME, Known
from fieldmark.gallery.maker import maker_of
from fieldmark.gallery.opening import default_place
from fieldmark.gallery.photographs import Photograph
from fieldmark.gallery.store import Absent

__all__ = ["ELSEWHERE", "MEASURE", "Comparer", "Seen"]

Floats = NDArray[np.float64]

MEASURE = "fieldmark verify RUN --measure PHOTOS"
ELSEWHERE = f"Measure with this run into another place: {MEASURE} --measured PLACE."
_TOLD = 3
"""Candidates, and photographs of each, that are told."""


class Seen(NamedTuple):
    """A picture with its embedding (D,) of unit length."""

    picture: Photograph
    embedding: Floats

    @property
    def name(self) -> str:
        return self.picture.thing.name


class _Search(NamedTuple):
    """What searches in one reference at one rate have in common."""

    known: Known
    rate: float | None
    names: list[str]
    reference: Reference
    strangers: Basis
    found: Identification
    promised: tuple[float, Point]


class Comparer:
    """Compares pictures by what a bundle keeps of the classes that it has learnt."""

    def __init__(self, predictor: Predictor, measured: Path | str | None = None) -> None:
        """`measured` is where photographs of other classes are kept, by default RUN/measured.

        Raises RunError for a bundle that keeps nothing to compare by.
        """
        folder = predictor.bundle.folder
        assert folder is not None
        self.predictor, self.bundle = predictor, predictor.bundle
        self.place = str(measured or default_place(folder, "measured"))
        self._is_named = measured is not None
        self._last: _Search | None = None
        kept = self.bundle.read_kept()
        if kept is None:
            raise RunError(
                f"{folder} keeps nothing by which pictures could be compared",
                "It is of an earlier version, or has learnt fewer than two classes with two images: train again.",
            )
        self._kept: Kept = kept

    @cached_property
    def plda(self) -> Plda:
        return self._kept.plda()

    @cached_property
    def basis(self) -> Basis:
        """Photographs that were measured or, where none were, the images that the bundle keeps.

        Raises RunError for photographs that were measured with another model, and for a place that was named and has
        none.
        """
        try:
            with Gallery.open(self.place, maker_of(self.predictor), hint=ELSEWHERE) as gallery:
                entries, vectors = gallery.contents()
        except Absent:
            entries = []
        if new := self.unlearnt(one.label for one in entries):
            groups = group_codes([entries[row].group or "" for row in new])
            return Basis.measured(self.plda, vectors[new], [entries[row].label or "" for row in new], groups)
        if self._is_named:
            raise RunError(f"Nothing was measured at {self.place}", f"Measure with: {MEASURE} --measured PLACE")
        return Basis.learnt(self._kept, self.bundle.trained.classes)

    @cached_property
    def verification(self) -> Verification:
        """What becomes of the pairs of the basis. Raises DataError or RunError if there are too few."""
        try:
            return self.basis.verification()
        except DataError:
            if not self.of_learnt:
                raise
            raise RunError(
                f"The run was trained on {len(self.bundle.trained.classes)} classes, too few to say how often pairs of "
                "others are confused",
                f"Photographs of other classes can say it: {MEASURE}",
            ) from None

    @property
    def of_learnt(self) -> bool:
        """Whether thresholds come from classes that the network has learnt."""
        return self.basis.source == "learnt"

    def unlearnt(self, labels: Iterable[str | None]) -> list[int]:
        """The rows with a label that is not that of a class which the network has learnt."""
        known = lookup(self.bundle.trained.classes)
        return [row for row, one in enumerate(labels) if one is not None and known(one) is None]

    def pair(self, one: Seen, other: Seen, rate: float | None = None) -> Verified:
        """Whether two pictures are of one class.

        Raises DataError if they are the same photograph, and RunError for a rate that cannot be promised.
        """
        if one.embedding @ other.embedding >= SAME or "" != one.picture.digest == other.picture.digest:
            raise DataError(
                f"{one.name} and {other.name} are the same photograph, which proves nothing",
                "Compare two photographs that were taken independently.",
            )
        chosen, point = self._promised(self.verification, rate)
        own, theirs = (self.plda.coordinates(seen.embedding[None]) for seen in (one, other))
        likeness = float(self.plda.same(own, theirs)[0])
        alike = self.verification.at(likeness)
        return Verified(one.name, other.name, likeness, chosen, point, alike, self._said(self.basis), self.of_learnt)

    def search(self, seen: Seen, known: Known, rate: float | None = None) -> Identified:
        """Which of the known ones a picture shows, or none.

        Raises DataError if the reference has nothing but the picture itself, and RunError for a rate that cannot be
        promised.
        """
        rest = known.without(seen.picture.digest, seen.embedding)
        if not rest.entries:
            raise DataError(f"The reference has no photograph but {seen.name} itself", "Give others of what is known.")
        _, _, names, reference, strange, found, (chosen, point) = self._prepared(rest, rate)
        likeness = reference.likeness(self.plda, seen.embedding[None])[0]
        own, theirs = (self.plda.coordinates(some) for some in (seen.embedding[None], rest.embedding))
        pairs = self.plda.all_same(own, theirs)[0]
        candidates = []
        for label in np.argsort(-likeness)[:_TOLD].tolist():
            rows = np.flatnonzero(reference.labels == label)
            nearest = rows[np.argsort(-pairs[rows])][:_TOLD]
            files = tuple(rest.entries[row].path for row in nearest)
            candidates.append(Candidate(names[label], float(likeness[label]), len(rows), files))
        basis = [f"{counted(len(rest.entries), 'photograph')} of the reference"] if len(names) > 1 else []
        basis += [self._said(strange)] if strange.size[0] else []
        return Identified(
            seen.name,
            chosen,
            point,
            found.at(float(likeness.max())).false_accepts,
            tuple(candidates),
            len(names),
            " and ".join(basis),
            self.of_learnt,
        )

    def _prepared(self, known: Known, rate: float | None) -> _Search:
        """As it was for the last picture, if that was sought in the same reference."""
        if self._last is None or self._last.known is not known or self._last.rate != rate:
            names, reference = known.names, known.reference()
            strangers = self.basis.without(names)
            found = strangers.identification(reference, self.plda)
            self._last = _Search(known, rate, names, reference, strangers, found, self._promised(found, rate))
        return self._last

    def _promised(self, found: Judged, rate: float | None) -> tuple[float, Point]:
        check_rate(found, rate)
        try:
            return promised(found, rate)
        except RunError as error:
            if not self.of_learnt:
                raise
            raise RunError(error.problem, f"Photographs of other classes may show it: {MEASURE}") from None

    def _said(self, basis: Basis) -> str:
        pictures, classes = basis.size
        if basis.source == "measured":
            many = f"{counted(pictures, 'photograph')} of {classes:,} classes"
            return f"{many} that the run was not trained on ({self.place})"
        kind = "held-out images" if self._kept.learnt is not None else "images"
        return f"{pictures:,} {kind} of {classes:,} classes that the run was trained on"
