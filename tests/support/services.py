"""A service at a port of its own, in a thread of the test's process, and somebody who asks it."""

from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp

from fieldmark.answering.predictor import Predictor
from fieldmark.serving.app import app_of
from fieldmark.serving.corrections import Corrections
from fieldmark.serving.guard import hosts_of
from fieldmark.serving.limits import Limits
from fieldmark.serving.measures import Measures
from fieldmark.serving.server import bound, server_of
from fieldmark.serving.service import Service

__all__ = ["Reply", "Visitor", "listening", "served"]


@dataclass(frozen=True)
class Reply:
    """What a service answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def complaint(self) -> str:
        """The line of a refusal, which has a hint beside it and nothing of the machine."""
        told = self.json
        assert set(told) == {"error", "hint"}, told
        assert "\n" not in told["error"]
        assert "Traceback" not in str(told)
        return str(told["error"])


class Visitor:
    """Asks a service."""

    def __init__(self, port: int, service: Service) -> None:
        self.port, self.service = port, service
        self.address = f"http://127.0.0.1:{port}/"

    def ask(self, path: str, body: Any = None, *, method: str = "", **headers: str) -> Reply:
        """One request on a connection of its own; `content_type="image/png"` is a header."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method or ("GET" if body is None else "POST"), path, body, named)
            response = connection.getresponse()
            return Reply(response.status, {k.lower(): v for k, v in response.getheaders()}, response.read())
        finally:
            connection.close()


@contextmanager
def served(
    run: Path | Predictor,
    *,
    limits: Limits | None = None,
    token: str | None = None,
    corrections: Path | None = None,
    keep_pictures: bool = False,
    port: int = 0,
    **options: Any,
) -> Iterator[Visitor]:
    """A run that is served as long as this lasts."""
    measures = Measures()
    kept = None if corrections is None else Corrections(corrections, keep_pictures=keep_pictures)
    predictor = run if isinstance(run, Predictor) else Predictor.load(run, device="cpu")
    service = Service(predictor, corrections=kept, limits=limits, heard=measures.batch, **options)
    app = app_of(service, measures, token=token, hosts=hosts_of((), host="127.0.0.1"), name="birds")
    with listening(app, port) as at:
        yield Visitor(at, service)


@contextmanager
def listening(app: ASGIApp, port: int = 0) -> Iterator[int]:
    """The port at which an application answers as long as this lasts: this one, or one that is free."""
    at, started = bound("127.0.0.1", port), threading.Event()
    server = server_of(app, seconds_to_stop=20, ready=started.set)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [at]})
    thread.start()
    try:
        assert started.wait(20)
        yield at.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
