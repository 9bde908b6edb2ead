"""`Bundle`: a folder with all that a model needs to predict anywhere. It is only files; `Predictor` predicts.

The files are `model.safetensors` and `model.json` and, if the model is calibrated, `calibration.safetensors`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from scipy.special import log_softmax

from fieldmark.core.errors import RecipeError, RunError, nearest
from fieldmark.core.recipe import Images, Recipe
from fieldmark.core.storage import read_json, write_arrays, write_json, write_tensors
from fieldmark.data.grades import grades_of
from fieldmark.data.names import lookup
from fieldmark.data.task import Attribute, Task
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.calibration import Calibration
from fieldmark.evaluation.thresholds import Thresholds

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Bundle"]

_FORMAT = 2
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
    def task(self) -> Task:
        """What the model tells apart."""
        grades = grades_of(self.classes, self.recipe.labels.order)
        told = tuple(Attribute(name, values) for name, values in self.attributes.items())
        unlearnt = tuple(self.class_rows(self.provenance.get("unlearnt", ())).tolist())
        return Task(len(self.classes), unlearnt=unlearnt, taxonomy=self.taxonomy, grades=grades, attributes=told)

    # ---- files

    def save(self, folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Write the files. The description comes last, so that a bundle that has one is complete."""
        write_tensors(folder / "model.safetensors", weights, {"format": str(_FORMAT)})
        if self.calibration:
            write_arrays(folder / "calibration.safetensors", self.calibration.arrays())
        write_json(
            folder / "model.json",
            {
                "format": _FORMAT,
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
            },
        )

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Read a bundle, or the bundle of a run, without its weights. Raises RunError if there is none or it is of
        another version."""
        folder = Path(path)
        folder = folder / "bundle" if (folder / "bundle").is_dir() else folder
        description = _description(folder)
        try:
            recipe = Recipe.parse(
                {name: description[name] for name in _PIECES if name in description or name not in _LATER}
                | {"images": {**_BEFORE, **description["images"]}}
                | {"backbone": {**description["backbone"], "weights": "none"}},
                source=str(folder / "model.json"),
            )
            taxonomy = Taxonomy.of(description["classes"], dict(description["taxonomy"].items()))
            return cls(
                taxonomy.classes,
                recipe,
                description["interpolation"],
                taxonomy,
                description["provenance"],
                _calibration(folder, description.get("calibration")),
                tuple(description.get("parts", ())),
                {name: tuple(values) for name, values in description.get("attributes", {}).items()},
                {section: dict(one) for section, one in description.get("plugins", {}).items()},
                folder,
            )
        except RecipeError as error:
            raise RunError(
                f"This version of Fieldmark cannot use {error.problem}",
                "Use the version that wrote the bundle. If it is this one, the file is damaged: copy the bundle again.",
            ) from None
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError):
            raise RunError(f"{folder / 'model.json'} is damaged", "Copy the bundle again.") from None

    def weights(self) -> dict[str, Tensor]:
        """The tensors in `model.safetensors`. Raises RunError if they cannot be read or are not numbers."""
        from safetensors.torch import load_file

        assert self.folder is not None, "a bundle that was not saved has no weights"
        try:
            weights = load_file(self.folder / "model.safetensors")
        except (OSError, SafetensorError) as error:
            raise RunError(f"The weights in {self.folder} cannot be read ({error})", "Copy the bundle again.") from None
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
                "Train with protocol=holdout or protocol=crossfit, or leave both options out for plain probabilities.",
            )
        return None

    def class_rows(self, names: Iterable[str]) -> NDArray[np.int64]:
        """The indices of these classes, in class order. Raises RunError for names that the bundle does not know."""
        find = lookup(self.classes)
        wanted = {name: find(name) for name in names}
        if unknown := sorted(name for name, found in wanted.items() if found is None):
            raise RunError(
                f"{len(unknown)} of {len(wanted)} names are not classes of this model, such as {unknown[0]!r}",
                nearest(unknown[0], self.classes),
            )
        return np.flatnonzero([name in set(wanted.values()) for name in self.classes])


def _calibration(folder: Path, values: Mapping[str, Any] | None) -> Calibration | None:
    if values is None:
        return None
    try:
        return Calibration.restored(values, load_arrays(folder / "calibration.safetensors"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"The calibration in {folder} cannot be read ({error})", "Copy the bundle again.") from None


def _description(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    try:
        description = read_json(path)
    except FileNotFoundError:
        raise RunError(
            f"{folder} is neither a finished run nor a bundle: it has no {path.name}",
            "Give the folder of a run that has finished (--resume finishes one that was stopped).",
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error})") from None
    version = description.get("format") if isinstance(description, dict) else None
    if version != _FORMAT:
        raise RunError(
            f"{folder} has the format {version!r}, but this version of Fieldmark reads {_FORMAT}",
            "Use the version that wrote it, or train again.",
        )
    return dict(description)
