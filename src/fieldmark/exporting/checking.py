"""Whether a graph answers as the network does: both look at the same pictures.

Shapes: N images, K classes.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Engine, Predictor
from fieldmark.answering.rows import answer_rows, things_of
from fieldmark.answering.stream import stream
from fieldmark.answering.trial import TOLERANCE, off
from fieldmark.core.errors import DataError, ImageError, RunError
from fieldmark.core.listener import Listener, kept_warnings
from fieldmark.core.wording import counted
from fieldmark.data.catalog import Catalog
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.pages.page import jpeg
from fieldmark.runs.opening import catalog_of
from fieldmark.runs.run import Run

__all__ = ["EXAMPLE_SIDE", "Checked", "Pictures", "compared", "example_pictures"]

Rows = NDArray[np.int64]

_MOST_COMPARED = 2_000
_TO_SCALE = 128
_NOISE = 16
EXAMPLE_SIDE = 320
"""The longer side of example photographs, in pixels."""
_QUALITY = 85


@dataclass(frozen=True)
class Checked:
    """How two engines' answers differ."""

    images: int
    source: str
    """What they are: "val", "train", or "noise" where the data is not at hand."""
    largest_difference: float
    """Of two logits."""
    off: dict[str, float]
    """How far "logits", "embeddings" and "attributes" are off, as a share of the largest value, with which rounding
    grows, or of 1 if that is larger."""
    agreement: float
    """The share of images that both give the same class."""
    accuracy: float | None = None
    """Of the graph, where the images were not learnt from."""
    before: float | None = None
    """Of the network, likewise."""

    @property
    def is_same(self) -> bool:
        """Whether they differ by no more than rounding, in full precision."""
        return not self._wrong

    @property
    def _wrong(self) -> list[str]:
        """The outputs that differ by more than rounding."""
        return [name for name, share in self.off.items() if not share <= TOLERANCE]  # as NaN does

    @property
    def lost(self) -> float:
        """How much accuracy the graph loses; where that is not known, the share of images that it answers otherwise."""
        if self.accuracy is None or self.before is None:
            return 1 - self.agreement
        return self.before - self.accuracy

    @property
    def said(self) -> str:
        """In words."""
        seen = f"{counted(self.images, 'image')}{' of noise' if self.source == 'noise' else ''}"
        text = f"On {seen}, its logits differ by at most {self.largest_difference:.1g}"
        text += f" and {100 * self.agreement:.4g} % get the same class"
        if self.accuracy is not None and self.before is not None:
            text += f"; {100 * self.accuracy:.1f} % are right, {100 * self.before:.1f} % before"
        for name in self._wrong:
            if name != "logits":
                text += f"; its {name} differ by up to {self.off[name]:.1g}, where {TOLERANCE:g} is rounding"
        return text

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def compared(before: Outputs, after: Outputs, source: str, labels: NDArray[np.int64] | None = None) -> Checked:
    """The answers of the network and of a graph to the same N images, with labels (N,) if they were not learnt from."""
    one, other = before.logits.argmax(axis=1), after.logits.argmax(axis=1)
    right = (None, None) if labels is None else (float((other == labels).mean()), float((one == labels).mean()))
    return Checked(
        len(one),
        source,
        float(np.abs(before.logits - after.logits).max()),
        {name: off(values, _named(after)[name]) for name, values in _named(before).items()},
        float((one == other).mean()),
        *right,
    )


def _named(found: Outputs) -> dict[str, NDArray[np.float32]]:
    """All that somebody uses: verdicts, galleries, and answers about attributes."""
    attributes = {"attributes": np.concatenate(found.attributes, axis=1)} if found.attributes else {}
    return {"logits": found.logits, "embeddings": found.embedding, **attributes}


@dataclass(frozen=True, eq=False)
class Pictures:
    """What both the network and a graph look at."""

    source: str
    catalog: Catalog | None = None
    """None where the data is not at hand: noise is looked at."""
    rows: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    """Rows to compare by."""
    to_scale: Rows = field(default_factory=lambda: np.zeros(0, np.int64))
    """Rows that integers are scaled by."""

    @classmethod
    def of(cls, run: Run, root: Path | str | None, listener: Listener) -> Pictures:
        """Validation images of a run, or training images if none were held out."""
        try:
            with kept_warnings():
                catalog = catalog_of(run, None, root, Listener())
        except (RunError, DataError):
            listener.note(
                "The run's data is not at hand: the graph is compared on noise, and accuracy is not measured."
            )
            return cls("noise")
        split = "val" if len(catalog.rows("val")) else "train"
        rng = np.random.default_rng(0)
        asked = ((catalog.rows(split), _MOST_COMPARED), (catalog.rows("train"), _TO_SCALE))
        return cls(split, catalog, *(np.sort(rng.permutation(rows)[:most]) for rows, most in asked))

    def views(self, predictor: Predictor) -> Iterator[NDArray[np.uint8]]:
        """Batches of views (B, 3, S, S) that integers are scaled by."""
        if self.catalog is None:
            yield _noise(predictor)
            return
        for answered in stream(things_of(self.catalog, self.to_scale), predictor.see, lambda images: images):
            if answered.output is not None:
                yield answered.output

    def compared(self, predictor: Predictor, graph: Engine, listener: Listener) -> Checked:
        """How a graph's answers differ from those of the predictor."""
        if self.catalog is None:
            noise = _noise(predictor)
            return compared(predictor.engine(noise), graph(noise), self.source)

        def both(images: NDArray[np.uint8]) -> tuple[Outputs, Outputs]:
            return predictor.engine(images), graph(images)

        found = answer_rows(predictor, self.catalog, self.rows, both, listener, stage="Comparing")
        own, theirs = (joined(one) for one in zip(*found.outputs, strict=True))
        return compared(own, theirs, self.source, self.catalog.labels[found.rows] if self.source == "val" else None)


def _noise(predictor: Predictor) -> NDArray[np.uint8]:
    side = predictor.bundle.images.size
    return np.random.default_rng(0).integers(0, 256, (_NOISE, 3, side, side), np.uint8)


def example_pictures(predictor: Predictor, run: Run, most: int, root: Path | str | None) -> dict[str, list[bytes]]:
    """Up to so many training photographs of each class, as small JPEG files without metadata.

    Raises DataError or RunError if the data is gone.
    """
    with kept_warnings():
        catalog = catalog_of(run, None, root, Listener())
    rows = np.random.default_rng(0).permutation(catalog.rows("train"))
    found: dict[str, list[bytes]] = {label: [] for label in catalog.classes}
    for row, thing in zip(rows.tolist(), things_of(catalog, rows), strict=True):
        shown = found[catalog.classes[catalog.labels[row]]]
        if len(shown) < most:
            with contextlib.suppress(ImageError):  # another one will do
                shown.append(jpeg(predictor.decode(thing).pixels, EXAMPLE_SIDE, _QUALITY))
    return found
