"""`Explanation`: why one image is A and not B.

Shapes: S the side of the view in pixels, h × w cells.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fieldmark.answering.explaining.evidence import Contrast, Evidence, find_evidence, mean_gradient, start_of
from fieldmark.answering.explaining.examples import Counterpart, Known, counterparts, place_of, points_inside
from fieldmark.answering.explaining.regions import Region, find_regions
from fieldmark.answering.explaining.taps import Tap, answers, tap
from fieldmark.evaluation.verdict import Verdict
from fieldmark.model.method import Method
from fieldmark.model.model import Model

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "NUM_EXAMPLES",
    "Example",
    "Exchange",
    "Explanation",
    "RegionFound",
    "Whole",
    "exchange",
    "exchange_whole",
    "explain_view",
    "margins_of",
    "odds",
]

NUM_EXAMPLES = 3
_HALF = 0.5
"""The share of change by other images of A above which a doubt is reported."""


@final
@dataclass(frozen=True, eq=False)
class Example:
    """A known image, with the place of the region in it."""

    path: str
    label: str
    likeness: float
    """The cosine of the features of the two regions."""
    cells: NDArray[np.bool_]
    """(h, w)."""
    pixels: NDArray[np.uint8] | None = None
    """(S, S, 3) as the network sees it, or None if the file is gone."""


@final
@dataclass(frozen=True)
class Exchange:
    """The margin after the region's features were replaced, averaged over the nearest examples."""

    margin: float
    num_examples: int


@final
@dataclass(frozen=True, eq=False)
class RegionFound:
    """A region, its counterparts in known images, and the effect of replacing it."""

    region: Region
    name: str
    """"region 1", or the method's part."""
    holds: tuple[str, ...] = ()
    """The key points that lie in it, as far as known images show."""
    first: tuple[Example, ...] = ()
    """Examples of A, the most similar first."""
    second: tuple[Example, ...] = ()
    """Examples of B, the most similar first."""
    as_second: Exchange | None = None
    """The result with B's features in its place, or None without known images of B."""
    as_first: Exchange | None = None
    """The result with features of other images of A: the effect of replacing by itself."""

    @property
    def title(self) -> str:
        """The key points that it contains, such as "beak, forehead", or else its name."""
        return ", ".join(self.holds[:3]) or self.name

    def of_the_photograph(self, margin: float) -> float | None:
        """The change due to other images of A, as a share of that due to images of B; `margin` is the image's own.

        The share is about 0 if the region distinguishes A from B, and 1 or more if the photograph is special rather
        than its class. It is None if it was not measured or if B changes nothing.
        """
        if self.as_first is None or self.as_second is None or (lost := margin - self.as_second.margin) <= 0:
            return None
        return max(0.0, margin - self.as_first.margin) / lost


@final
@dataclass(frozen=True, eq=False)
class Whole:
    """Both sides of a difference: the mark of A is replaced, and the mark of B is added."""

    exchange: Exchange
    cells: NDArray[np.bool_]
    """(h, w) where B would show its mark in this image."""


@final
@dataclass(frozen=True, eq=False, repr=False)
class Explanation:
    """Which regions decided, and why the answer is A and not B."""

    verdict: Verdict
    first: str
    """A, the most likely class."""
    second: str
    """B, the class that A is compared with."""
    margin: float
    """The logarithm of the odds of A against B."""
    probabilities: tuple[float, float]
    """The probabilities of A and of B."""
    regions: tuple[RegionFound, ...]
    """The regions, the one that contributes most first; () if nothing in the image favours A over B."""
    pixels: NDArray[np.uint8]
    """(S, S, 3) the image as the network saw it."""
    cells: NDArray[np.float32]
    """(h, w) the contribution of each cell to the margin."""
    notes: tuple[str, ...] = ()
    """Remarks on what is missing, and why."""
    decided: NDArray[np.float32] | None = None
    """(h, w) the contribution of each cell to the answer against all other classes."""
    whole: Whole | None = None
    """The result with the mark of B added as well, or None without known images of B."""
    gap: float = 0.0
    """What `cells` lack to add up to the margin less that of an empty map; the smaller, the more exact they are."""

    def __repr__(self) -> str:
        where = self.regions[0].title if self.regions else "no region"
        return f"Explanation({self.verdict.path}: {self.first}, not {self.second}: {where}; {self.sentence})"

    @property
    def sentence(self) -> str:
        """The effect of replacing the first region, in words."""
        if not self.regions:
            return f"nothing in the picture favours {self.first} over {self.second}"
        found = self.regions[0].as_second
        if found is None:
            return f"odds {odds(self.margin)}"
        return f"odds {odds(self.margin)}; with the features of {self.second} there, {odds(found.margin)}"

    @property
    def doubt(self) -> str:
        """Why the first region may not distinguish A from B, or "" if there is no reason for doubt."""
        share = self.regions[0].of_the_photograph(self.margin) if self.regions else None
        if share is None:
            return ""
        own = self.regions[0].as_first
        if own and own.margin < 0 < self.margin:
            what = f"also change the answer ({odds(own.margin)})"
        elif share >= 1:
            what = "change the odds just as much"
        elif share >= _HALF:
            what = f"change the log odds {100 * share:.0f} % as much"
        else:
            return ""
        return (
            f"But the features of other images of {self.first} {what}: "
            "the region may be special to this photograph rather than to the class"
        )

    def as_dict(self) -> dict[str, Any]:
        """The explanation as plain values, as they are written to JSON."""
        return {
            "verdict": self.verdict.as_dict(),
            "first": self.first,
            "second": self.second,
            "probabilities": [round(p, 6) for p in self.probabilities],
            "margin": round(self.margin, 4),
            "regions": [_region(one, self.margin) for one in self.regions],
            "with_both_marks": None if self.whole is None else _moved(self.whole.exchange, self.margin),
            "evidence": {
                "against_all": None if self.decided is None else self.decided.round(4).tolist(),
                "against_second": self.cells.round(4).tolist(),
                "gap": round(self.gap, 4),
            },
            "notes": list(self.notes),
        }

    def figure(self) -> Figure:
        """Draw the picture; `figure().savefig("why.png")` saves it."""
        from fieldmark.answering.explaining.drawing import draw

        return draw(self)

    def png(self) -> bytes:
        """Return the picture as a PNG."""
        data = io.BytesIO()
        self.figure().savefig(data, format="png", dpi=110, metadata={"Software": "Fieldmark"})
        return data.getvalue()

    def _repr_png_(self) -> bytes:
        return self.png()


def odds(margin: float) -> str:
    """The logarithm of odds as readable odds with two digits: "23 : 1", "1 : 4.0", "over a million : 1"."""
    value = float(np.exp(min(abs(margin), 20)))
    text = f"{value:.1f}" if value < 9.95 else f"{float(f'{value:.2g}'):,.0f}" if value <= 1e6 else "over a million"
    return f"{text} : 1" if margin >= 0 else f"1 : {text}"


def _region(one: RegionFound, margin: float) -> dict[str, Any]:
    values: dict[str, Any] = {
        "name": one.name,
        "holds": list(one.holds),
        "share": round(one.region.share, 4),
        "peak": [round(value, 4) for value in one.region.peak],
        "cells": one.region.cells.astype(int).tolist(),
        "part": one.region.part,
    }
    for name, found in (("as_second", one.as_second), ("as_first", one.as_first)):
        values[name] = found and _moved(found, margin)
    share = one.of_the_photograph(margin)
    values["of_the_photograph"] = None if share is None else round(share, 4)
    for name, examples in (("first", one.first), ("second", one.second)):
        values[name] = [{"path": e.path, "label": e.label, "likeness": round(e.likeness, 4)} for e in examples]
    return values


def _moved(found: Exchange, margin: float) -> dict[str, Any]:
    return {
        "margin": round(found.margin, 4),
        "change": round(found.margin - margin, 4),
        "num_examples": found.num_examples,
    }


def explain_view(
    method: Method | Model,
    image: Tensor,
    contrast: Contrast,
    known: tuple[Known | None, Known | None] = (None, None),
    *,
    besides: Collection[str] = (),
) -> tuple[Evidence, list[RegionFound], Whole | None]:
    """The regions of a normalised image (1, 3, S, S) that speak for one class against the other.

    The known images `besides` are left out of the examples: nothing explains itself.
    """
    place = tap(method, image.shape[-1])
    evidence = find_evidence(method, image, contrast, place)
    found = []
    for number, region in enumerate(find_regions(evidence.cells, evidence.parts)):
        theirs: list[list[Counterpart]] = [
            counterparts(evidence.map, evidence.last, region.cells, one, besides=besides) if one else []
            for one in known
        ]
        holds = points_inside(theirs[0], known[0]) if known[0] else ()
        nearest = [one[:NUM_EXAMPLES] for one in theirs]
        both = [exchange(method, image, contrast, place, evidence.map, region.cells, one) for one in nearest]
        name = f"region {number + 1}" if region.part is None else f"part {region.part + 1}"
        first, second = (tuple(Example(c.path, c.label, c.likeness, c.cells) for c in one) for one in nearest)
        found.append(RegionFound(region, name, holds, first, second, as_first=both[0], as_second=both[1]))
    whole = None
    if found and known[1]:
        donors = counterparts(evidence.map, evidence.last, found[0].region.cells, known[1], besides=besides)
        whole = exchange_whole(method, image, contrast, place, evidence, found[0].region.cells, donors, known[1])
    return evidence, found, whole


def exchange(
    method: Method | Model,
    image: Tensor,
    contrast: Contrast,
    place: Tap,
    own: Tensor,
    cells: NDArray[np.bool_],
    donors: Sequence[Counterpart],
) -> Exchange | None:
    """The margin with the region's cells exchanged for those of each donor in turn, on average.

    own (C, h, w) is the image's map at `place`.
    """
    if not donors:
        return None
    inside = torch.from_numpy(cells)
    maps = own.repeat(len(donors), 1, 1, 1)
    for at, donor in enumerate(donors):
        maps[at][:, inside] = donor.features.to(own)
    margins = margins_of(method, image, contrast, place, maps)
    return Exchange(float(margins.mean()), len(donors))


def exchange_whole(
    method: Method | Model,
    image: Tensor,
    contrast: Contrast,
    place: Tap,
    evidence: Evidence,
    cells: NDArray[np.bool_],
    donors: Sequence[Counterpart],
    known: Known,
) -> Whole | None:
    """Exchange a region for that of B, and put what speaks for B in its nearest images where its place is here.

    What tells two classes apart need not be in one place: one has a white nape, the other a white cheek.
    """
    donors = donors[:NUM_EXAMPLES]
    if not donors:
        return None
    numbers = [known.paths.index(donor.path) for donor in donors]
    theirs, last = known.maps[numbers].float(), known.last[numbers].float()
    slopes, _ = mean_gradient(method, image, contrast, place, theirs.to(image.device))
    against = -((theirs - start_of(method, theirs)) * slopes.cpu()).sum(1).numpy(force=True)
    inside = torch.from_numpy(cells)
    maps, shown = evidence.map.repeat(len(donors), 1, 1, 1), np.zeros_like(cells)
    for at, donor in enumerate(donors):
        maps[at][:, inside] = donor.features.to(maps)
        if regions := find_regions(against[at], most=1):
            mark = regions[0].cells
            rows, columns = place_of(mark, (theirs[at], last[at]), (evidence.map, evidence.last))
            maps[at][:, rows, columns] = theirs[at][:, torch.from_numpy(mark)]
            if at == 0:
                shown[rows, columns] = True
    margins = margins_of(method, image, contrast, place, maps)
    return Whole(Exchange(float(margins.mean()), len(donors)), shown)


def margins_of(method: Method | Model, image: Tensor, contrast: Contrast, place: Tap, maps: Tensor) -> Tensor:
    """(n,) margins with these maps (n, C, h, w) in place of the image's own."""
    with torch.no_grad():
        return contrast(answers(method, image, place, maps))
