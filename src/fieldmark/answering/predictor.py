"""`Predictor`: a bundle that is ready to answer.

Shapes: N images, K classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import final

import numpy as np
import torch
from numpy.typing import NDArray

from fieldmark.answering.engine import TorchEngine
from fieldmark.answering.stream import BATCH, Answered, Shown, stream
from fieldmark.answering.things import Thing, Things, named
from fieldmark.answering.verdicts import Speaker
from fieldmark.answering.views import evaluation_square, short_side
from fieldmark.core.errors import RecipeError, RunError
from fieldmark.core.machine import AUTO, choose_device
from fieldmark.data.decode import Decoded
from fieldmark.evaluation.enrolment import TEMPERATURE, Gate
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.evaluation.verdict import Verdict
from fieldmark.model.backbone import Normalization
from fieldmark.model.build import build_model, is_plain, num_parameters
from fieldmark.model.enrolled import Enrolled
from fieldmark.model.model import Model
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.description import AGAIN

__all__ = ["Predictor", "enrolled_module"]


@final
class Predictor:
    """A trained classifier, ready to answer.

    >>> predictor = Predictor.load("runs/birds")
    >>> predictor.predict("new.jpg")[0].label

    It accepts paths, folders, globs, tables with a column `path`, bytes, open files, PIL images and uint8 arrays of
    shape (H, W, 3) or (H, W), each alone or in any iterable, or a data frame with a column `path`.
    """

    def __init__(self, bundle: Bundle, model: Model, *, engine: TorchEngine | None = None) -> None:
        self.bundle = bundle
        self.model = model
        self.engine = engine or TorchEngine(model)
        self.view = evaluation_square(bundle.images, bundle.interpolation)
        """Decoded pixels (H, W, 3) → the square that the network sees, uint8 (3, S, S)."""

    def __repr__(self) -> str:
        return f"Predictor({self.bundle!r} on {self.engine.device})"

    @classmethod
    def load(cls, path: Path | str, *, device: str = AUTO) -> Predictor:
        """Open a bundle, or the bundle of a run.

        Raises RunError if there is no bundle, if it is of another version, or if it needs a plug-in that is not
        installed. Raises DeviceError for a device that this machine does not have.
        """
        chosen, bundle = choose_device(device), Bundle.load(path)
        model = _network(bundle)
        try:
            model.load_weights(bundle.weights())
        except RuntimeError as error:  # torch's own text runs over as many lines as there are layers
            raise RunError(f"The weights in {bundle.folder} do not match its model.json", AGAIN) from error
        if bundle.enrolment:
            model.enrolled = enrolled_module(bundle.enrolment.gate)
        model.to(torch.device(chosen), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]  # torch's stub lacks it
        return cls(bundle, model)

    def save(self, folder: Path | str) -> None:
        """Write a bundle with the weights and the normalisation of the network."""
        own, recipe = self.model.backbone.normalization, self.bundle.recipe
        backbone = recipe.backbone.model_copy(update={"mean": own.mean, "std": own.std})
        trained = replace(
            self.bundle.trained,
            recipe=recipe.model_copy(update={"backbone": backbone}),
            interpolation=own.interpolation,
        )
        trained.with_enrolment(self.bundle.enrolment).save(Path(folder), self.model.weights())

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the K classes."""
        return self.bundle.classes

    def predict(
        self,
        things: Things,
        *,
        among: Sequence[str] | None = None,
        candidates: int = 5,
        accuracy: float | None = None,
        coverage: float | None = None,
        bursts: bool = False,
    ) -> list[Verdict]:
        """Return one verdict for each image and, with `bursts`, one more for each folder of images.

        `among` restricts the answers to these classes. `accuracy` is the share of given names that should be right, and
        `coverage` the share of sets that should contain the right class; see `Bundle.thresholds`. Raises ImageError for
        an image that cannot be read; `fieldmark.predict` skips such images and yields its answers one by one.
        """
        speaker = Speaker.of(self.bundle, among=among, candidates=candidates, accuracy=accuracy, coverage=coverage)
        names, outputs = self._all(things)
        verdicts = speaker.verdicts(names, outputs)
        if not bursts:
            return verdicts
        return [*(replace(single, frames=1) for single in verdicts), *speaker.pooled(names, outputs)]

    def predict_proba(self, things: Things) -> NDArray[np.float64]:
        """Return probabilities (N, K) in the order of `classes`, calibrated if the bundle is. Raises ImageError."""
        return np.exp(self.bundle.log_probabilities(self.outputs(things).logits))

    def embed(self, things: Things) -> NDArray[np.float32]:
        """Return embeddings (N, D) of unit length. Raises ImageError."""
        embedding = self.outputs(things).embedding
        return embedding / np.linalg.norm(embedding, axis=1, keepdims=True).clip(1e-12)

    def outputs(self, things: Things) -> Outputs:
        """Return the logits (N, K) and embeddings (N, D) as the network gives them. Raises ImageError."""
        return self._all(things)[1]

    def stream(self, things: Things, *, batch_size: int = BATCH) -> Iterator[Answered[Thing, Outputs]]:
        """Yield outputs batch by batch, as images arrive; unreadable images are skipped and reported in the batch."""
        return stream(named(things), self.see, self.engine, batch_size=batch_size)

    def see(self, thing: Thing) -> Shown:
        """Return what the network sees of a thing. Raises ImageError."""
        return self.show(self.decode(thing))

    def decode(self, thing: Thing) -> Decoded:
        """Return the pixels of a thing, from which everything else is cut. Raises ImageError."""
        images = self.bundle.images
        return thing.decode(short_side=short_side(images), grey_bits=images.grey_depth)

    def show(self, decoded: Decoded) -> Shown:
        """Return what the network sees of decoded pixels."""
        return Shown(self.view(decoded.pixels), decoded.size)

    def _all(self, things: Things) -> tuple[list[str], Outputs]:
        names: list[str] = []
        outputs: list[Outputs] = []
        for answered in self.stream(things):
            for _, error in answered.skipped:
                raise error
            assert answered.output is not None
            names += [thing.name for thing in answered.things]
            outputs.append(answered.output)
        return names, joined(outputs)


def enrolled_module(gate: Gate) -> Enrolled:
    """What gives enrolled classes their logits, as a part of the network."""
    arrays = (gate.plda.centre, gate.plda.axes, gate.expected, gate.variance)
    return Enrolled(
        *(torch.from_numpy(one) for one in arrays), num_new=gate.num_new, temperature=TEMPERATURE, offset=gate.offset
    )


def _check_size(bundle: Bundle) -> None:
    """Raise RunError for a network that is larger than its weights, before it takes any memory."""
    assert bundle.folder is not None
    path = bundle.folder / "model.safetensors"
    parameters = num_parameters(bundle.recipe, bundle.trained.task)
    if path.is_file() and parameters > path.stat().st_size:  # each has at least a byte
        raise RunError(f"The weights in {bundle.folder} do not match its model.json", AGAIN)


def _network(bundle: Bundle) -> Model:
    """The network that a bundle describes, without its weights."""
    try:
        if not is_plain(bundle.recipe):
            _check_size(bundle)
        model = build_model(bundle.recipe, bundle.trained.task, load_weights=False)
    except RecipeError as error:
        for section, one in bundle.plugins.items():
            if repr(one["name"]) in error.problem:
                needed = f"{one['package']}=={one['version']}"
                raise RunError(
                    f"{bundle.folder} needs the {section} {one['name']!r} from the package {one['package']} "
                    f"{one['version']}: {error.problem}",
                    f"Install it with: pip install {needed}.",
                ) from None
        raise RunError(
            f"This version of Fieldmark cannot open {bundle.folder}: {error.problem}",
            "Use the version that wrote the bundle. If it is this one, the bundle is damaged: copy it again.",
        ) from None
    own = model.backbone.normalization
    model.backbone.normalization = Normalization(own.mean, own.std, bundle.interpolation)
    return model
