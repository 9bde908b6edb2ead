"""A bundle's network as an ONNX graph, with the rules of its verdicts in the metadata.

    images (B, 3, S, S) uint8 →
        logits (B, K), embedding (B, D) and `attribute NAME` (B, V), as the network gives them
        log_probabilities (B, K), calibrated
        familiarity (B,), if the bundle is calibrated; see `fieldmark.evaluation.unknown`

Mirror images, enrolled classes and the normalisation are part of the graph.

Shapes: B images of S × S pixels, K classes, D embedding, V values of an attribute.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fieldmark.answering.network import load_network
from fieldmark.answering.onnx import attribute_output
from fieldmark.core.storage import as_json
from fieldmark.core.version import version
from fieldmark.exporting.rules import rules
from fieldmark.model.graph import exported
from fieldmark.model.model import Model
from fieldmark.runs.bundle import Bundle

if TYPE_CHECKING:
    import onnx

__all__ = ["METADATA", "PRODUCER", "annotated", "graph_of", "output_names"]

METADATA = "fieldmark"
"""The key of the rules."""
PRODUCER = "Fieldmark"
"""By which a graph of ours is known, and may be replaced."""


@final
class _Answer(nn.Module):
    """From pixels to everything that verdicts are made of."""

    scale: Tensor
    bias: Tensor
    means: Tensor
    centre: Tensor
    spread: Tensor

    def __init__(self, model: Model, bundle: Bundle) -> None:
        super().__init__()
        self.model = model
        self.calibrated = bundle.calibration is not None
        if calibration := bundle.calibration:
            familiarity = calibration.familiarity
            buffers = {
                "scale": calibration.scaling.scale,
                "bias": calibration.scaling.bias,
                "means": calibration.means,
                "centre": familiarity.centre,
                "spread": familiarity.spread,
            }
            for name, values in buffers.items():
                self.register_buffer(name, torch.from_numpy(values).float())

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        seen = self.model(self.model.backbone.normalization(images))
        if not self.calibrated:
            return seen.logits, seen.embedding, *seen.attributes, F.log_softmax(seen.logits, dim=1)
        scaled = F.log_softmax(self.scale * seen.logits + self.bias, dim=1)
        near = (F.normalize(seen.embedding, dim=1) @ self.means.T).amax(dim=1)
        standard = (torch.stack([scaled.amax(dim=1).exp(), near], dim=1) - self.centre) / self.spread
        return seen.logits, seen.embedding, *seen.attributes, scaled, standard.sum(dim=1)


def output_names(bundle: Bundle) -> list[str]:
    """What the outputs of its graph are called, in order."""
    attributes = [attribute_output(name) for name in bundle.attributes]
    return ["logits", "embedding", *attributes, "log_probabilities", *(["familiarity"] if bundle.calibration else [])]


def graph_of(bundle: Bundle) -> onnx.ModelProto:
    """The graph of a bundle's network. Raises RunError if something in it cannot be expressed."""
    answer = _Answer(load_network(bundle, "cpu"), bundle).eval()
    what = f"{bundle.recipe.method.name} on {bundle.recipe.backbone.name}"
    graph = exported(answer, bundle.images.size, output_names(bundle), what=what)
    graph.producer_version = version()
    return annotated(graph, METADATA, rules(bundle))


def annotated(graph: onnx.ModelProto, key: str, values: Any) -> onnx.ModelProto:
    """A graph with these values in its metadata, in place of earlier ones, and with our signature."""
    graph.producer_name = PRODUCER
    kept = [(one.key, one.value) for one in graph.metadata_props if one.key != key]
    del graph.metadata_props[:]
    for name, text in [*kept, (key, as_json(values))]:
        entry = graph.metadata_props.add()
        entry.key, entry.value = name, text
    return graph
