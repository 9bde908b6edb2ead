"""`fieldmark export --to triton`: a model repository whose configuration parses, and says what the graph gives."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format

from fieldmark.answering.onnx import opened_graph
from fieldmark.answering.predictor import Predictor
from fieldmark.commands import export as command
from fieldmark.commands.export import export
from fieldmark.exporting.triton import repository
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run
from fieldmark.serving.tensors import described, tensors_of

STRING, INT64, INT32, ENUM, MESSAGE = (
    getattr(descriptor_pb2.FieldDescriptorProto, f"TYPE_{name}")
    for name in ("STRING", "INT64", "INT32", "ENUM", "MESSAGE")
)


def configuration() -> Any:
    """The messages of Triton's model_config.proto, as far as they are used here."""
    file = descriptor_pb2.FileDescriptorProto(name="model_config.proto", package="inference", syntax="proto3")
    kinds = file.enum_type.add(name="DataType")
    for number, name in enumerate(("TYPE_INVALID", "TYPE_BOOL", "TYPE_UINT8", "TYPE_FP32")):
        kinds.value.add(name=name, number=number)

    def message(kind_of: str, /, **fields: tuple[int, str, bool]) -> None:
        found = file.message_type.add(name=kind_of)
        for number, (field, (kind, of, repeated)) in enumerate(fields.items(), 1):
            label = 3 if repeated else 1
            found.field.add(
                name=field, number=number, label=label, type=kind, type_name=f".inference.{of}" if of else None
            )

    message("Shape", shape=(INT64, "", True))
    message("Wait", max_queue_delay_microseconds=(INT64, "", False))
    tensor = {"name": (STRING, "", False), "data_type": (ENUM, "DataType", False), "dims": (INT64, "", True)}
    message("Tensor", **tensor, reshape=(MESSAGE, "Shape", False), label_filename=(STRING, "", False))
    message(
        "ModelConfig",
        name=(STRING, "", False),
        platform=(STRING, "", False),
        max_batch_size=(INT32, "", False),
        input=(MESSAGE, "Tensor", True),
        output=(MESSAGE, "Tensor", True),
        dynamic_batching=(MESSAGE, "Wait", False),
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("inference.ModelConfig"))()


@pytest.fixture(scope="module")
def graph(_trained: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    out = tmp_path_factory.mktemp("graph") / "model.onnx"
    export(_trained, out=out)
    return out.read_bytes()


def test_the_configuration_says_what_the_graph_gives(trained: Run, graph: bytes) -> None:
    files = repository(Bundle.load(trained.folder), graph, 'my "birds"/2')
    assert set(files) == {f"my_birds_2/{name}" for name in ("config.pbtxt", "labels.txt", "rules.json", "1/model.onnx")}
    found = text_format.Parse(files["my_birds_2/config.pbtxt"].decode(), configuration())
    assert (found.name, found.platform) == ("my_birds_2", "onnxruntime_onnx")
    assert [(one.name, list(one.dims)) for one in found.input] == [("images", [3, 32, 32])]
    session = opened_graph(graph, "it")
    answers = session.run(None, {"images": np.zeros((2, 3, 32, 32), np.uint8)})
    assert len(found.output) == len(answers) == 4
    for told, answer in zip(found.output, answers, strict=True):
        shape = list(told.reshape.shape) if told.HasField("reshape") else list(told.dims)
        assert list(answer.shape[1:]) == shape, told.name
    assert files["my_birds_2/labels.txt"].decode().split("\n") == ["amber", "jade", "plum", ""]
    assert json.loads(files["my_birds_2/rules.json"])["classes"] == ["amber", "jade", "plum"]


def test_a_service_gives_the_same_tensors(trained: Run, graph: bytes) -> None:
    """The open inference protocol of `fieldmark serve`: a client may go from one to the other."""
    bundle = Bundle.load(trained.folder)
    config = text_format.Parse(repository(bundle, graph, "birds")["birds/config.pbtxt"].decode(), configuration())
    views = np.random.default_rng(0).integers(0, 256, (3, 3, 32, 32), dtype=np.uint8)
    session = opened_graph(graph, "it")
    answers = dict(zip([one.name for one in config.output], session.run(None, {"images": views}), strict=True))
    found = tensors_of(bundle, Predictor.load(bundle.folder, device="cpu").engine(views))
    assert [one["shape"][1:] for one in described(found)] == [list(one.dims) for one in config.output]
    assert list(found) == list(answers)
    for name, values in answers.items():
        np.testing.assert_allclose(found[name], values.reshape(3, -1), atol=1e-4, err_msg=name)


def test_it_is_written(trained: Run, graph: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "read_onnx", lambda bundle: graph)
    found = export(trained.folder, "triton")
    assert found.path == trained.folder / "exports" / "triton"
    assert (found.path / "trained" / "1" / "model.onnx").read_bytes() == graph
