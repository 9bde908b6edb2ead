"""The open inference protocol, version 2, which clients of other model servers speak: tensors in, tensors out.

Its tensors are those of `fieldmark export --to triton`, so that a client can go from one to the other. They go through
the same queue as photographs, with the same deadline and limits.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from pydantic import BaseModel, Field

from fieldmark.core.version import version as own_version
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.exporting.triton import MOST, model_name
from fieldmark.serving.bodies import Bodies, Kind
from fieldmark.serving.deadline import within
from fieldmark.serving.refusal import Refusal, stopping
from fieldmark.serving.service import Service
from fieldmark.serving.tensors import INPUT, Asked, Tensor, body_of, described, read_request, tensors_of

__all__ = ["add_inference"]

_VERSION = "1"
_JSON_BYTES = "Inference-Header-Content-Length"
_TENSORS = Kind(
    "request",
    ("application/json", "application/octet-stream", "application/x-www-form-urlencoded"),
    'Send {"inputs": [{"name": "images", …}]}, or see the documentation of serving.',
)
_READING = 2
"""Requests that are read at a time. One in JSON takes a second or two, and up to 300 MB."""
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "A JSON object with `inputs`, as in the open inference protocol; with the header "
        f"`{_JSON_BYTES}`, numbers in binary follow it.",
        "content": {"application/json": {"schema": {"type": "object"}}, "application/octet-stream": {}},
    }
}


class Server(BaseModel):
    """What serves."""

    name: str
    version: str
    extensions: list[str]


class Live(BaseModel):
    """Whether the service answers."""

    live: bool


class Ready(BaseModel):
    """Whether more is accepted."""

    ready: bool


class Model(BaseModel):
    """What is served."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[Tensor]
    outputs: list[Tensor]


class Tensors(BaseModel):
    """What the network says of each picture. In binary, `data` is missing and the numbers follow the object."""

    model_name: str
    model_version: str
    id: str = Field("", description="That of the request, if it has one.")
    outputs: list[dict[str, Any]] = Field(description="Each with `name`, `datatype`, `shape` and `data`.")


def add_inference(
    app: FastAPI, service: Service, bodies: Bodies, name: str, refusals: dict[int | str, dict[str, Any]]
) -> None:
    """Add the routes of the protocol, for a run of this name. `refusals` describe the answers to what is refused."""
    model = model_name(name)
    side = service.bundle.images.size
    inputs = described({INPUT: np.zeros((1, 3, side, side), np.uint8)})
    outputs = described(tensors_of(service.bundle, service.sample))
    most = min(MOST, service.limits.most_waiting)
    known = [one["name"] for one in outputs]
    readers = ThreadPoolExecutor(_READING, "fieldmark-read")
    absent: dict[int | str, dict[str, Any]] = {404: {**refusals[400], "description": "There is no such model."}}

    def check(asked: str, version: str) -> None:
        if (asked, version) != (model, _VERSION):
            raise Refusal(404, f"There is no model {asked[:60]!r} of version {version[:20]!r}", f"There is {model!r}.")

    def check_open() -> Ready:
        if service.batcher.closed:
            raise stopping()
        return Ready(ready=True)

    @app.get("/v2", responses={401: refusals[401]})
    async def server() -> Server:
        """What serves, and which parts of the protocol it knows."""
        return Server(name="fieldmark", version=own_version(), extensions=["binary_tensor_data"])

    @app.get("/v2/health/live")
    async def live() -> Live:
        """Whether the service answers."""
        return Live(live=True)

    @app.get("/v2/health/ready", responses={503: refusals[503]})
    async def ready() -> Ready:
        """Whether more is accepted."""
        return check_open()

    @app.get("/v2/models/{model}", responses={401: refusals[401], **absent})
    @app.get("/v2/models/{model}/versions/{version}", include_in_schema=False)
    async def metadata(model: str, version: str = _VERSION) -> Model:
        """Which tensors go in and come out."""
        check(model, version)
        return Model(name=model, versions=[_VERSION], platform="fieldmark", inputs=inputs, outputs=outputs)

    @app.get("/v2/models/{model}/ready", responses={401: refusals[401], 503: refusals[503], **absent})
    @app.get("/v2/models/{model}/versions/{version}/ready", include_in_schema=False)
    async def model_ready(model: str, version: str = _VERSION) -> Ready:
        """Whether more is accepted by the model."""
        check(model, version)
        return check_open()

    @app.post("/v2/models/{model}/infer", openapi_extra=_BODY, response_model=Tensors, responses={**refusals, **absent})
    @app.post("/v2/models/{model}/versions/{version}/infer", include_in_schema=False)
    async def infer(request: Request, model: str, version: str = _VERSION) -> Response:
        """What the network says of pictures that are cut already, up to 32 at once."""
        check(model, version)
        service.check_room()
        length = request.headers.get(_JSON_BYTES)
        if length is not None and not length.isdecimal():
            raise Refusal(400, f"{_JSON_BYTES} is {length[:20]!r} and no number")
        size = None if length is None else int(length[:20])

        def written(asked: Asked, found: list[Outputs]) -> tuple[bytes, int | None]:
            return body_of(asked, model, _VERSION, tensors_of(service.bundle, joined(found)))

        async with bodies.read(request, _TENSORS) as body, within(service.limits.seconds):
            read = readers.submit(read_request, body, size, side=side, most=most, known=known)
            asked = await asyncio.wrap_future(read)
            found = await asyncio.gather(*map(asyncio.wrap_future, service.outputs_of(asked.views)))
            answer, json_bytes = await asyncio.to_thread(written, asked, found)
        if json_bytes is None:
            return Response(answer, media_type="application/json")
        return Response(answer, headers={_JSON_BYTES: str(json_bytes)}, media_type="application/octet-stream")
