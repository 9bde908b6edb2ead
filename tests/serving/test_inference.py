"""The open inference protocol: the tensors of an exported graph, in JSON and in binary, in the queue of everybody."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Thing
from fieldmark.runs.bundle import Bundle
from fieldmark.serving.limits import Limits
from fieldmark.serving.refusal import Refusal
from fieldmark.serving.tensors import body_of, described, read_request, tensors_of
from support.services import Reply, Visitor, served

SIDE = 32
INFER = "/v2/models/birds/infer"
OUTPUTS = ("logits", "embedding")


@pytest.fixture(scope="module")
def views(birds: Path, pictures: Path) -> NDArray[np.uint8]:
    """(6, 3, S, S) some pictures, cut."""
    predictor = Predictor.load(birds, device="cpu")
    return np.stack([predictor.see(Thing(str(file), file)).view for file in sorted(pictures.rglob("*.png"))[::4][:6]])


def asking(views: NDArray[np.uint8], **more: Any) -> dict[str, Any]:
    """A request in JSON."""
    one = {"name": "images", "shape": list(views.shape), "datatype": "UINT8", "data": views.ravel().tolist()}
    return {"inputs": [one], **more}


def binary(views: NDArray[np.uint8], **more: Any) -> tuple[bytes, int]:
    """A request in binary, and the bytes of its JSON object."""
    size = {"binary_data_size": views.size}
    one = {"name": "images", "shape": list(views.shape), "datatype": "UINT8", "parameters": size}
    text = json.dumps({"inputs": [one], **more}).encode()
    return text + views.tobytes(), len(text)


def tensors(reply: Reply) -> dict[str, NDArray[Any]]:
    """The outputs of an answer in JSON."""
    assert reply.status == 200, reply.body
    return {one["name"]: np.array(one["data"], "f4").reshape(one["shape"]) for one in reply.json["outputs"]}


def complaint(reply: Reply) -> str:
    """The line of a refusal, in the shape that the protocol has for it."""
    assert set(reply.json) == {"error"}
    return str(reply.json["error"])


def test_what_a_server_says_of_itself(visitor: Visitor, birds: Path) -> None:
    assert visitor.ask("/v2").json["extensions"] == ["binary_tensor_data"]
    assert visitor.ask("/v2/health/live").json == {"live": True}
    assert visitor.ask("/v2/health/ready").json == {"ready": True}
    assert visitor.ask("/v2/models/birds/ready").json == {"ready": True}
    model = visitor.ask("/v2/models/birds").json
    assert model == visitor.ask("/v2/models/birds/versions/1").json
    assert model["inputs"] == [{"name": "images", "datatype": "UINT8", "shape": [-1, 3, SIDE, SIDE]}]
    assert complaint(visitor.ask("/v2/models/bird")) == "There is no model 'bird' of version '1'. There is 'birds'."
    for path in ("/v2/models/birds/versions/2", "/v2/models/b/ready", "/v2/models", "/v2/models/birds/config"):
        assert visitor.ask(path).status == 404
        assert complaint(visitor.ask(path))


def test_outputs_are_those_of_the_network(visitor: Visitor, birds: Path, views: NDArray[np.uint8]) -> None:
    predictor = Predictor.load(birds, device="cpu")
    expected = tensors_of(predictor.bundle, predictor.engine(views))
    found = tensors(visitor.ask(INFER, json.dumps(asking(views))))
    assert list(found) == list(expected) == ["logits", "embedding", "log_probabilities", "familiarity"]
    for name, values in expected.items():
        np.testing.assert_allclose(found[name], values, atol=1e-4, err_msg=name)
    told = visitor.ask("/v2/models/birds").json["outputs"]
    assert [(one["name"], one["datatype"], one["shape"]) for one in told] == [
        (name, "FP32", [-1, *values.shape[1:]]) for name, values in expected.items()
    ]


def test_numbers_in_binary_and_in_json_are_the_same(visitor: Visitor, views: NDArray[np.uint8]) -> None:
    expected = tensors(visitor.ask(INFER, json.dumps(asking(views)), content_type="application/json"))
    wanted = [{"name": "logits", "parameters": {"binary_data": True}}, {"name": "familiarity"}]
    body, length = binary(views, outputs=wanted, id="mine")
    reply = visitor.ask(INFER, body, Inference_Header_Content_Length=str(length))
    at = int(reply.headers["inference-header-content-length"])
    told = json.loads(reply.body[:at])
    assert (told["model_name"], told["model_version"], told["id"]) == ("birds", "1", "mine")
    assert [one["name"] for one in told["outputs"]] == ["logits", "familiarity"]
    logits, familiarity = told["outputs"]
    assert logits["parameters"]["binary_data_size"] == len(reply.body) - at
    found = np.frombuffer(reply.body[at:], "<f4").reshape(logits["shape"])
    np.testing.assert_allclose(found, expected["logits"], atol=1e-4)
    np.testing.assert_allclose(familiarity["data"], expected["familiarity"].ravel(), atol=1e-4)
    everything, length = binary(views, parameters={"binary_data_output": True})
    reply = visitor.ask(INFER, everything, Inference_Header_Content_Length=str(length))
    at = int(reply.headers["inference-header-content-length"])
    assert len(reply.body) - at == sum(4 * values.size for values in expected.values())


def test_nested_numbers_are_taken_row_by_row(views: NDArray[np.uint8]) -> None:
    request = asking(views)
    request["inputs"][0]["data"] = views.tolist()
    asked = read_request(json.dumps(request).encode(), None, side=SIDE, most=8, known=OUTPUTS)
    np.testing.assert_array_equal(asked.views, views)
    assert asked.views.dtype == np.uint8


ONE = np.zeros((1, 3, SIDE, SIDE), np.uint8)


def changed(**keys: Any) -> bytes:
    request = asking(ONE)
    request["inputs"][0].update(keys)
    return json.dumps(request).encode()


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "it is not JSON"),
        (b"[]", 400, "cannot be read"),
        (b"[" * 100_000, 400, "nested too deeply"),
        (b'{"inputs": []}', 400, "should be 'images' alone"),
        (changed(name="pixels"), 400, "should be 'images' alone"),
        (changed(datatype="FP32"), 400, "should be UINT8 of shape [B, 3, 32, 32]"),
        (changed(shape=[1, 32, 32, 3]), 400, "should be UINT8 of shape [B, 3, 32, 32]"),
        (changed(shape=[0, 3, SIDE, SIDE]), 400, "should be UINT8 of shape"),
        (changed(shape=[-1, 3, SIDE, SIDE]), 400, "should be UINT8 of shape"),
        (changed(shape=[2, 3, SIDE, SIDE]), 400, "has 3,072 numbers, and its shape says 6,144"),
        (changed(shape=[10**12, 3, SIDE, SIDE]), 413, "too many for one request. Send at most 32"),
        (changed(data=[0.5] * 3072), 400, "not whole numbers from 0 to 255"),
        (changed(data=[256] * 3072), 400, "not whole numbers from 0 to 255"),
        (changed(data=[10**30] * 3072), 400, "not whole numbers from 0 to 255"),
        (changed(data=["1"] * 3072), 400, "not whole numbers from 0 to 255"),
        (changed(data=[True] * 3072), 400, "not whole numbers from 0 to 255"),
        (changed(data=[[1], [1, 2]]), 400, "nested otherwise than its shape says"),
        (changed(data=[[0] * 1024] * 3), 400, "nested otherwise than its shape says"),
        (changed(data=[[[0] * 1024] * 3]), 400, "nested otherwise than its shape says"),
        (changed(data=[0] * 3071 + [[0]]), 400, "not whole numbers from 0 to 255"),
        (changed(data=[0] * 3071 + [None]), 400, "not whole numbers from 0 to 255"),
        (changed(data=[-1] * 3072), 400, "not whole numbers from 0 to 255"),
        (changed(shape=[1] * 101), 400, "should have at most 100 items"),
        (changed(data=[]), 400, "has 0 numbers"),
        (changed(parameters={"binary_data_size": 3072}), 400, "both in JSON and in binary"),
        (changed(parameters={"shared_memory_region": "x"}), 400, "is not supported"),
        (json.dumps(asking(ONE, outputs=[{"name": "verdict"}])).encode(), 400, "There is no output 'verdict'"),
        (
            json.dumps(asking(ONE, outputs=[{"name": "logits", "parameters": {"classification": 3}}])).encode(),
            400,
            "'classification' of 'logits' is not supported",
        ),
    ],
)
def test_what_is_no_request(visitor: Visitor, body: bytes, status: int, said: str) -> None:
    reply = visitor.ask(INFER, body)
    assert (reply.status, said in complaint(reply)) == (status, True), reply.body
    assert visitor.ask("/v2/health/live").status == 200


@pytest.mark.parametrize(
    "body",
    [
        changed(data=["x" * 5000] + [""] * 30_000),
        changed(shape=[""] * 30_000),
        json.dumps({"inputs": [1] * 30_000}).encode(),
        json.dumps(asking(ONE, outputs=[{}] * 30_000)).encode(),
    ],
    ids=["one long text", "shape", "inputs", "outputs"],
)
def test_what_is_no_request_takes_little_memory(body: bytes) -> None:
    tracemalloc.start()
    with pytest.raises(Refusal) as refused:
        read_request(body, None, side=SIDE, most=8, known=OUTPUTS)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.value.status == 400
    assert len(refused.value.problem) < 300
    assert most < 100 * len(body)


def test_a_request_that_no_memory_holds_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("fieldmark.serving.tensors.parse_json", full)
    with pytest.raises(Refusal, match="more memory than there is") as refused:
        read_request(b"{}", None, side=SIDE, most=8, known=OUTPUTS)
    assert refused.value.status == 400


@pytest.mark.parametrize("length", ["0", "-1", "9999999", "x", "1" * 5000])
def test_lengths_that_lie(visitor: Visitor, length: str) -> None:
    body, _ = binary(ONE)
    reply = visitor.ask(INFER, body, Inference_Header_Content_Length=length)
    assert reply.status == 400
    assert "Inference-Header-Content-Length" in complaint(reply)


@given(st.data())
def test_bytes_that_are_cut_or_added_are_refused(data: st.DataObject) -> None:
    body, length = binary(ONE)
    size = data.draw(st.integers(length, len(body) + 50).filter(lambda size: size != len(body)))
    with pytest.raises(Refusal, match="bytes follow the JSON object"):
        read_request(body.ljust(size, b"\0")[:size], length, side=SIDE, most=8, known=OUTPUTS)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.booleans())
def test_what_is_written_can_be_read(seed: int, count: int, in_binary: bool) -> None:
    views = np.random.default_rng(seed).integers(0, 256, (count, 3, 4, 4), dtype=np.uint8)
    body, length = binary(views) if in_binary else (json.dumps(asking(views)).encode(), None)
    asked = read_request(body, length, side=4, most=8, known=OUTPUTS)
    np.testing.assert_array_equal(asked.views, views)
    answers = {"logits": asked.views.reshape(count, -1).astype(np.float32) / 3}
    answer, at = body_of(asked, "m", "1", answers)
    assert at is None
    np.testing.assert_array_equal(np.float32(json.loads(answer)["outputs"][0]["data"]), answers["logits"].ravel())


def test_an_object_that_is_too_large_is_not_read(visitor: Visitor) -> None:
    with pytest.raises(Refusal, match="larger than 8 MB") as refused:
        read_request(b" " * (8 * 2**20 + 1), None, side=SIDE, most=8, known=OUTPUTS)
    assert refused.value.status == 413
    reply = visitor.ask(INFER, b"x" * (2**20 + 1))  # of the service's own limit
    assert (reply.status, complaint(reply)) == (413, "The request is larger than 1 MB. Make it smaller.")
    assert visitor.ask(INFER, b"{}", content_type="image/png").status == 415
    assert visitor.ask(INFER, b"").status == 400


def test_all_pictures_of_a_request_wait_or_none(birds: Path, views: NDArray[np.uint8]) -> None:
    """A request that does not fit into the queue is refused as a photograph is, and leaves no part of it behind."""
    predictor = Predictor.load(birds, device="cpu")
    gate, engine, body = threading.Event(), predictor.engine, json.dumps(asking(views[:2]))
    gate.set()

    def slow(images: NDArray[np.uint8]) -> Any:
        gate.wait(20)
        return engine(images)

    with served(Predictor(predictor.bundle, engine=slow), limits=Limits(most_waiting=3, seconds=20)) as visitor:
        too_many = visitor.ask(INFER, json.dumps(asking(views[:4])))
        assert (too_many.status, complaint(too_many)) == (
            413,
            "4 pictures are too many for one request. Send at most 3.",
        )
        gate.clear()
        replies: list[Reply] = []
        first = threading.Thread(target=lambda: replies.append(visitor.ask(INFER, body)))
        first.start()
        while visitor.service.batcher.waiting < 2:
            first.join(0.01)
        refused = visitor.ask(INFER, body)
        assert (refused.status, complaint(refused)[:29]) == (429, "Too many pictures are waiting")
        assert int(refused.headers["retry-after"]) >= 1
        assert visitor.service.batcher.waiting == 2
        gate.set()
        first.join(20)
        assert replies[0].status == 200


def test_a_request_has_a_deadline(birds: Path, views: NDArray[np.uint8]) -> None:
    predictor = Predictor.load(birds, device="cpu")
    gate, engine = threading.Event(), predictor.engine
    gate.set()

    def stuck(images: NDArray[np.uint8]) -> Any:
        gate.wait(20)
        return engine(images)

    with served(Predictor(predictor.bundle, engine=stuck), limits=Limits(seconds=0.3)) as visitor:
        gate.clear()
        reply = visitor.ask(INFER, json.dumps(asking(views)))
        gate.set()
        assert (reply.status, complaint(reply)[:22]) == (503, "There was no time left")


def test_reading_has_a_deadline_too(birds: Path, views: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> None:
    """And only so much is read at a time, whoever has given up waiting for it."""
    gate, begun = threading.Event(), list[bytes]()

    def slow(body: bytes, *given: Any, **more: Any) -> Any:
        begun.append(body)
        gate.wait(20)
        return read_request(body, *given, **more)

    monkeypatch.setattr("fieldmark.serving.inference.read_request", slow)
    body = json.dumps(asking(views))
    with served(birds, limits=Limits(seconds=0.5)) as visitor, ThreadPoolExecutor(5) as many:
        for reply in many.map(lambda _: visitor.ask(INFER, body), range(5)):
            assert (reply.status, complaint(reply)[:22]) == (503, "There was no time left")
        assert len(begun) == 2
        gate.set()
    assert len(begun) == 2


def test_nothing_of_a_request_keeps_others_waiting(
    birds: Path, views: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What computes is done in threads beside the loop in which all requests are answered."""
    in_loop = []

    def seen(*given: Any) -> Any:
        with suppress(RuntimeError):  # there is no loop in this thread, as it should be
            in_loop.append(asyncio.get_running_loop())
        return tensors_of(*given)

    monkeypatch.setattr("fieldmark.serving.inference.tensors_of", seen)
    with served(birds) as visitor:
        assert visitor.ask(INFER, json.dumps(asking(views))).status == 200
    assert not in_loop


def test_an_output_that_there_is_not_is_refused_before_anything_is_computed() -> None:
    body = json.dumps(asking(ONE, outputs=[{"name": "verdict"}])).encode()
    with pytest.raises(Refusal, match=r"There is no output 'verdict'; there are logits, embedding"):
        read_request(body, None, side=SIDE, most=8, known=OUTPUTS)


def test_a_token_protects_models_and_not_health(birds: Path) -> None:
    with served(birds, token="a-long-enough-token") as visitor:
        assert visitor.ask("/v2/health/ready").status == 200
        assert visitor.ask("/v2/health/live").status == 200
        for path in ("/v2", "/v2/models/birds", "/v2/models/birds/ready"):
            assert complaint(visitor.ask(path)).startswith("The token is missing")
        assert visitor.ask(INFER, b"{}").status == 401
        assert visitor.ask("/v2/models/birds", authorization="Bearer a-long-enough-token").status == 200


def test_tensors_of_a_bundle_that_is_not_calibrated(birds: Path) -> None:
    from dataclasses import replace

    bundle = Bundle.load(birds)
    outputs = Predictor.load(birds, device="cpu").engine(np.concatenate([ONE, ONE]))
    plain = tensors_of(replace(bundle, calibration=None), outputs)
    assert "familiarity" not in plain
    np.testing.assert_allclose(np.exp(plain["log_probabilities"]).sum(1), 1, atol=1e-5)
    assert [one["shape"][0] for one in described(plain)] == [-1] * len(plain)


# ---- a client of other people


_CLIENT = """
import sys
import numpy as np
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

address, name, views = sys.argv[1], sys.argv[2], np.load(sys.argv[3])
client = InferenceServerClient(address)
assert client.is_server_live() and client.is_server_ready() and client.is_model_ready(name)
assert client.get_server_metadata()["extensions"] == ["binary_tensor_data"]
about = client.get_model_metadata(name)
given = InferInput(about["inputs"][0]["name"], list(views.shape), about["inputs"][0]["datatype"])
found = {}
for binary in (True, False):
    given.set_data_from_numpy(views, binary_data=binary)
    asked = [InferRequestedOutput(one["name"], binary_data=binary) for one in about["outputs"]]
    found[binary] = client.infer(name, [given], outputs=asked, request_id="7")
given.set_data_from_numpy(views)
found[None] = client.infer(name, [given])  # whatever it does by itself
for one in about["outputs"]:
    several = [answer.as_numpy(one["name"]) for answer in found.values()]
    assert all(values.shape == (len(views), *one["shape"][1:]) for values in several)
    assert all(np.allclose(values, several[0], atol=1e-4) for values in several)
assert found[True].get_response()["id"] == "7"
assert not client.is_model_ready("other")
try:
    client.infer("other", [given])
except InferenceServerException as error:
    assert error.status() == "404" and "There is no model" in error.message()
else:
    raise SystemExit("a model that is absent answered")
np.save(sys.argv[4], found[None].as_numpy("logits"))
"""


@pytest.mark.slow
def test_with_tritons_own_client(visitor: Visitor, birds: Path, views: NDArray[np.uint8], tmp_path: Path) -> None:
    """FIELDMARK_TRITON names a Python with tritonclient[http], which does not go with all that tests need."""
    python = os.environ.get("FIELDMARK_TRITON")
    if not python:
        pytest.skip("FIELDMARK_TRITON names no Python with tritonclient[http]")
    np.save(tmp_path / "views.npy", views)
    command = [python, "-c", _CLIENT, f"127.0.0.1:{visitor.port}", "birds", tmp_path / "views.npy", tmp_path / "z.npy"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = Predictor.load(birds, device="cpu").engine(views).logits
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), expected, atol=1e-4)
