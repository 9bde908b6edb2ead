"""The routes of a service: JSON about pictures, and the page."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse
from starlette.exceptions import HTTPException

from fieldmark.core.errors import FieldmarkError
from fieldmark.core.version import version
from fieldmark.gallery.finding import Found
from fieldmark.serving.answers import (
    About,
    Answer,
    Examples,
    Health,
    Kept,
    Neighbour,
    Neighbours,
    Problem,
    Reasons,
    answer_of,
    reasons_of,
)
from fieldmark.serving.bodies import Bodies, ClientDisconnect
from fieldmark.serving.deadline import in_time
from fieldmark.serving.examples import small
from fieldmark.serving.guard import Guard, refused
from fieldmark.serving.inference import add_inference
from fieldmark.serving.measures import Measures
from fieldmark.serving.page import api_page, page, policy_of, unregistering
from fieldmark.serving.refusal import Refusal, refusal_of
from fieldmark.serving.service import Service

__all__ = ["app_of"]

_BINARY = {"schema": {"type": "string", "format": "binary"}}
_PICTURE: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "The picture: the bytes of its file, whatever format Fieldmark reads.",
        "content": {"image/*": _BINARY, "application/octet-stream": _BINARY},
    }
}
_MEANINGS = {
    400: "The body is empty, or the request makes no sense.",
    401: "The token is missing or wrong.",
    408: "The picture was not sent in time.",
    413: "The picture has too many bytes or pixels.",
    415: "The body is no picture of a format that is read.",
    422: "The picture is damaged, or an option makes no sense.",
    429: "Too many pictures are waiting; `Retry-After` says when to try again.",
    503: "There was no time left, or the service is stopping; `Retry-After` says when to try again.",
    507: "What should be kept cannot be written, or as much is kept as may be.",
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": meaning} for status, meaning in _MEANINGS.items()
}

Among = Annotated[list[str] | None, Query(description="Only these classes are possible.", max_length=10_000)]
Candidates = Annotated[int, Query(description="How many classes are listed.", ge=1, le=50)]


def app_of(
    service: Service,
    measures: Measures | None = None,
    *,
    token: str | None = None,
    hosts: Collection[str] | None = None,
    name: str = "",
) -> Guard:
    """The application that a server runs. `name` is what the page calls the run; the rest as for `Guard`. Without
    `measures`, nothing is counted.

    The service is closed when the server ends.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Fieldmark",
        version=version(),
        description="Verdicts, explanations and look-alikes for pictures. Errors are JSON: what was wrong, what to do.",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    bodies = Bodies(service.limits)
    _add_refusals(app)
    _add_pictures(app, service, bodies)
    add_inference(app, service, bodies, name, _REFUSALS)
    _add_facts(app, service, name)
    _add_pages(app)
    heard = None
    if measures is not None:
        measures.watch(lambda: service.batcher.waiting, lambda: bodies.held)
        _add_metrics(app, measures)
        heard = measures.request
    return Guard(app, token=token, hosts=hosts, most_requests=service.limits.requests, heard=heard)


def _add_pictures(app: FastAPI, service: Service, bodies: Bodies) -> None:
    """What is asked about a picture, which is the body."""
    limits = service.limits
    asks: dict[str, Any] = {"openapi_extra": _PICTURE, "responses": _REFUSALS, "response_model_exclude_unset": True}

    @app.post("/v1/predict", **asks)
    async def predict(request: Request, candidates: Candidates = 5, among: Among = None) -> Answer:
        """What the picture shows, and how far to trust it."""
        service.check_room()
        async with bodies.read(request) as picture:
            outputs = await in_time(service.outputs(picture), limits.seconds)
            return answer_of(service.verdict(outputs, candidates=candidates, among=among or ()), _sha256(picture))

    @app.post("/v1/explain", **asks)
    async def explain(
        request: Request,
        versus: Annotated[
            str | None, Query(description="The class to compare with; the runner-up if left out.")
        ] = None,
    ) -> Reasons:
        """Why it is this class and not another. The first explanation takes some seconds more."""
        async with bodies.read(request) as picture:
            work = service.explanation(
                picture, versus, lambda found: reasons_of(found, examples=bool(service.examples))
            )
            return await in_time(work, limits.explaining_seconds)

    @app.post("/v1/search", **asks)
    async def search(
        request: Request,
        most: Annotated[int, Query(description="How many pictures are found.", ge=1, le=50)] = 8,
        label: Annotated[str | None, Query(description="Only pictures with this label.", max_length=200)] = None,
    ) -> Neighbours:
        """The most similar pictures of the run's gallery."""
        service.check_gallery()
        service.check_room()
        async with bodies.read(request) as picture:
            outputs = await in_time(service.outputs(picture), limits.seconds)
            work = service.neighbours(
                picture, outputs, lambda found: _neighbours(service, found), most=most, label=label
            )
            return await in_time(work, limits.seconds)

    @app.post("/v1/wrong", **asks)
    async def wrong(
        request: Request,
        label: Annotated[str, Query(description="What is right: a class, or the name of a new one.", max_length=200)],
    ) -> Kept:
        """Keep that the answer for this picture is wrong."""
        name = service.checked_label(label)
        service.check_room()
        async with bodies.read(request) as picture:
            outputs = await in_time(service.outputs(picture), limits.seconds)
            verdict = service.verdict(outputs)
            await in_time(service.correct(picture, verdict, name), limits.seconds)
            return Kept(said=verdict.said, label=name)


def _add_facts(app: FastAPI, service: Service, name: str) -> None:
    """What is asked about the service."""

    @app.get("/v1/classes", responses={401: _REFUSALS[401]})
    async def classes() -> About:
        """The classes, and what this service offers."""
        corrections = service.corrections
        return About(
            model=name,
            classes=list(service.bundle.classes),
            levels=[level.name for level in service.bundle.taxonomy.levels],
            calibrated=service.speaker.thresholds is not None,
            promised=service.speaker.thresholds.promised if service.speaker.thresholds else None,
            search=service.gallery is not None,
            examples=service.examples is not None,
            corrections=corrections is not None,
            pictures_kept=corrections is not None and corrections.keep_pictures,
            most_bytes=service.limits.body,
            most_pixels=service.limits.pixels,
        )

    @app.get(
        "/v1/classes/{number}/pictures",
        responses={404: {"model": Problem, "description": "There is no such class."}, **_REFUSALS},
    )
    async def examples(
        number: Annotated[int, InPath(description="Its place in the list of classes, from 0.")],
    ) -> Examples:
        """A few known pictures of a class, if this service shows them."""
        if not 0 <= number < len(service.bundle.classes):
            raise Refusal(404, "There is no class of this number", "See /v1/classes; the first is 0.")
        label = service.bundle.classes[number]
        pictures = await in_time(service.examples_of(label), service.limits.seconds)
        return Examples(label=label, pictures=list(pictures))

    @app.get("/health")
    async def health() -> Health:
        """Whether the service answers."""
        return Health(status="ok", waiting=service.batcher.waiting)


def _add_metrics(app: FastAPI, measures: Measures) -> None:
    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counters for Prometheus."""
        return Response(measures.text(), media_type="text/plain; version=0.0.4")


def _add_pages(app: FastAPI) -> None:
    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> Response:
        return _page(page())

    @app.get("/offline.js", include_in_schema=False)
    async def offline() -> Response:
        return Response(unregistering(), media_type="text/javascript")

    @app.get("/api", response_class=HTMLResponse, include_in_schema=False)
    async def api() -> Response:
        return _page(api_page(app.openapi()))


def _add_refusals(app: FastAPI) -> None:
    """Every error is a line and a hint."""

    @app.exception_handler(FieldmarkError)
    async def by_us(request: Request, error: FieldmarkError) -> Response:
        return refused(refusal_of(error), request.url.path)

    @app.exception_handler(RequestValidationError)
    async def by_an_option(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        refusal = Refusal(422, f"The option {first['loc'][-1]!r}: {first['msg']}", "See /api.")
        return refused(refusal, request.url.path)

    @app.exception_handler(HTTPException)
    async def by_the_path(request: Request, error: HTTPException) -> Response:
        response = refused(Refusal(error.status_code, str(error.detail), "See /api."), request.url.path)
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(Exception)
    async def by_a_fault(request: Request, error: Exception) -> Response:
        refusal = Refusal(500, "The service has a fault", "Whoever runs it finds it in the log.")
        return refused(refusal, request.url.path)

    @app.exception_handler(ClientDisconnect)
    async def by_nobody(_: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)  # nobody reads it


def _neighbours(service: Service, found: Found) -> Neighbours:
    grey = service.bundle.images.grey_depth
    return Neighbours(
        neighbours=[
            Neighbour(
                label=hit.entry.label,
                similarity=round(hit.similarity, 4),
                same_file=found.is_same(hit),
                picture=small(Path(hit.entry.path), grey) if service.examples else None,
            )
            for hit in found.hits
        ]
    )


def _sha256(picture: bytes) -> str:
    return hashlib.sha256(picture).hexdigest()


def _page(text: str) -> Response:
    return HTMLResponse(text, headers={"Content-Security-Policy": policy_of(text)})
