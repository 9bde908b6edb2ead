"""`Predictor`: a bundle that is ready to answer. It loads torch only where torch computes.

Shapes: N images, K classes, D embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, final, get_args

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.stream import BATCH, Answered, Shown, stream
from fieldmark.answering.things import Thing, Things, named
from fieldmark.answering.verdicts import Speaker
from fieldmark.answering.views import evaluation_square, short_side
from fieldmark.core.errors import DeviceError, RunError
from fieldmark.core.machine import AUTO, EngineName, choose_device, has_gpu, num_decoders
from fieldmark.data.bursts import grouped
from fieldmark.data.decode import Decoded
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.evaluation.verdict import Verdict
from fieldmark.runs.bundle import Bundle

if TYPE_CHECKING:
    from fieldmark.model.model import Model

__all__ = ["Engine", "Predictor"]


class Engine(Protocol):
    """Answers views (B, 3, S, S) of 8 bits."""

    def __call__(self, images: NDArray[np.uint8]) -> Outputs: ...


@final
class Predictor:
    """A trained classifier, ready to answer.

    >>> predictor = Predictor.load("runs/birds")
    >>> predictor.predict("new.jpg")[0].label

    It accepts paths, folders, globs, tables with a column `path`, bytes, open files, PIL images and uint8 arrays of
    shape (H, W, 3) or (H, W), each alone or in any iterable, or a data frame with a column `path`.
    """

    def __init__(
        self, bundle: Bundle, model: Model | None = None, *, engine: Engine | None = None, device: str = "cpu"
    ) -> None:
        """A bundle with its network or another engine. The network of a bundle on disk is loaded when asked for."""
        self.bundle = bundle
        self.view = evaluation_square(bundle.images, bundle.interpolation)
        """Decoded pixels (H, W, 3) → the square that the network sees, uint8 (3, S, S)."""
        self._model = model
        self._device = device
        self._engine = engine

    def __repr__(self) -> str:
        return f"Predictor({self.bundle!r} on {self.device})"

    @classmethod
    def load(cls, path: Path | str, *, device: str = AUTO, engine: EngineName = "auto") -> Predictor:
        """Open a bundle, or the bundle of a run.

        `engine` "torch" computes in PyTorch, and "onnx" in ONNX Runtime on the processor. "auto" is the latter if ONNX
        Runtime is installed, there is no GPU, and the bundle was exported or a long job has found it to be faster here.

        Raises RunError if there is no bundle, if it is of another version, if it needs a plug-in that is not installed,
        or if it lacks what the engine needs. Raises DeviceError for a device that this machine does not have.
        """
        return cls.of(Bundle.load(path), device=device, engine=engine)

    @classmethod
    def of(cls, bundle: Bundle, *, device: str = AUTO, engine: EngineName = "auto") -> Predictor:
        """A bundle on disk, ready to answer; options and errors as of `load`."""
        if engine not in get_args(EngineName):
            raise RunError(f"There is no engine {engine!r}", f"Choose one of: {', '.join(get_args(EngineName))}.")
        if engine == "onnx" and device not in (AUTO, "cpu"):
            raise DeviceError(
                f"ONNX Runtime computes on the processor, not on {device}",
                "Leave out the device, or choose the engine torch.",
            )
        # without a driver, a graph answers before torch is loaded; with one, torch may still be unable to use the GPU
        on_cpu = engine == "onnx" or (device == AUTO and not has_gpu())
        if engine != "torch" and (on_cpu or choose_device(device) == "cpu"):
            from fieldmark.answering.onnx import onnx_engine

            if (found := onnx_engine(bundle, required=engine == "onnx")) is not None:
                return cls(bundle, engine=found)
        predictor = cls(bundle, device=choose_device(device))
        _ = predictor.engine  # what is wrong with its weights is said now
        return predictor

    @property
    def model(self) -> Model:
        """The network. Raises RunError if its weights are damaged, or if it needs a plug-in that is not installed."""
        if self._model is None:
            from fieldmark.answering.network import load_network

            self._model = load_network(self.bundle, self._device)
        return self._model

    @property
    def device(self) -> str:
        """Where the network computes."""
        return self._device if self._model is None else str(next(self._model.parameters()).device)

    @property
    def engine(self) -> Engine:
        """What answers: the network, unless it was made with another engine."""
        if self._engine is None:
            from fieldmark.answering.engine import TorchEngine

            self._engine = TorchEngine(self.model)
        return self._engine

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
        return [*(replace(single, frames=1) for single in verdicts), *speaker.pooled(*grouped(names), outputs)]

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
        return stream(named(things), self.see, self.engine, batch_size=batch_size, threads=num_decoders())

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
