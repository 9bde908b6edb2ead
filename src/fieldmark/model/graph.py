"""A module as an ONNX graph: pixels in, tensors out.

It is exported for a batch of two, since torch would take a side of one for a constant.

Shapes: B images of S × S pixels.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from google.protobuf.message import EncodeError
from torch import nn

from fieldmark.core.errors import RunError

if TYPE_CHECKING:
    import onnx

__all__ = ["IMAGES", "exported", "serialized"]

IMAGES = "images"
"""What its input is called."""
_OPSET = 18
_MOST = 2**31


def exported(module: nn.Module, side: int, outputs: Sequence[str], *, what: str) -> onnx.ModelProto:
    """The graph of a module in evaluation mode that takes uint8 images (B, 3, S, S), of any B, and gives a tuple of
    tensors with these names.

    Raises RunError, which says `what` it is, if something in it cannot be expressed.
    """
    example = torch.zeros((2, 3, side, side), dtype=torch.uint8)
    batch = torch.export.Dim("batch", min=1)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
            warnings.simplefilter("ignore")  # torch's own, about its own code
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: batch},),
                input_names=[IMAGES],
                output_names=list(outputs),
                opset_version=_OPSET,
                external_data=False,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"{what} cannot be expressed as an ONNX graph: {reason}") from None
    assert program is not None
    graph: onnx.ModelProto = program.model_proto
    for node in graph.graph.node:  # where in which source file it comes from is nobody's business
        del node.metadata_props[:]
        node.doc_string = ""
    return graph


def serialized(graph: onnx.ModelProto) -> bytes:
    """A graph as a file. Raises RunError if it is too large for one."""
    try:
        data = graph.SerializeToString()
    except (EncodeError, ValueError):  # which of the two depends on how protobuf was built
        data = b""
    if not 0 < len(data) < _MOST:
        raise RunError("The network is too large: an ONNX graph has at most 2 GB", "Use a smaller backbone.")
    return data
