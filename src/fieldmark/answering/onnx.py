"""`OnnxEngine`: batches of views in, outputs out, by ONNX Runtime on the processor; without torch.

Shapes: B images of S × S pixels.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import RunError
from fieldmark.core.machine import num_threads
from fieldmark.evaluation.outputs import Outputs
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.exported import ONNX, read_onnx

if TYPE_CHECKING:
    import onnxruntime

__all__ = ["INSTALL", "OnnxEngine", "attribute_output", "has_onnx", "onnx_engine", "opened_graph"]

INSTALL = "Install it with: pip install 'fieldmark[onnx]'."
_ELSEWHERE = b"\n\x08location"
"""How a graph names another file that holds a tensor."""


def has_onnx() -> bool:
    """Whether ONNX Runtime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def attribute_output(name: str) -> str:
    """What the logits of an attribute are called in a graph."""
    return f"attribute {name}"


def opened_graph(data: bytes, what: str) -> onnxruntime.InferenceSession:
    """A graph, ready to compute. Raises RunError for what is none, or needs other files or operators of its own."""
    import onnxruntime

    if _ELSEWHERE in data:
        raise RunError(f"{what} keeps its tensors in other files, which is not allowed", "Export the run again.")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads()
    options.log_severity_level = 3  # what goes wrong is raised
    # a batch is as long as there are pictures: memory kept for the last one is of no use, and grows with each new size
    options.enable_mem_pattern = False
    # threads that wait leave the cores to those that decode the next pictures
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # it has a class for each of its statuses, and no common one
        reason = str(error).splitlines()[0][:200]
        raise RunError(f"{what} cannot be used by ONNX Runtime: {reason}", "Export the run again.") from None


@final
class OnnxEngine:
    """Answers images (B, 3, S, S) of 8 bits.

    Raises RunError for answers that are not numbers.
    """

    def __init__(self, data: bytes, bundle: Bundle) -> None:
        """A graph that was made of a bundle. Raises RunError if it is none of this bundle's."""
        self.session = opened_graph(data, f"{bundle.folder}/{ONNX}")
        self._attributes = [attribute_output(name) for name in bundle.attributes]
        given = {one.name: tuple(one.shape) for one in self.session.get_outputs()}
        taken = {one.name: (one.type, tuple(one.shape[1:])) for one in self.session.get_inputs()}
        side = bundle.images.size
        fits = (
            taken == {"images": ("tensor(uint8)", (3, side, side))}
            and given.get("logits", ())[1:] == (len(bundle.classes),)
            and len(given.get("embedding", ())) == 2
            and set(self._attributes) <= set(given)
        )
        if not fits:
            raise RunError(f"{bundle.folder}/{ONNX} does not belong to this bundle", "Export the run again.")

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        logits, embedding, *attributes = self.run(images, ["logits", "embedding", *self._attributes])
        return Outputs(logits, embedding, tuple(attributes))

    def run(self, images: NDArray[np.uint8], wanted: list[str]) -> list[NDArray[Any]]:
        """Some outputs of the graph."""
        found: list[NDArray[Any]] = self.session.run(wanted, {"images": np.ascontiguousarray(images)})
        if not all(np.isfinite(one).all() for one in found):
            raise RunError(f"{ONNX} answers with NaN or infinite values instead of numbers", "Export the run again.")
        return found


def onnx_engine(bundle: Bundle, *, required: bool = False) -> OnnxEngine | None:
    """What answers for a bundle without torch; None if it has no graph, or ONNX Runtime is not installed.

    Raises RunError for these if it is `required`, and for a graph that is damaged.
    """
    if not has_onnx():
        if required:
            raise RunError("ONNX Runtime is not installed", INSTALL)
        return None
    if (data := read_onnx(bundle)) is None:
        if required:
            raise RunError(f"{bundle.folder} has no {ONNX} for its classes", "Make one with: fieldmark export RUN.")
        return None
    return OnnxEngine(data, bundle)
