"""Graphs of fewer bits: half precision, and 8-bit integers.

Integers: static quantisation, weights by output channel, scales from training images. Weights keep to 7 bits, since
processors without VNNI add two products in 16 bits, which 8-bit weights overflow. Dynamic quantisation, which measures
nothing beforehand, destroys networks with depthwise convolutions.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

__all__ = ["Precision", "narrowed"]

Precision = Literal["fp32", "fp16", "int8"]


def narrowed(graph: onnx.ModelProto, precision: Precision, batches: Iterable[NDArray[np.uint8]]) -> onnx.ModelProto:
    """The graph in this precision; integers take their scales from `batches` of views (B, 3, S, S)."""
    if precision == "fp16":
        return _half(graph)
    return _integers(graph, batches) if precision == "int8" else graph


def _half(graph: onnx.ModelProto) -> onnx.ModelProto:
    from onnxruntime.transformers.float16 import convert_float_to_float16

    with _quiet():
        found: onnx.ModelProto = convert_float_to_float16(graph, keep_io_types=True)
    return found


def _integers(graph: onnx.ModelProto, batches: Iterable[NDArray[np.uint8]]) -> onnx.ModelProto:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> dict[str, Any] | None:
            return next(({"images": one} for one in self.left), None)

    with tempfile.TemporaryDirectory() as folder, _quiet():
        plain, prepared, found = (Path(folder) / name for name in ("plain.onnx", "prepared.onnx", "int8.onnx"))
        onnx.save_model(graph, plain)
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(found),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["Conv", "MatMul", "Gemm"],
            nodes_to_exclude=_last(graph),
        )
        quantised = onnx.load_model(found)
    del quantised.metadata_props[:]
    for entry in graph.metadata_props:
        quantised.metadata_props.add().CopyFrom(entry)
    return quantised


def _last(graph: onnx.ModelProto) -> list[str]:
    """The matrix products, which come after the backbone of a convolutional network: they are small, and their error
    is that of the answer."""
    convolutional = any(node.op_type == "Conv" for node in graph.graph.node)
    return [node.name for node in graph.graph.node if convolutional and node.op_type in ("MatMul", "Gemm")]


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the package's own advice, which it logs to the root."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
