"""Graphs that somebody wrote to do harm: a few bytes that ask for all memory, loops without end, other files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper

from fieldmark.answering.onnx import OnnxEngine, _limit_memory, opened_graph
from fieldmark.answering.predictor import Predictor
from fieldmark.core.errors import RunError
from fieldmark.core.machine import peak_memory
from fieldmark.core.recipe import Backbone, Choice, Images, Recipe
from fieldmark.data.task import Task
from fieldmark.model.build import build_model
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.exported import write_onnx
from support.models import predictor_of

CLASSES = ("amber", "jade", "plum", "rose")


def tensor(name: str, *values: float, kind: int = TensorProto.INT64) -> TensorProto:
    return helper.make_tensor(name, kind, [len(values)], values)


def number(value: int) -> TensorProto:
    return tensor("", value, kind=TensorProto.FLOAT)


def graph(*more: NodeProto, tensors: tuple[TensorProto, ...] = (), last: str = "seen") -> ModelProto:
    """A graph for `CLASSES` and views of 32 pixels, with more nodes, one of which may give what is `last` added."""
    nodes = [
        helper.make_node("Cast", ["images"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["numbers", "axes"], ["seen"], keepdims=0),
        *more,
        helper.make_node("ReduceMax", [last], ["largest"], keepdims=0),
        helper.make_node("Unsqueeze", ["seen", "one"], ["column"]),
        helper.make_node("Mul", ["column", "row"], ["embedding"]),
        helper.make_node("Add", ["embedding", "largest"], ["logits"]),
    ]
    row = tensor("row", 1, 2, 3, 4, kind=TensorProto.FLOAT)
    return helper.make_model(
        helper.make_graph(
            nodes,
            "graph",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 3, 32, 32])],
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("logits", "embedding")],
            [tensor("axes", 1, 2, 3), tensor("one", 1), row, *tensors],
        ),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=10,
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle."""
    torch.manual_seed(0)
    recipe = Recipe(
        images=Images(size=32),
        backbone=Backbone(name="test_resnet", weights="none"),
        method=Choice(name="transfer"),
    )  # fmt: skip
    where = tmp_path_factory.mktemp("graphs") / "bundle"
    predictor_of(build_model(recipe, Task(len(CLASSES))).eval(), CLASSES, recipe).save(where)
    return where


def with_graph(folder: Path, model: ModelProto) -> Predictor:
    write_onnx(Bundle.load(folder), model.SerializeToString(), precision="fp32", checked={})
    return Predictor.load(folder, engine="onnx")


MEMORY = 2**29
SHAPE = (MEMORY // 64,)  # times 32 numbers of four bytes
EXPANDING = {
    "constants": graph(
        helper.make_node("ConstantOfShape", ["shape"], ["much"]),
        last="much",
        tensors=(tensor("shape", *SHAPE, 32),),
    ),
    "constants of constants": graph(
        *(helper.make_node("ConstantOfShape", ["shape"], [f"much {n}"], value=number(n)) for n in range(32)),
        *(helper.make_node("Neg", [f"much {n}"], [f"more {n}"]) for n in range(32)),
        helper.make_node("Sum", [f"more {n}" for n in range(32)], ["all"]),
        last="all",
        tensors=(tensor("shape", *SHAPE),),
    ),
    "broadcasting": graph(
        helper.make_node("Expand", ["seen", "shape"], ["much"]),
        last="much",
        tensors=(tensor("shape", *SHAPE, 32, 1),),
    ),
    "borders": graph(
        helper.make_node("Pad", ["seen", "borders"], ["much"]),
        last="much",
        tensors=(tensor("borders", 0, SHAPE[0] * 32),),
    ),
}


@pytest.fixture
def _a_small_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    _limit_memory.cache_clear()
    monkeypatch.setattr("fieldmark.answering.onnx.memory_size", lambda: MEMORY)
    yield
    _limit_memory.cache_clear()


@pytest.mark.usefixtures("_a_small_machine")
@pytest.mark.parametrize("model", EXPANDING.values(), ids=EXPANDING)
def test_no_graph_takes_all_memory(model: ModelProto, folder: Path, pictures: Path) -> None:
    before = peak_memory()["process"]
    said = r"it asks for more than 0\.2 GB, half of the memory here\. Answer with --engine torch, or on a machine with"
    with pytest.raises(RunError, match=said):
        with_graph(folder, model).predict(pictures / "amber" / "00.png")
    assert peak_memory()["process"] - before < MEMORY
    (found,) = with_graph(folder, graph()).predict(pictures / "amber" / "00.png")
    assert found.label == "rose"


def changed(change: Callable[[ModelProto], object]) -> ModelProto:
    model = graph()
    change(model)
    return model


def sparse(name: str) -> onnx.SparseTensorProto:
    return helper.make_sparse_tensor(tensor(name, 1, kind=TensorProto.FLOAT), tensor("", 5), [2**40])


def constant(value: object, attribute: str) -> Callable[[ModelProto], object]:
    return lambda model: model.graph.node.append(helper.make_node("Constant", [], ["c"], **{attribute: value}))


def hidden(model: ModelProto) -> None:
    """A branch in an attribute that says it is a number."""
    attribute = helper.make_attribute("then_branch", graph().graph)
    attribute.type = onnx.AttributeProto.INT
    model.graph.node[0].attribute.append(attribute)


UNLIKE = {
    "sparse tensors": [
        lambda model: model.graph.sparse_initializer.append(sparse("s")),
        constant(sparse("s"), "sparse_value"),
    ],
    "loops or branches": [
        lambda model: model.graph.node.append(helper.make_node("Loop", ["", ""], ["y"], body=graph().graph)),
        hidden,
    ],
    "text": [
        lambda model: model.graph.initializer.append(helper.make_tensor("t", TensorProto.STRING, [1], [b"x"])),
        lambda model: model.graph.node.append(helper.make_node("Cast", ["seen"], ["t"], to=TensorProto.STRING)),
        constant("x", "value_string"),
        constant(["x", "y"], "value_strings"),
        constant(helper.make_tensor("t", TensorProto.STRING, [1], [b"x"]), "value"),
    ],
    "functions": [
        lambda model: model.functions.append(
            helper.make_function("", "f", [], ["y"], [helper.make_node("f", [], ["y"])], model.opset_import)
        )
    ],
    "the operator 'Unique'": [
        lambda model: model.graph.node.append(helper.make_node("Unique", ["seen"], ["u"])),
        lambda model: model.graph.node.append(helper.make_node("Unique", ["seen"], ["u"], domain="com.microsoft")),
    ],
    "the operator 'NonZero'": [lambda model: model.graph.node.append(helper.make_node("NonZero", ["seen"], ["n"]))],
    "the operator 'SplitToSequence'": [
        lambda model: model.graph.node.append(helper.make_node("SplitToSequence", ["seen"], ["s"]))
    ],
    "operators of its own": [
        lambda model: model.graph.node.append(helper.make_node("LabelEncoder", ["a"], ["b"], domain="ai.onnx.ml"))
    ],
}


@pytest.mark.parametrize(("what", "change"), [(what, one) for what, changes in UNLIKE.items() for one in changes])
def test_what_no_graph_of_ours_has_is_refused(what: str, change: Callable[[ModelProto], object]) -> None:
    with pytest.raises(RunError, match=f"^it has {what}, as no graph of Fieldmark's has"):
        opened_graph(changed(change).SerializeToString(), "it")


def test_what_goes_wrong_on_the_way_is_one_line(folder: Path) -> None:
    model = graph(helper.make_node("Reshape", ["seen", "one"], ["shaped"]), last="shaped")  # for one picture only
    engine = OnnxEngine(model.SerializeToString(), Bundle.load(folder))
    assert engine(np.zeros((1, 3, 32, 32), np.uint8)).logits.shape == (1, 4)
    with pytest.raises(RunError, match=r"^model\.onnx does not answer: ") as refused:
        engine(np.zeros((2, 3, 32, 32), np.uint8))
    assert "\n" not in str(refused.value)
