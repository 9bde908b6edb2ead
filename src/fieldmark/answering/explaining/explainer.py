"""`Explainer`: why images of one run are A and not B."""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from torch import Tensor

from fieldmark.answering.explaining.evidence import AgainstAll, Contrast, find_evidence
from fieldmark.answering.explaining.examples import Known, known_maps
from fieldmark.answering.explaining.explanation import Example, Explanation, RegionFound, explain_view
from fieldmark.answering.explaining.taps import tap
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import stream
from fieldmark.answering.things import Thing, Things, named
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.claims import check_replaceable
from fieldmark.core.errors import DataError, DataWarning, ImageError, RunError, StorageError, nearest
from fieldmark.core.machine import AUTO
from fieldmark.core.reading import parse_json
from fieldmark.core.recipe import Images
from fieldmark.core.storage import write_bytes, write_json, write_tensors
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import read_bytes
from fieldmark.data.duplicates import digest
from fieldmark.data.names import lookup
from fieldmark.data.remote import below, real_place
from fieldmark.evaluation.verdict import Verdict
from fieldmark.runs.opening import data_of, opened_run
from fieldmark.runs.run import picture_name

__all__ = ["Explainer", "default_folder", "write_explanation"]

NUM_KNOWN = 40
"""The number of known images of a class that are used, spread evenly over all of them."""
_MOST_READ = 20_000
"""The largest data set whose table is read for key points; reading a larger one takes longer than explaining."""


class Explainer:
    """Explains images of one run; the maps of known images are kept in the run's folder, class by class."""

    def __init__(self, run: Path | str | Predictor, *, root: Path | None = None, device: str = AUTO) -> None:
        """`root` is the folder of the training images, if they were moved."""
        self.predictor = run if isinstance(run, Predictor) else Predictor.load(run, device=device)
        self.bundle = self.predictor.bundle
        self.method = self.predictor.model.unmirrored()
        place = self.bundle.folder if isinstance(run, Predictor) else Path(run)
        opened = opened_run(place) if place else None
        self._run = opened if opened and opened.exists else None
        data = self._run.data() if self._run else None
        self._root = root or (Path(data["root"]) if data else None)
        self._known: dict[str, Known | None] = {}
        self._place = tap(self.method, self.bundle.images.size)

    def __call__(self, image: Things, versus: str | None = None) -> Explanation:
        """Explain why `image` is the most likely class and not `versus`, which is the runner-up by default.

        Raises ImageError for an image that cannot be read, and RunError if `versus` is unknown or is the answer itself.
        """
        thing = _only(image)
        (answered,) = stream([thing], self.predictor.see, self.predictor.engine)
        for _, error in answered.skipped:
            raise error
        (shown,), outputs = answered.shown, answered.output
        assert outputs is not None
        normalised = self._normalised(answered.images)
        verdict = Speaker.of(self.bundle).verdicts([thing.name], outputs)[0]
        contrast = self._contrast(verdict, versus)
        names = self.bundle.classes[contrast.first], self.bundle.classes[contrast.second]
        log_probabilities = self.bundle.log_probabilities(outputs.logits)[0]
        known = self.known(names[0]), self.known(names[1])
        same = self._same(thing, known)
        evidence, found, whole = explain_view(self.method, normalised, contrast, known, besides=same)
        return Explanation(
            verdict,
            *names,
            evidence.margin,
            (float(np.exp(log_probabilities[contrast.first])), float(np.exp(log_probabilities[contrast.second]))),
            tuple(self._pictured(one) for one in found),
            shown.pixels,
            evidence.cells,
            self._notes(names, known),
            decided=find_evidence(self.method, normalised, self._against_all(contrast.first), self._place).cells,
            whole=whole,
            gap=evidence.gap,
        )

    def known(self, label: str) -> Known | None:
        """The maps of known images of a class, or None if the images or the run's records are gone."""
        if label not in self._known:
            self._known[label] = self._kept(label)
        return self._known[label]

    def _contrast(self, verdict: Verdict, versus: str | None) -> Contrast:
        classes, calibration = self.bundle.classes, self.bundle.calibration
        if len(verdict.candidates) < 2:
            raise RunError("A model with one class has nothing to explain", "Train on two or more classes.")
        second = lookup(classes)(versus) if versus else verdict.candidates[1].label
        if second is None:
            raise RunError(f"This model has no class {versus!r}", nearest(str(versus), classes))
        if second == verdict.label:
            rival = verdict.candidates[1].label
            raise RunError(
                f"The answer is {second!r} itself, so it cannot be compared with {second!r}",
                f"Compare it with another class, such as the runner-up {rival!r}, which is the default.",
            )
        a, b = classes.index(verdict.label), classes.index(second)
        if calibration is None:
            return Contrast(a, b)
        scale, bias = calibration.scaling.scale, calibration.scaling.bias
        return Contrast(a, b, (float(scale[a]), float(scale[b])), float(bias[a] - bias[b]))

    def _against_all(self, label: int) -> AgainstAll:
        calibration, count = self.bundle.calibration, len(self.bundle.classes)
        scale, bias = (
            (calibration.scaling.scale, calibration.scaling.bias) if calibration else (np.ones(count), np.zeros(count))
        )
        device = self.predictor.device
        return AgainstAll(label, *(torch.tensor(one, dtype=torch.float32, device=device) for one in (scale, bias)))

    def _normalised(self, views: NDArray[np.uint8]) -> Tensor:
        """(B, 3, S, S) → what the network computes with."""
        return self.method.backbone.normalization(torch.from_numpy(views).to(self.predictor.device))

    def _same(self, thing: Thing, known: Iterable[Known | None]) -> set[str]:
        """The known images that are this very file, through whatever links, or a copy of it."""
        source = thing.source
        if not isinstance(source, Path | bytes):
            return set()
        place = real_place(source) if isinstance(source, Path) else None
        picture = picture_name(digest(read_bytes(source) if isinstance(source, Path) else source))
        return {
            path
            for one in known
            if one
            for path, its in zip(one.paths, one.pictures, strict=True)
            if its == picture or real_place(below(self._root or Path(), path)) == place
        }

    def _pictured(self, found: RegionFound) -> RegionFound:
        first, second = (tuple(self._with_pixels(one) for one in group) for group in (found.first, found.second))
        return replace(found, first=first, second=second)

    def _with_pixels(self, example: Example) -> Example:
        try:
            shown = self.predictor.see(self._known_thing(example.path))
        except ImageError:
            return example
        return replace(example, pixels=shown.pixels)

    def _known_thing(self, path: str) -> Thing:
        """An image that the run was trained on."""
        return Thing(path, (self._root or Path()) / path)

    def _notes(self, names: tuple[str, str], known: tuple[Known | None, Known | None]) -> tuple[str, ...]:
        notes = (
            [] if self.bundle.calibration else ["The model is not calibrated: these are plain softmax probabilities."]
        )
        missing = [name for name, one in zip(names, known, strict=True) if one is None]
        if shown := [name for name in missing if name in self.bundle.photographs]:
            notes.append(f"No photograph of {' and '.join(shown)} is kept, as it was enrolled, so no example is shown.")
            missing = [name for name in missing if name not in shown]
        if missing and (self._run is None or not self._run.data()):
            notes.append("A bundle alone has no training images, so there are no examples and no replacements.")
        elif missing:
            notes.append(
                f"The training images of {' and '.join(missing)} cannot be found, so their examples are left out."
            )
        return tuple(notes)

    def _kept(self, label: str) -> Known | None:
        """From the run's folder, or looked at now and kept there."""
        if self._run is None:
            return None
        path = self._run.folder / "explanations" / "known" / f"{self.bundle.classes.index(label)}.safetensors"
        if kept := _read_known(path, label, self.bundle.state):
            return kept
        known = self._looked_at(label)
        if known:
            about = {"label": label, "model": self.bundle.state}
            about |= {name: json.dumps(getattr(known, name)) for name in ("paths", "pictures", "point_names")}
            tensors = {"maps": known.maps, "last": known.last}
            if known.points is not None:
                tensors["points"] = torch.from_numpy(known.points)
            with contextlib.suppress(StorageError):  # a run that may not be written to is explained all the same
                write_tensors(path, tensors, about)
        return known

    def _looked_at(self, label: str) -> Known | None:
        assert self._run is not None
        rows = [row for row in self._run.images() if row["split"] == "train" and row.get("label") == label]
        if not rows:
            return None
        spread = np.unique(np.linspace(0, len(rows) - 1, NUM_KNOWN).round().astype(int))
        picture_of = {rows[i]["path"]: rows[i].get("picture", "") for i in spread}
        known, shown = known_maps(
            self.method, map(self._known_thing, picture_of), self.predictor.see, self._normalised, self._place, label
        )
        known = replace(known, pictures=tuple(picture_of[path] for path in known.paths))
        return self._with_points(known, [one.size for one in shown]) if known.paths else None

    def _with_points(self, known: Known, sizes: Sequence[tuple[int, int]]) -> Known:
        """With the key points that the data has; where it cannot be read, or is large, regions go by numbers."""
        catalog = self._catalog
        if catalog is None or catalog.keypoints is None:
            return known
        row_of = {path: row for row, path in enumerate(catalog.paths)}
        rows = [row_of.get(path, -1) for path in known.paths]
        points = np.where(np.array(rows)[:, None, None] < 0, np.nan, catalog.keypoints[rows])
        places = np.where(points[..., 2:] > 0, points[..., :2], np.nan)
        shares = [_in_view(xy, size, self.bundle.images) for xy, size in zip(places, sizes, strict=True)]
        return replace(known, point_names=catalog.keypoint_names, points=np.stack(shares).astype(np.float32))

    @cached_property
    def _catalog(self) -> Catalog | None:
        assert self._run is not None
        data = self._run.data()
        if not data or data.get("num_images", 0) > _MOST_READ:
            return None
        with warnings.catch_warnings(), contextlib.suppress(DataError):
            warnings.simplefilter("ignore", DataWarning)  # training has said it
            return data_of(data)
        return None


def _only(image: Things) -> Thing:
    """The only picture. Raises DataError if there are several."""
    first, *others = named(image)
    if others:
        raise DataError(
            f"An explanation covers one picture, but {1 + len(others):,} were given", "Explain them one at a time."
        )
    return first


def _read_known(path: Path, label: str, state: str) -> Known | None:
    """What was kept; none where it is of another model, or damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            about = file.metadata() or {}
            if (about.get("label"), about.get("model")) != (label, state):
                return None
            points = file.get_tensor("points").numpy() if "points" in file.keys() else None  # noqa: SIM118  # no mapping
            paths, pictures, names = (
                tuple(parse_json(about[name], list[str])) for name in ("paths", "pictures", "point_names")
            )
            return Known(label, paths, file.get_tensor("maps"), file.get_tensor("last"), names, points, pictures)
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def _in_view(points: NDArray[np.floating], size: tuple[int, int], images: Images) -> NDArray[np.floating]:
    """Pixels (P, 2) of an image of this width and height → shares of the square that the network sees."""
    if images.whole:
        return points / size
    side = images.crop * min(size)
    return (points - (np.array(size) - side) / 2) / side


def write_explanation(explanation: Explanation, folder: Path | str) -> Path:
    """Write <image> not <B>.png and .json to `folder`, and return the path of the picture.

    Raises StorageError if other files have these names.
    """
    name = f"{Path(explanation.verdict.path).stem} not {explanation.second}".replace("/", "-")
    picture = Path(folder) / f"{name}.png"
    check_replaceable(picture, picture.with_suffix(".json"))
    write_bytes(picture, explanation.png())
    write_json(picture.with_suffix(".json"), explanation.as_dict())
    return picture


def default_folder(run: Path) -> Path:
    """The default folder for explanations: in the run or, for a bundle alone, in the working folder."""
    opened = opened_run(run)
    return (opened.folder if opened.exists else Path()) / "explanations"
