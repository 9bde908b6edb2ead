"""A model repository for Triton Inference Server: NAME/config.pbtxt and NAME/1/model.onnx.

The server answers pixels with logits, log-probabilities and familiarity, in batches of its own making. Photographs are
cut, and verdicts given, by whoever asks: `rules.json` beside the configuration says how, as in the graph's metadata.
"""

from __future__ import annotations

import re

from fieldmark.answering.onnx import opened_graph
from fieldmark.core.storage import as_json, json_bytes
from fieldmark.exporting.rules import rules
from fieldmark.runs.bundle import Bundle

__all__ = ["MOST", "model_name", "repository"]

_TYPES = {"tensor(uint8)": "TYPE_UINT8", "tensor(float)": "TYPE_FP32"}
MOST = 32
"""Pictures in a request."""
_WAIT = 2_000
"""Microseconds for which a picture waits for others."""


def repository(bundle: Bundle, graph: bytes, name: str) -> dict[str, bytes]:
    """The files of a repository with one model, by their paths in it."""
    model = model_name(name)
    return {
        f"{model}/config.pbtxt": _config(graph, model).encode(),
        f"{model}/labels.txt": "".join(f"{' '.join(one.split())}\n" for one in bundle.classes).encode(),
        f"{model}/rules.json": json_bytes(rules(bundle)),
        f"{model}/1/model.onnx": graph,
    }


def model_name(name: str) -> str:
    """What a server calls the model of a run with this name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._-") or "model"


def _config(graph: bytes, model: str) -> str:
    session = opened_graph(graph, "The graph")
    inputs, outputs = (
        ",\n".join(_tensor(one.name, one.type, one.shape[1:]) for one in some)
        for some in (session.get_inputs(), session.get_outputs())
    )
    return f"""\
# Written by Fieldmark.
name: {as_json(model)}
platform: "onnxruntime_onnx"
max_batch_size: {MOST}
input [
{inputs}
]
output [
{outputs}
]
dynamic_batching {{ max_queue_delay_microseconds: {_WAIT} }}
"""


def _tensor(name: str, kind: str, shape: list[int]) -> str:
    """One of so many numbers for each picture; a single number has no side of its own, which the format cannot say."""
    lines = [f"name: {as_json(name)}", f"data_type: {_TYPES[kind]}", f"dims: [ {', '.join(map(str, shape or [1]))} ]"]
    if not shape:
        lines.append("reshape: { shape: [ ] }")
    if name == "log_probabilities":
        lines.append('label_filename: "labels.txt"')
    return "  {\n" + "".join(f"    {line}\n" for line in lines) + "  }"
