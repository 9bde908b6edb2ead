"""Background reliance: a model is shown objects without their background, and backgrounds without their object."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.nn import functional as F

from fieldmark.answering.engine import PartEngine
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.rows import things_of
from fieldmark.answering.stream import Shown, stream
from fieldmark.augment.background import alone, exchanged, scenery
from fieldmark.core.errors import DataError, ImageError
from fieldmark.core.listener import Listener
from fieldmark.core.seeds import Stream, generator
from fieldmark.core.storage import write_bytes, write_json
from fieldmark.data.catalog import Catalog
from fieldmark.data.objects import knows_object, no_object, object_in
from fieldmark.data.square import evaluation_window
from fieldmark.evaluation.background import VIEWS, Reliance, reliance
from fieldmark.evaluation.outputs import joined

__all__ = ["check_reliance", "measure_reliance"]

Pixels = NDArray[np.uint8]
_EXAMPLES = 6
_SIDE = 320


@dataclass(frozen=True)
class _Stage:
    """The source of pictures and backgrounds."""

    predictor: Predictor
    catalog: Catalog
    known: NDArray[np.bool_]
    """(N,) whether the catalogue knows where the object of each sample is."""

    @property
    def known_by(self) -> str:
        """How the object is located."""
        if self.by_parts:
            return "the parts that the model has found"
        return "masks" if self.catalog.masks else "boxes"

    @property
    def by_parts(self) -> bool:
        """Whether the model's own background map is used because the catalogue locates no object at all."""
        return not self.known.any() and self.predictor.model.method.has_background

    def usable(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """The rows whose object can be located."""
        return rows if self.by_parts else rows[self.known[rows]]

    @cached_property
    def donors(self) -> NDArray[np.int64]:
        """The rows whose backgrounds are used: training images, if there are any."""
        learnt = self.catalog.rows("train")
        return self.usable(learnt if len(learnt) else np.arange(len(self.catalog)))

    def picture(self, row: int) -> tuple[Pixels, NDArray[np.bool_]]:
        """Pixels (H, W, 3), and which of them belong to the object."""
        pixels, size = self.predictor.decode(things_of(self.catalog, np.array([row]))[0])
        if self.by_parts:
            return pixels, _in_parts(self.predictor, pixels)
        boxes = self.catalog.boxes
        box = None if boxes is None else boxes[row] * np.float32(pixels.shape[1] / size[0])
        shown = object_in(self.catalog, row, pixels, box)
        assert shown is not None
        return pixels, shown

    def views(self, row: int) -> dict[str, Pixels] | None:
        """One image in each of VIEWS, or None if it shows no object or there is no background to exchange."""
        labels = self.catalog.labels
        random = generator(Stream.RELIANCE, row)
        donors = self.donors[self.donors != row]
        lenders = {"same": donors[labels[donors] == labels[row]], "other": donors[labels[donors] != labels[row]]}
        if not all(map(len, lenders.values())):
            return None
        pixels, shown = self.picture(row)
        if not shown.any():  # the model finds no part in it
            return None
        views = {"whole": pixels, "alone": alone(pixels, shown), "scenery": scenery(pixels, shown)}
        return views | {
            name: exchanged(pixels, shown, scenery(*self.picture(int(random.choice(rows)))))
            for name, rows in lenders.items()
        }


def check_reliance(predictor: Predictor, catalog: Catalog, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The rows whose object can be located. Raises DataError if there are none, or no backgrounds."""
    stage = _Stage(predictor, catalog, knows_object(catalog))
    rows = stage.usable(rows)
    if not len(rows) or not len(stage.donors):
        raise no_object(catalog)
    return rows


def measure_reliance(
    predictor: Predictor,
    catalog: Catalog,
    rows: NDArray[np.int64],
    units: NDArray[np.int64],
    folder: Path,
    listener: Listener,
) -> Reliance:
    """How much the model relies on the background in these rows of the catalogue, whose labels are the bundle's. All of
    its images that belong together share one of the `units`.

    If the catalogue locates no object at all, a method with a background map locates it by its parts. Writes
    background.json and some pictures to `folder`. Raises DataError if no object can be located.
    """
    rows = check_reliance(predictor, catalog, rows)
    stage = _Stage(predictor, catalog, knows_object(catalog))
    shown: list[int] = []

    def views() -> Iterator[Pixels]:
        with listener.progress("Exchanging backgrounds") as tick:
            for done, row in enumerate(rows.tolist()):
                try:
                    made = stage.views(row)
                except ImageError:
                    made = None
                if made is not None:
                    shown.append(row)
                    yield from made.values()
                tick(done + 1, len(rows))

    size = 8 * len(VIEWS)
    answered = stream(views(), lambda pixels: Shown(predictor.view(pixels)), predictor.engine, batch_size=size)
    outputs = joined([one.output for one in answered if one.output is not None])
    if not shown:
        raise DataError(
            "The backgrounds of these images cannot be exchanged",
            "This needs at least two classes, and two training images of a class, with boxes or masks.",
        )
    labels = catalog.labels[shown]
    guesses = outputs.logits.argmax(axis=1).reshape(len(shown), len(VIEWS))
    right = {name: guesses[:, at] == labels for at, name in enumerate(VIEWS)}
    result = reliance(right, labels, units[shown], known_by=stage.known_by)
    _write(folder, stage, result, shown, guesses)
    return result


def _in_parts(predictor: Predictor, pixels: Pixels) -> NDArray[np.bool_]:
    """(H, W) where parts have a larger share of a cell than the background. There are none outside the model's view."""
    images, (height, width) = predictor.bundle.images, pixels.shape[:2]
    seen = PartEngine(predictor.model)(predictor.view(pixels)[None])
    assert seen is not None
    window = evaluation_window(width, height, crop=images.crop, whole=images.whole)
    left, top, right, bottom = (round(edge) for edge in window)
    share = F.interpolate(1 - torch.from_numpy(seen.maps[:, -1:]), size=(bottom - top, right - left), mode="bilinear")
    found = np.zeros((height, width), bool)
    found[top:bottom, left:right] = (share[0, 0] > 0.5).numpy()
    return found


def _write(folder: Path, stage: _Stage, result: Reliance, shown: list[int], guesses: NDArray[np.int64]) -> None:
    """Write the figures, and a few images in all their views, the most telling first."""
    order = np.random.default_rng(0).permutation(len(shown))
    labels = stage.catalog.labels[shown]
    turned = (guesses[:, 3] == labels) & (guesses[:, 4] != labels)  # right before a fitting background only
    chosen = sorted(order, key=lambda at: not turned[at])[:_EXAMPLES]
    examples = []
    for number, at in enumerate(chosen):
        views = stage.views(shown[at]) or {}
        files = {name: f"background/{number}-{name}.jpg" for name in views}
        for name, pixels in views.items():
            image, data = Image.fromarray(pixels), io.BytesIO()
            image.thumbnail((_SIDE, _SIDE))
            image.save(data, "JPEG", quality=85)
            write_bytes(folder / files[name], data.getvalue())
        said = {name: stage.predictor.classes[guess] for name, guess in zip(VIEWS, guesses[at], strict=True)}
        label = stage.predictor.classes[labels[at]]
        examples.append({"path": stage.catalog.paths[shown[at]], "label": label, "files": files, "said": said})
    write_json(folder / "background.json", result.as_dict() | {"examples": examples})
