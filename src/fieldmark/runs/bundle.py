"""`Bundle`: a folder with all that a model needs to predict anywhere. It is only files; `Predictor` predicts.

The files are `model.safetensors`, `model.json`, `calibration.safetensors` if the model is calibrated,
`held.safetensors` with embeddings by which classes can be enrolled, and `index.json` with the SHA-256 of the others:
whoever reads one of them reads the bytes whose hash was compared. What is enrolled lies beside them; see
`fieldmark.runs.enrolment`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

from fieldmark.core.arrays import parse_arrays
from fieldmark.core.errors import RecipeError, RunError, nearest
from fieldmark.core.reading import reason
from fieldmark.core.recipe import Images, Recipe
from fieldmark.core.storage import array_bytes, json_bytes, tensor_bytes, write_bytes
from fieldmark.core.wording import CROSSFIT
from fieldmark.data.grades import grades_of
from fieldmark.data.names import lookup
from fieldmark.data.task import Attribute, Task
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.calibration import SHAPES, Calibration, Values
from fieldmark.evaluation.enrolment import KEPT_SHAPES, Kept
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.runs.description import AGAIN, FORMAT, INDEX, describe, digests, index_of, known_bytes
from fieldmark.runs.enrolment import Enrolment, read_enrolment, write_enrolment

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Bundle"]

_PIECES = ("images", "neck", "method", "head", "labels")
_LATER = ("labels",)  # older bundles have none
_BEFORE = {"grey_bits": 16}  # what older bundles do, without saying so


@final
@dataclass(frozen=True, eq=False, repr=False)
class Bundle:
    """What is kept of a trained classifier besides its weights."""

    classes: tuple[str, ...]
    recipe: Recipe
    """The sections that predicting needs: images, backbone (with the normalisation of its weights), neck, method, head
    and labels."""
    interpolation: str = "bicubic"
    """How pictures are resized."""
    taxonomy: Taxonomy = None  # type: ignore[assignment]  # set below: it needs the classes
    """The classes and the levels above them; no levels by default."""
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data, protocol, weights, licence, seed, versions; whether the probabilities are calibrated."""
    calibration: Calibration | None = None
    """What the model knows about its own answers. None if no image was held out: probabilities are plain softmax."""
    parts: tuple[str, ...] = ()
    """The names of the method's part maps, in order and without the background: the key points that they were found to
    lie at, otherwise numbers; () if the method has no part maps."""
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The values of each attribute that the model predicts, in the order of `Outputs.attributes`."""
    plugins: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The name, package and version of each piece that does not come with Fieldmark, by section of the recipe."""
    folder: Path | None = None
    """The folder of the bundle; None before it is saved."""
    index: Mapping[str, str] | None = None
    """The SHA-256 of each file in the folder, by name; None if it is not known, as in bundles of before."""
    kept: Kept | None = None
    """What classes can be enrolled by, before it is saved; afterwards `read_kept` reads it."""
    enrolment: Enrolment | None = None
    """The classes that were enrolled after training, which are the last of the classes; None if there are none."""
    learnt: Bundle | None = None
    """With an enrolment, the bundle without it."""

    def __post_init__(self) -> None:
        if self.taxonomy is None:
            object.__setattr__(self, "taxonomy", Taxonomy(self.classes))

    def __repr__(self) -> str:
        name = f"{self.recipe.method.name} on {self.recipe.backbone.name}"
        return f"Bundle({name}, {len(self.classes)} classes, {self.images.size} px)"

    @property
    def images(self) -> Images:
        """How an image becomes what the network sees."""
        return self.recipe.images

    @property
    def trained(self) -> Bundle:
        """The bundle as training left it, without what was enrolled."""
        return self.learnt or self

    @property
    def task(self) -> Task:
        """What its answers tell apart. What the network has learnt to tell apart is the task of `trained`."""
        grades = grades_of(self.classes, self.recipe.labels.order)
        told = tuple(Attribute(name, values) for name, values in self.attributes.items())
        unlearnt = tuple(self.class_rows(self.provenance.get("unlearnt", ())).tolist())
        return Task(len(self.classes), unlearnt=unlearnt, taxonomy=self.taxonomy, grades=grades, attributes=told)

    def with_enrolment(self, enrolment: Enrolment | None) -> Bundle:
        """The bundle with these classes beside those that were learnt, or with none."""
        trained = self.trained
        if enrolment is None:
            return trained
        taxonomy = enrolment.taxonomy(trained.taxonomy)
        return replace(
            trained,
            classes=taxonomy.classes,
            taxonomy=taxonomy,
            calibration=enrolment.calibration,
            enrolment=enrolment,
            learnt=trained,
        )

    @property
    def photographs(self) -> Mapping[str, int]:
        """By how many photographs each enrolled class is shown."""
        return self.enrolment.photographs if self.enrolment else {}

    @property
    def state(self) -> str:
        """A SHA-256 of its files and of what is enrolled: bundles that answer alike have the same. It must be saved."""
        known = self.index or {"model.json": hashlib.sha256(json_bytes(self.provenance)).hexdigest()}
        return hashlib.sha256(json_bytes([dict(sorted(known.items())), self.enrolled_as])).hexdigest()

    @property
    def enrolled_as(self) -> str:
        """By which scores of before and after an enrolment are told apart; "" if nothing is enrolled."""
        return self.enrolment.digest if self.enrolment else ""

    # ---- files

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the files. The description comes last, so that a bundle that has one is complete."""
        if self.enrolment:
            self.trained.save(folder, weights)
            write_enrolment(folder, self.enrolment, digests(folder) or {})
            return
        files = {"model.safetensors": tensor_bytes(weights, {"format": str(FORMAT)})}
        if self.calibration:
            files["calibration.safetensors"] = array_bytes(self.calibration.arrays())
        if kept := self.kept or self.read_kept():
            files["held.safetensors"] = array_bytes(kept.arrays())
        description = json_bytes(
            {
                "format": FORMAT,
                "indexed": True,
                "classes": self.classes,
                "taxonomy": self.taxonomy.as_dict(),
                "attributes": {name: list(values) for name, values in self.attributes.items()},
                "interpolation": self.interpolation,
                # the weights' origin belongs to the provenance: what is loaded is the file beside this one
                "backbone": self.recipe.backbone.model_dump(mode="json", exclude={"weights"}),
                **self.recipe.model_dump(mode="json", include=set(_PIECES)),
                "plugins": {section: dict(one) for section, one in self.plugins.items()},
                "calibration": self.calibration.values() if self.calibration else None,
                "parts": self.parts,
                "provenance": self.provenance,
            }
        )
        index = json_bytes(index_of(files | {"model.json": description}))
        for name, data in (files | {INDEX: index, "model.json": description}).items():
            write_bytes(folder / name, data)

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Read a bundle, or the bundle of a run, without its weights. Raises RunError if there is none or it is of
        another version."""
        folder = Path(path)
        folder = folder / "bundle" if os.path.isdir(folder / "bundle") else folder
        index = digests(folder)
        description = describe(folder, index)
        try:
            recipe = Recipe.parse(
                {name: description[name] for name in _PIECES if name in description or name not in _LATER}  # type: ignore[literal-required]  # names that are checked when the file is read
                | {"images": {**_BEFORE, **description["images"]}}
                | {"backbone": {**description["backbone"], "weights": "none"}},
                source=str(folder / "model.json"),
            )
        except RecipeError as error:
            raise RunError(
                f"This version of Fieldmark cannot use {error.problem}",
                "Use the version that wrote the bundle. If it is this one, the file is damaged: copy the bundle again.",
            ) from None
        classes = tuple(description["classes"])
        taxonomy = Taxonomy.of(classes, description["taxonomy"])
        trained = cls(
            classes,
            recipe,
            description["interpolation"],
            taxonomy,
            description["provenance"],
            _calibration(folder, description.get("calibration"), taxonomy, index),
            tuple(description.get("parts", ())),
            {name: tuple(values) for name, values in description.get("attributes", {}).items()},
            {section: dict(one) for section, one in description.get("plugins", {}).items()},  # type: ignore[arg-type]  # a TypedDict, whose values mypy takes for objects
            folder,
            index,
        )
        return trained.with_enrolment(read_enrolment(folder, taxonomy, index))

    def read_kept(self) -> Kept | None:
        """What classes can be enrolled by; None in bundles of before. Raises RunError if it is damaged."""
        if self.folder is None or self.index is None or "held.safetensors" not in self.index:
            return None
        path = self.folder / "held.safetensors"
        try:
            arrays = parse_arrays(known_bytes(path, self.index), KEPT_SHAPES, {"K": len(self.trained.classes)})
            if ("learnt" in arrays) != ("learnt_labels" in arrays):
                raise ValueError("it has embeddings without labels, or labels without embeddings")
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read: {reason(error)}", AGAIN) from None
        return Kept(**arrays)

    def weights(self) -> dict[str, Tensor]:
        """The tensors in `model.safetensors`. Raises RunError if they are missing, damaged or not numbers."""
        from safetensors import SafetensorError
        from safetensors.torch import load

        assert self.folder is not None, "a bundle that was not saved has no weights"
        path = self.folder / "model.safetensors"
        try:
            weights = load(known_bytes(path, self.index))
        except (OSError, SafetensorError, KeyError) as error:  # the latter for types that torch lacks
            raise RunError(f"The weights in {self.folder} cannot be read ({error})", AGAIN) from None
        wrong = [key for key, value in weights.items() if not value.isfinite().all()]
        if wrong:
            raise RunError(
                f"The weights in {self.folder} are not numbers: {len(wrong)} of {len(weights)} tensors hold NaN or "
                f"infinite values, such as {wrong[0]}",
                "Copy the bundle again. If its training diverged, start a new run with a lower train.lr.",
            )
        return weights

    # ---- probabilities and verdicts

    def log_probabilities(self, logits: NDArray[np.floating]) -> NDArray[np.float64]:
        """(N, K) the log-probabilities: calibrated if the bundle is, otherwise those of softmax."""
        if self.calibration:
            return self.calibration.scaling(logits)
        plain: NDArray[np.float64] = log_softmax(logits.astype(np.float64), axis=1)
        return plain

    def thresholds(self, accuracy: float | None = None, coverage: float | None = None) -> Thresholds | None:
        """The thresholds of verdicts, for 95 % accuracy and 90 % coverage by default; None if nothing is calibrated.

        Raises RunError for a promise that was asked for but cannot be kept.
        """
        if self.calibration:
            return Thresholds.of(self.calibration, self.taxonomy, accuracy=accuracy, coverage=coverage)
        if accuracy is not None or coverage is not None:
            raise RunError(
                "This bundle is not calibrated, so it can promise neither an accuracy nor a coverage",
                f"Leave both options out for plain probabilities, or train again, such as: {CROSSFIT}.",
            )
        return None

    def class_rows(self, names: Iterable[str]) -> NDArray[np.int64]:
        """The indices of these classes, in class order. Raises RunError for names that the bundle does not know."""
        find = lookup(self.classes)
        wanted = {name: find(name) for name in names}
        meant = set(wanted.values())
        if unknown := sorted(name for name, found in wanted.items() if found is None):
            raise RunError(
                f"{len(unknown)} of {len(wanted)} names are not classes of this model, such as {unknown[0]!r}",
                nearest(unknown[0], self.classes),
            )
        return np.flatnonzero([name in meant for name in self.classes])


def _calibration(
    folder: Path, values: Values | None, taxonomy: Taxonomy, index: Mapping[str, str] | None
) -> Calibration | None:
    if values is None:
        return None
    path = folder / "calibration.safetensors"
    sizes = {"K": len(taxonomy.classes), "L": len(taxonomy.levels)}
    try:
        return Calibration.restored(values, parse_arrays(known_bytes(path, index), SHAPES, sizes))
    except (OSError, ValueError, KeyError) as error:
        raise RunError(f"The calibration in {folder} cannot be read: {reason(error)}", AGAIN) from None
