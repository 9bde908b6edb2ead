"""Requests and answers of the open inference protocol, version 2, and what stands in them.

A body is a JSON object: {"inputs": [{"name": "images", "shape": [1, 3, S, S], "datatype": "UINT8", "data": […]}]}. With
the binary extension, the numbers of a tensor follow behind the object, in order, little-endian and without gaps; the
tensor then has "parameters": {"binary_data_size": …}, and a header of the request says where the object ends.

Tensors have the names and shapes of `fieldmark export --to triton`. There, a single number for each picture has a side
of its own: (B, 1).

Shapes: B pictures of S × S pixels, K classes, D embedding, V values of an attribute.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Annotated, Any, NotRequired, final

import numpy as np
from annotated_types import Len
from numpy.typing import NDArray
from typing_extensions import TypedDict

from fieldmark.answering.onnx import attribute_output
from fieldmark.answering.verdicts import evidence_of
from fieldmark.core.reading import parse_json
from fieldmark.core.storage import as_json
from fieldmark.evaluation.outputs import Outputs
from fieldmark.runs.bundle import Bundle
from fieldmark.serving.refusal import Refusal, too_many

__all__ = ["INPUT", "Asked", "Tensor", "Tensors", "body_of", "described", "read_request", "tensors_of"]

Tensors = dict[str, NDArray[np.float32]]

INPUT = "images"
_JSON = 8 * 2**20
"""Bytes of the JSON object: the numbers in it take a hundred times as long to read as binary ones."""
_FEW = Len(0, 100)
"""Of tensors, and of the sides of one: what is wrong with each is told in some hundred bytes, millions of times."""
_DATATYPES = {"uint8": "UINT8", "float32": "FP32"}
_UNKNOWN = ("classification", "shared_memory_region")
"""Parameters of a tensor that change what it means, and are not understood."""


class Tensor(TypedDict):
    """What a tensor is like."""

    name: str
    datatype: str
    shape: Annotated[list[int], _FEW]
    """-1 for the number of pictures, which may be any."""


class _Output(TypedDict):
    name: str
    parameters: NotRequired[dict[str, Any]]


class _Input(Tensor):
    parameters: NotRequired[dict[str, Any]]
    data: NotRequired[list[Any]]


class _Request(TypedDict):
    id: NotRequired[str]
    parameters: NotRequired[dict[str, Any]]
    inputs: Annotated[list[_Input], _FEW]
    outputs: NotRequired[Annotated[list[_Output], _FEW]]


@final
@dataclass(frozen=True, eq=False)
class Asked:
    """What a request asks for."""

    views: NDArray[np.uint8]
    """(B, 3, S, S)."""
    outputs: Mapping[str, bool]
    """The names of the outputs that are wanted, and whether in binary; empty for all of them."""
    binary: bool = False
    """Whether outputs that are not named come in binary."""
    id: str = ""


def tensors_of(bundle: Bundle, outputs: Outputs) -> Tensors:
    """All that a picture's verdict is made of, for B pictures, by name."""
    known = evidence_of(bundle, outputs)
    log_probabilities = bundle.log_probabilities(known.logits)
    found = {"logits": outputs.logits, "embedding": outputs.embedding}
    found |= {attribute_output(name): z for name, z in zip(bundle.attributes, outputs.attributes, strict=True)}
    found["log_probabilities"] = log_probabilities.astype(np.float32)
    if calibration := bundle.calibration:
        score = calibration.familiarity.score(np.exp(log_probabilities.max(axis=1)), known.near)
        found["familiarity"] = score[:, None].astype(np.float32)
    return found


def described(tensors: Mapping[str, NDArray[Any]]) -> list[Tensor]:
    """What tensors are like, for any number of pictures."""
    return [
        Tensor(name=name, datatype=_DATATYPES[values.dtype.name], shape=[-1, *values.shape[1:]])
        for name, values in tensors.items()
    ]


# ---- requests


def read_request(body: bytes, json_bytes: int | None, *, side: int, most: int, known: Sequence[str]) -> Asked:
    """What a body asks for, whose JSON object has so many bytes; None for all of it. At most so many pictures, and of
    these outputs.

    Raises Refusal: 413 for too many of anything, 400 for whatever else is wrong.
    """
    if json_bytes is not None and not 0 < json_bytes <= len(body):
        raise _wrong(f"Inference-Header-Content-Length is {json_bytes:,}, and the body has {len(body):,} bytes")
    text, rest = body[:json_bytes], memoryview(body)[len(body) if json_bytes is None else json_bytes :]
    if len(text) > _JSON:
        raise Refusal(
            413,
            f"The JSON object is larger than {_JSON / 2**20:g} MB",
            "Send the numbers in binary, which is also faster, or fewer pictures.",
        )
    try:
        request = parse_json(text, _Request)
    except ValueError as error:
        raise _wrong(f"The body cannot be read: {error}") from None
    except MemoryError:
        raise _wrong("The body cannot be read: it takes more memory than there is") from None
    if len(request["inputs"]) != 1 or request["inputs"][0]["name"] != INPUT:
        names = [one["name"][:60] for one in request["inputs"]]
        raise _wrong(f"The inputs are {names[:5]}, and should be {INPUT!r} alone")
    wanted = request.get("outputs", [])
    if unknown := [one["name"] for one in wanted if one["name"] not in known]:
        raise _wrong(f"There is no output {unknown[0][:60]!r}; there are {', '.join(known)}")
    for one in (*request["inputs"], *wanted):
        if given := [name for name in _UNKNOWN if name in one.get("parameters", {})]:
            raise _wrong(f"The parameter {given[0]!r} of {one['name'][:60]!r} is not supported")
    return Asked(
        _views(request["inputs"][0], rest, side, most),
        {one["name"]: bool(one.get("parameters", {}).get("binary_data", False)) for one in wanted},
        bool(request.get("parameters", {}).get("binary_data_output", False)),
        request.get("id", ""),
    )


def _views(given: _Input, rest: memoryview, side: int, most: int) -> NDArray[np.uint8]:
    """The pixels (B, 3, S, S) of an input, whose numbers may be in the rest of the body."""
    shape = given["shape"]
    if given["datatype"] != "UINT8" or len(shape) != 4 or shape[1:] != [3, side, side] or shape[0] < 1:
        raise _wrong(
            f"{INPUT!r} is {given['datatype'][:20]} of shape {shape[:8]}, and should be UINT8 of shape "
            f"[B, 3, {side}, {side}]"
        )
    if shape[0] > most:
        raise too_many(shape[0], most)
    size = given.get("parameters", {}).get("binary_data_size")
    if size is None:
        values = _numbers(given.get("data", []), shape)
        if len(rest):
            raise _wrong(f"{len(rest):,} bytes follow that belong to no input")
    else:
        if "data" in given:
            raise _wrong(f"{INPUT!r} has numbers both in JSON and in binary")
        if size != len(rest):
            raise _wrong(f"binary_data_size is {str(size)[:20]}, and {len(rest):,} bytes follow the JSON object")
        values = np.frombuffer(rest, np.uint8)
    if values.size != math.prod(shape):
        raise _wrong(f"{INPUT!r} has {values.size:,} numbers, and its shape says {math.prod(shape):,}")
    return values.reshape(shape)


def _numbers(data: list[Any], shape: Sequence[int]) -> NDArray[np.uint8]:
    """Numbers in JSON, in a row or nested as the shape says. NumPy sees them only when they are known to be numbers: it
    makes all texts of a list as long as the longest."""
    values = data
    if values and type(values[0]) is list:
        for length in shape[1:]:
            if not all(type(one) is list and len(one) == length for one in values):
                raise _wrong(f"The data of {INPUT!r} are nested otherwise than its shape says")
            values = list(chain.from_iterable(values))
    if values and (set(map(type, values)) != {int} or min(values) < 0 or max(values) > 255):
        raise _wrong(f"The data of {INPUT!r} are not whole numbers from 0 to 255")
    return np.array(values, np.uint8)


def _wrong(what: str) -> Refusal:
    return Refusal(400, what)


# ---- answers


def body_of(asked: Asked, model: str, version: str, tensors: Tensors) -> tuple[bytes, int | None]:
    """The answer to a request, and the bytes of its JSON object if something in binary follows."""
    told: list[dict[str, Any]] = []
    behind: list[bytes] = []
    for name, binary in (asked.outputs or dict.fromkeys(tensors, asked.binary)).items():
        values = tensors[name]
        one: dict[str, Any] = {"name": name, "datatype": _DATATYPES[values.dtype.name], "shape": list(values.shape)}
        if binary:
            behind.append(values.astype("<f4").tobytes())
            told.append(one | {"parameters": {"binary_data_size": len(behind[-1])}})
        else:
            told.append(one | {"data": values.ravel().tolist()})
    head = {"model_name": model, "model_version": version} | ({"id": asked.id} if asked.id else {})
    text = as_json(head | {"outputs": told}).encode()
    return text + b"".join(behind), len(text) if behind else None
