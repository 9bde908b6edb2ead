"""`OnnxEngine`: batches of views in, outputs out, by ONNX Runtime on the processor; without torch.

A graph may come from anybody. It is a fixed sequence of a network's operators on dense numbers, or it is refused: a
loop need not end, and text, a sparse tensor or a set of numbers may fill any memory. What is left allocates from one
arena, which has a limit. How long it computes has none.

Shapes: B images of S × S pixels.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import TYPE_CHECKING, Any, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.pieces import Pieces
from fieldmark.core.errors import RunError
from fieldmark.core.machine import memory_size, num_threads
from fieldmark.core.memory import lacks_memory
from fieldmark.core.wording import brief
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.engines import Entry
from fieldmark.runs.exported import ONNX, read_onnx

if TYPE_CHECKING:
    import onnx
    import onnxruntime

__all__ = [
    "INSTALL",
    "NoGraph",
    "OnnxEngine",
    "attribute_output",
    "can_make_graphs",
    "has_onnx",
    "kept_engine",
    "onnx_engine",
    "opened_graph",
]

INSTALL = "Install it with: pip install 'fieldmark[onnx]'."
_AGAIN = "Export the run again."
_ANOTHER = "Export the run again, or answer with --engine torch."
_OPERATORS = frozenset(
    """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast CastLike
    Ceil Celu Clip Cos Cosh Div Dropout Elu Equal Erf Exp Floor Gelu Greater GreaterOrEqual HardSigmoid HardSwish
    Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log LogSoftmax Max Mean Min Mish Mod Mul Neg Not Or Pow PRelu
    Reciprocal Relu Round Selu Sigmoid Sign Sin Sinh Softmax Softplus Softsign Sqrt Sub Sum Swish Tan Tanh
    ThresholdedRelu Where Xor
    Concat Constant ConstantOfShape DepthToSpace Expand EyeLike Flatten Gather GatherElements GatherND Pad Range
    Reshape ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze
    ArgMax ArgMin CumSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd
    ReduceSum ReduceSumSquare TopK
    Attention AveragePool BatchNormalization Col2Im Conv ConvTranspose Einsum Gemm GlobalAveragePool GlobalMaxPool
    GridSample GroupNormalization GRU InstanceNormalization LayerNormalization LpNormalization LRN LSTM MatMul
    MaxPool Resize RMSNormalization
    DequantizeLinear QuantizeLinear
    """.split()  # noqa: SIM905  (as a person would list them)
)
"""What torch makes graphs of networks of, at any precision: operators on each number, on shapes and over axes, layers,
and those of integers. Sets, sequences, indices of what is found and random numbers are not among them: they take memory
outside the arena."""
_LARGE = "Answer with --engine torch, or on a machine with more memory."


class NoGraph(RunError):
    """A bundle has no graph for its classes."""


def has_onnx() -> bool:
    """Whether ONNX Runtime is installed, and what reads a graph before it does."""
    return all(importlib.util.find_spec(name) is not None for name in ("onnxruntime", "onnx"))


def can_make_graphs() -> bool:
    """Whether what makes graphs is installed, too."""
    return has_onnx() and importlib.util.find_spec("onnxscript") is not None


def attribute_output(name: str) -> str:
    """What the logits of an attribute are called in a graph."""
    return f"attribute {name}"


def opened_graph(data: bytes, what: str) -> onnxruntime.InferenceSession:
    """A graph, ready to compute. Raises RunError for what is none, or no fixed sequence of operators on numbers."""
    import onnx
    import onnxruntime

    try:
        graph = onnx.load_model_from_string(data)
    except Exception as error:  # of protobuf, whose classes differ by how it was built
        raise _refused(f"{what} cannot be used by ONNX Runtime", error) from None
    if unlike := _unlike_ours(graph):
        raise RunError(f"{what} has {unlike}, as no graph of Fieldmark's has", _ANOTHER)
    del graph
    _limit_memory()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads()
    options.log_severity_level = 4  # what goes wrong is raised
    # a batch is as long as there are pictures: memory kept for the last one is of no use, and grows with each new size
    options.enable_mem_pattern = False
    # threads that wait leave the cores to those that decode the next pictures
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.use_env_allocators", "1")
    unlimited = ["ConstantFolding"]  # it computes as it loads, with memory of its own; the exporter has folded
    try:
        return onnxruntime.InferenceSession(
            data, options, providers=["CPUExecutionProvider"], disabled_optimizers=unlimited
        )
    except Exception as error:  # it has a class for each of its statuses, and no common one
        raise _refused(f"{what} cannot be used by ONNX Runtime", error) from None


def _unlike_ours(model: onnx.ModelProto) -> str:
    """What a graph has that could run for ever, fill the memory with a few bytes, or read other files; "" if none."""
    from onnx import TensorProto

    nodes, text = model.graph.node, TensorProto.STRING
    attributes = [one for node in nodes for one in node.attribute]
    tensors = [
        *model.graph.initializer,
        *(one.t for one in attributes),
        *(t for one in attributes for t in one.tensors),
    ]
    unknown = next((node.op_type for node in nodes if node.op_type not in _OPERATORS), "")
    sparse = [*model.graph.sparse_initializer, *(s for one in attributes for s in one.sparse_tensors)]
    found = {
        "tensors in other files": any(one.data_location or one.external_data for one in tensors),
        "sparse tensors": sparse or any(one.HasField("sparse_tensor") for one in attributes),
        "loops or branches": any(one.HasField("g") or one.graphs for one in attributes),
        "functions": model.functions,
        "operators of its own": {node.domain for node in nodes} - {"", "ai.onnx", "com.microsoft"},
        "text": any(one.data_type == text for one in tensors)
        or any(one.strings or one.name == "value_string" or (one.name == "to" and one.i == text) for one in attributes),
        f"the operator {brief(unknown)}": unknown,
    }
    return next((what for what, there in found.items() if there), "")


@cache
def _limit_memory() -> int:
    """Let all graphs of this process together have half of the memory; return how many bytes that is."""
    import onnxruntime as ort

    most = memory_size() // 2
    cpu = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    ort.create_and_register_allocator(cpu, ort.OrtArenaCfg({"max_mem": most}))
    return most


def _refused(what: str, error: Exception) -> RunError:
    """What went wrong in ONNX Runtime, in a line."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "Available memory of" in reason or "Failed to allocate memory" in reason:
        most = f"{_limit_memory() / 2**30:.1f} GB, half of the memory here"
        return RunError(f"{what}: it asks for more than {most}", _LARGE)
    return RunError(f"{what}: {reason.rpartition('Status Message: ')[2][:200]}", _AGAIN)


@final
class OnnxEngine:
    """Answers images (B, 3, S, S) of 8 bits.

    Raises RunError for answers that are not numbers.
    """

    def __init__(self, data: bytes, bundle: Bundle) -> None:
        """A graph that was made of a bundle. Raises RunError if it is none of this bundle's."""
        self.session = opened_graph(data, f"{bundle.folder}/{ONNX}")
        self._pieces = Pieces(self._answer, joined)
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
            raise RunError(f"{bundle.folder}/{ONNX} does not belong to this bundle", _AGAIN)

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        return self._pieces(images)

    def _answer(self, images: NDArray[np.uint8]) -> Outputs:
        logits, embedding, *attributes = self.run(images, ["logits", "embedding", *self._attributes])
        return Outputs(logits, embedding, tuple(attributes))

    def run(self, images: NDArray[np.uint8], wanted: list[str]) -> list[NDArray[Any]]:
        """Some outputs of the graph. Where memory does not suffice for several images, it is for the caller to try
        fewer; for one, RunError says so."""
        try:
            found: list[NDArray[Any]] = self.session.run(wanted, {"images": np.ascontiguousarray(images)})
        except Exception as error:  # as above
            if len(images) > 1 and lacks_memory(error):
                raise
            raise _refused(f"{ONNX} does not answer", error) from None
        if not all(np.isfinite(one).all() for one in found):
            raise RunError(f"{ONNX} answers with NaN or infinite values instead of numbers", _AGAIN)
        return found


def onnx_engine(bundle: Bundle, *, required: bool = False) -> OnnxEngine | None:
    """What answers for a bundle without torch: its own graph, or else the one that won when engines were tried here.

    None if there is neither, or ONNX Runtime is not installed. If it is `required`, a graph that did not win will do,
    and these raise NoGraph and RunError. Raises RunError for a graph of the bundle's that is damaged.
    """
    if not has_onnx():
        if required:
            raise RunError("ONNX Runtime is not installed", INSTALL)
        return None
    if (data := read_onnx(bundle)) is not None:
        return OnnxEngine(data, bundle)
    if (kept := kept_engine(bundle, even_slower=required)) is None and required:
        raise NoGraph(f"{bundle.folder} has no {ONNX} for its classes", "Make one with: fieldmark export RUN.")
    return kept


def kept_engine(bundle: Bundle, *, even_slower: bool = False) -> OnnxEngine | None:
    """What answers by the graph that was made when engines were tried on this machine (`fieldmark.exporting.fastest`).

    None if there is none that is faster than PyTorch, or none at all if it may be `even_slower`.
    """
    if not has_onnx() or (entry := Entry.of(bundle)) is None or (choice := entry.read()) is None:
        return None
    if choice["engine"] == "torch" and not even_slower:
        return None
    if (graph := entry.graph(choice)) is None:
        return None
    try:
        return OnnxEngine(graph, bundle)
    except RunError:  # nobody asked for it: PyTorch answers
        return None
