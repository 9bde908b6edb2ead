"""What a service counts, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Measures"]

_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60)
_SIZES = (1, 2, 4, 8, 16, 32)


@final
class Measures:
    """Counters of one service."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        named: dict[str, Any] = {"registry": self.registry, "namespace": "fieldmark"}
        self._requests = Counter("requests", "Requests, by route and status.", ["route", "status"], **named)
        self._seconds = Histogram(
            "request_seconds", "Time of requests that were answered.", ["route"], buckets=_SECONDS, **named
        )
        self._batch = Histogram("batch_size", "Pictures that were answered together.", buckets=_SIZES, **named)
        self._waiting = Gauge("waiting", "Pictures that are accepted and not answered yet.", **named)
        self._held = Gauge("held_bytes", "Bytes of pictures that are being sent or waiting.", **named)

    def watch(self, waiting: Callable[[], int], held: Callable[[], int]) -> None:
        """Read these when somebody asks."""
        self._waiting.set_function(waiting)
        self._held.set_function(held)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        self._requests.labels(route, str(status)).inc()
        if status < 400:
            self._seconds.labels(route).observe(seconds)

    def batch(self, num_pictures: int) -> None:
        """Count a batch."""
        self._batch.observe(num_pictures)

    def text(self) -> bytes:
        """As Prometheus reads it."""
        return generate_latest(self.registry)
