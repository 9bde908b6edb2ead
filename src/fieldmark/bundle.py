"""`Bundle`: a folder with everything needed to answer again anywhere.

`model.safetensors` and `model.json`; where it is calibrated also `calibration.safetensors`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file
from scipy.special import log_softmax
from torch import Tensor

import fieldmark.losses
import fieldmark.methods  # both register what is in them
from fieldmark.augment.image import evaluation_view
from fieldmark.auxiliaries.auxiliary import Auxiliary
from fieldmark.data.decode import decode
from fieldmark.data.grades import grades_of
from fieldmark.errors import RecipeError, RunError, nearest
from fieldmark.evaluation.backoff import Taxonomy
from fieldmark.evaluation.bursts import DEPENDENT, pool
from fieldmark.evaluation.judge import Judge
from fieldmark.evaluation.rules import Rules
from fieldmark.evaluation.unknown import nearness
from fieldmark.evaluation.verdict import Verdict, trait, verdict
from fieldmark.losses.loss import Attribute, Task
from fieldmark.model.attributes import AttributeHeads
from fieldmark.model.backbone import Normalization, build_backbone, not_numbers
from fieldmark.model.head import Heads
from fieldmark.model.inference import Outputs, infer
from fieldmark.model.memory import keep_freed_memory
from fieldmark.model.method import METHODS, Method
from fieldmark.recipe import Images, Recipe
from fieldmark.storage import read_json, write_json, write_tensors

__all__ = ["Bundle", "build_method", "evaluation_square", "short_side", "stacked"]

_FORMAT = 2
_PIECES = ("images", "neck", "method", "head", "labels")
_LATER = ("labels",)  # bundles of before had none
_ = fieldmark.losses, fieldmark.methods


def short_side(images: Images) -> int:
    """Side that pictures are reduced to before anything else, cached or not, in training and in service."""
    return round(1.5 * images.size)


def build_method(recipe: Recipe, task: Task, *, load_weights: bool = True) -> Method:
    """The method that a recipe names, on its backbone and neck, with its head and loss, and heads for attributes."""
    keep_freed_memory()  # whoever has a network runs it
    backbone = build_backbone(recipe.backbone, size=recipe.images.size, neck=recipe.neck, load_weights=load_weights)
    heads = Heads(task, recipe.head, recipe.loss, recipe.auxiliary)
    options = METHODS.complete(*recipe.method.pair)
    method = METHODS.get(recipe.method.name)(backbone, heads, **options)  # type: ignore[call-arg]  # the contract
    method.mirrored = recipe.images.mirror
    if task.attributes:
        said = recipe.labels
        method.attributes = AttributeHeads(
            backbone.width, task.attributes, weight=said.attribute_weight, balance=said.attribute_balance
        )
    return method


@dataclass(repr=False)
class Bundle:
    """A trained classifier, ready to answer.

    >>> bundle = Bundle.load("runs/birds")
    >>> bundle.predict(["a.jpg"])[0].label
    """

    method: Method
    classes: tuple[str, ...]
    recipe: Recipe
    """Of it, what answering needs: images, backbone, neck, method, head, labels."""
    taxonomy: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """Data, protocol, weights, licence, seed, versions; whether the probabilities are calibrated."""
    judge: Judge | None = None
    """What it knows of its own answers; none where no image was held out, and probabilities are plain softmax then."""
    parts: tuple[str, ...] = ()
    """Names of the method's part maps, in their order and without the background: those of the key points that they
    were found to lie at, else numbers; () where it has none."""
    attributes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """What else it tells of each image: attribute → what it may be, in the order of `Outputs.attributes`."""

    def __repr__(self) -> str:
        size = self.images.size
        name = f"{self.recipe.method.name} on {self.recipe.backbone.name}"
        return f"Bundle({name}, {len(self.classes)} classes, {size} px)"

    @property
    def images(self) -> Images:
        """How an image becomes what the network sees."""
        return self.recipe.images

    def save(self, folder: Path) -> None:
        """Write the files; the description last, so that a bundle with one is complete."""
        write_tensors(folder / "model.safetensors", _answering(self.method), {"format": str(_FORMAT)})
        if self.judge:
            arrays = {name: torch.from_numpy(values) for name, values in self.judge.arrays().items()}
            write_tensors(folder / "calibration.safetensors", arrays)
        normalization = self.method.backbone.normalization
        # the weights' origin belongs to the provenance: what is loaded is the file beside this one
        backbone = self.recipe.backbone.model_copy(update={"mean": normalization.mean, "std": normalization.std})
        write_json(
            folder / "model.json",
            {
                "format": _FORMAT,
                "classes": self.classes,
                "taxonomy": {level: list(names) for level, names in self.taxonomy.items()},
                "attributes": {name: list(values) for name, values in self.attributes.items()},
                "interpolation": normalization.interpolation,
                "backbone": backbone.model_dump(mode="json", exclude={"weights"}),
                **self.recipe.model_dump(mode="json", include=set(_PIECES)),
                "calibration": self.judge.values() if self.judge else None,
                "parts": self.parts,
                "provenance": self.provenance,
            },
        )

    @classmethod
    def load(cls, path: Path | str, *, device: str | None = None) -> Bundle:
        """Open a bundle or the bundle of a run. Raises RunError where there is none or one of another version."""
        folder = Path(path)
        folder = folder / "bundle" if (folder / "bundle").is_dir() else folder
        description = _description(folder)
        try:
            recipe = Recipe.parse(
                {name: description[name] for name in _PIECES if name in description or name not in _LATER}
                | {"backbone": {**description["backbone"], "weights": "none"}},
                source=str(folder / "model.json"),
            )
            classes = tuple(description["classes"])
            taxonomy = {level: tuple(names) for level, names in description["taxonomy"].items()}
            attributes = {name: tuple(values) for name, values in description.get("attributes", {}).items()}
            interpolation, provenance = description["interpolation"], description["provenance"]
        except RecipeError as error:
            raise RunError(
                f"This version of Fieldmark cannot use {error.problem}",
                "Use the version that wrote the bundle; if it is this one, the file is damaged: copy the bundle again.",
            ) from None
        except (KeyError, TypeError, ValueError, AttributeError):
            raise RunError(f"{folder / 'model.json'} is damaged", "Copy the bundle again.") from None
        told = tuple(Attribute(name, values) for name, values in attributes.items())
        method = build_method(recipe, Task(len(classes), attributes=told), load_weights=False)
        method.backbone.normalization = Normalization(
            method.backbone.normalization.mean, method.backbone.normalization.std, interpolation
        )
        try:
            weights = load_file(folder / "model.safetensors")
            method.load_state_dict(weights)
        except (OSError, SafetensorError) as error:
            raise RunError(f"The weights in {folder} cannot be read ({error})", "Copy the bundle again.") from None
        except RuntimeError as error:  # torch's own text runs over as many lines as there are layers
            raise RunError(
                f"The weights in {folder} are not those that its model.json describes", "Copy the bundle again."
            ) from error
        if wrong := not_numbers(weights):
            raise RunError(
                f"The weights in {folder} are not numbers: {wrong}",
                "Copy the bundle again; if its training diverged, begin a new run with a lower train.lr.",
            )
        where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        method.to(where, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # torch's stub lacks it
        judge = _judge(folder, description.get("calibration"))
        parts = tuple(description.get("parts", ()))
        return cls(method, classes, recipe, taxonomy, provenance, judge, parts, attributes)

    @property
    def task(self) -> Task:
        """What it tells apart."""
        grades = grades_of(self.classes, self.recipe.labels.order)
        told = tuple(Attribute(name, values) for name, values in self.attributes.items())
        return Task(len(self.classes), taxonomy=self.taxonomy, grades=grades, attributes=told)

    @property
    def view(self) -> Callable[[NDArray[np.uint8]], Tensor]:
        """Decoded pixels (H, W, 3) → the square that the network sees, uint8 (3, S, S)."""
        return evaluation_square(self.images, self.method.backbone.normalization.interpolation)

    def outputs(self, images: Iterable[Path | str | bytes], *, batch_size: int = 32) -> Outputs:
        """Logits (N, K) and embedding (N, D). Raises ImageError for one that cannot be read."""
        return infer(self.method, stacked((self.view(self._decode(image)) for image in images), batch_size))

    def predict(
        self,
        images: Path | str | Sequence[Path | str],
        *,
        among: Sequence[str] | None = None,
        candidates: int = 5,
        accuracy: float | None = None,
        coverage: float | None = None,
        bursts: bool = False,
    ) -> list[Verdict]:
        """One verdict for each image and, with `bursts`, one more for each folder of images.

        `among` restricts the answer to these classes. `accuracy` is that of the names that are given, `coverage` that
        of the sets of classes that cannot be ruled out; see `rules`.
        """
        images = _several(images)
        rows, rules = None if among is None else self.class_rows(among), self.rules(accuracy, coverage)
        paths, outputs = [str(path) for path in images], self.outputs(images)
        verdicts = self.verdicts(paths, outputs, rules, among=rows, most=candidates)
        if not bursts:
            return verdicts
        pooled = self.pooled_verdicts(paths, outputs, rules, among=rows, most=candidates)
        return [*(replace(single, frames=1) for single in verdicts), *pooled]

    def predict_proba(self, images: Path | str | Sequence[Path | str]) -> NDArray[np.float64]:
        """Probabilities (N, K), in the order of `classes`; calibrated where the bundle is."""
        outputs = self.outputs(_several(images))
        return np.exp(self.log_probabilities(outputs.logits))

    def log_probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """(N, K) calibrated where the bundle is, else those of softmax."""
        plain: NDArray[np.float64] = log_softmax(logits.astype(np.float64), axis=1)
        return self.judge.scaling(logits) if self.judge else plain

    def rules(self, accuracy: float | None = None, coverage: float | None = None) -> Rules | None:
        """What verdicts follow: 95 % accuracy and 90 % coverage unless given; none where nothing is calibrated.

        Raises RunError for what was asked for and cannot be promised.
        """
        if self.judge:
            return Rules.of(self.judge, self.levels, accuracy=accuracy, coverage=coverage)
        if accuracy is not None or coverage is not None:
            raise RunError(
                "This bundle is not calibrated, so it can promise neither an accuracy nor a coverage",
                "Train with protocol=holdout or protocol=crossfit, or leave both out for plain probabilities.",
            )
        return None

    @property
    def levels(self) -> Taxonomy:
        """The levels that an answer can be of."""
        return Taxonomy.of(self.classes, self.taxonomy)

    def verdicts(
        self,
        paths: Sequence[str],
        outputs: Outputs,
        rules: Rules | None,
        *,
        among: NDArray[np.int64] | None = None,
        most: int = 5,
    ) -> list[Verdict]:
        """One verdict for each of N outputs; without rules the plain ones."""
        if not len(paths):
            return []
        near = nearness(outputs.embedding, rules.judge.means) if rules else np.zeros(len(paths))
        verdicts = self._spoken(paths, self.log_probabilities(outputs.logits), near, rules, among, most)
        return self._with_traits(verdicts, [log_softmax(logits, axis=1) for logits in outputs.attributes])

    def pooled_verdicts(
        self,
        paths: Sequence[str],
        outputs: Outputs,
        rules: Rules | None,
        *,
        among: NDArray[np.int64] | None = None,
        most: int = 5,
    ) -> list[Verdict]:
        """One verdict for each folder of the N images, as photographs of one thing. Promises are for single images."""
        if not len(paths):
            return []
        folders, groups = np.unique([Path(path).parent.as_posix() for path in paths], return_inverse=True)
        frames = np.bincount(groups)
        power = self.judge.power if self.judge else DEPENDENT
        log_probabilities = pool(self.log_probabilities(outputs.logits), groups, power)
        near = np.zeros(len(frames))
        if rules:
            near = np.bincount(groups, nearness(outputs.embedding, rules.judge.means)) / frames
        verdicts = self._spoken(folders.tolist(), log_probabilities, near, rules, among, most)
        verdicts = [replace(pooled, frames=int(number)) for pooled, number in zip(verdicts, frames, strict=True)]
        return self._with_traits(
            verdicts, [pool(log_softmax(logits, axis=1), groups, DEPENDENT) for logits in outputs.attributes]
        )

    def _with_traits(self, verdicts: list[Verdict], attributes: Sequence[NDArray[np.floating]]) -> list[Verdict]:
        """With the likeliest value of each attribute, from log-probabilities (N, V) of each."""
        if not self.attributes:
            return verdicts
        told = list(zip(self.attributes.items(), attributes, strict=True))
        return [
            replace(one, attributes={name: trait(z[i], values) for (name, values), z in told})
            for i, one in enumerate(verdicts)
        ]

    def _spoken(
        self,
        paths: Sequence[str],
        log_probabilities: NDArray[np.float64],
        near: NDArray[np.float64],
        rules: Rules | None,
        among: NDArray[np.int64] | None,
        most: int,
    ) -> list[Verdict]:
        if rules:
            return rules.verdicts(paths, log_probabilities, near, among=among, most=most)
        answers = zip(paths, log_probabilities, strict=True)
        return [verdict(path, z, self.classes, among=among, most=most) for path, z in answers]

    def embed(self, images: Path | str | Sequence[Path | str]) -> NDArray[np.float32]:
        """Embeddings (N, D) of unit length."""
        embedding = self.outputs(_several(images)).embedding
        return embedding / np.linalg.norm(embedding, axis=1, keepdims=True).clip(1e-12)

    def class_rows(self, names: Iterable[str]) -> NDArray[np.int64]:
        """The indices of these classes, in class order. Raises RunError for names that the bundle does not know."""
        wanted = set(names)
        if unknown := sorted(wanted - set(self.classes)):
            raise RunError(
                f"{len(unknown)} of {len(wanted)} names are no classes of this model, such as {unknown[0]!r}",
                nearest(unknown[0], self.classes),
            )
        return np.flatnonzero([name in wanted for name in self.classes])

    def _decode(self, image: Path | str | bytes) -> NDArray[np.uint8]:
        source = Path(image) if isinstance(image, str) else image
        return decode(source, short_side=short_side(self.images)).pixels


def _several(images: Path | str | Sequence[Path | str]) -> Sequence[Path | str]:
    """One image is a list of one; a string would be a sequence of letters."""
    return [images] if isinstance(images, (Path, str)) else images


def _answering(method: Method) -> dict[str, Tensor]:
    """The weights without those of auxiliaries, which are there in training only."""
    training = tuple(f"{name}." for name, module in method.named_modules() if isinstance(module, Auxiliary))
    return {key: value for key, value in method.state_dict().items() if not key.startswith(training)}


def evaluation_square(images: Images, interpolation: str) -> Callable[[NDArray[np.uint8]], Tensor]:
    """Decoded pixels (H, W, 3) → uint8 (3, S, S), as every answer sees them."""
    return partial(evaluation_view, size=images.size, crop=images.crop, whole=images.whole, interpolation=interpolation)


def stacked(views: Iterable[Tensor], batch_size: int) -> Iterator[Tensor]:
    """Views (3, S, S) in batches."""
    batch: list[Tensor] = []
    for view in views:
        batch.append(view)
        if len(batch) == batch_size:
            yield torch.stack(batch)
            batch = []
    if batch:
        yield torch.stack(batch)


def _judge(folder: Path, values: Mapping[str, Any] | None) -> Judge | None:
    if values is None:
        return None
    try:
        return Judge.restored(values, load_arrays(folder / "calibration.safetensors"))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"The calibration in {folder} cannot be read ({error})", "Copy the bundle again.") from None


def _description(folder: Path) -> dict[str, Any]:
    path = folder / "model.json"
    try:
        description = read_json(path)
    except FileNotFoundError:
        raise RunError(
            f"{folder} is neither a finished run nor a bundle: there is no {path.name}",
            "Give a folder that `fieldmark train` has finished (--resume finishes one that was stopped).",
        ) from None
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read ({error})") from None
    version = description.get("format") if isinstance(description, dict) else None
    if version != _FORMAT:
        raise RunError(
            f"{folder} is of format {version!r}; this version of Fieldmark reads {_FORMAT}",
            "Use the version that wrote it, or train again.",
        )
    return dict(description)
