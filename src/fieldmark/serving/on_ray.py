"""The service as a Ray Serve application: replicas on many machines behind one address.

    serve run fieldmark.serving.on_ray:application run=/shared/runs/birds replicas=4

Each replica is a whole service, with a network and a queue of its own. Ray gives it as many requests as its queue
holds; `queued` more wait, and whatever comes then is answered 503. Corrections are not kept: replicas share no table.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from fieldmark.answering.predictor import Predictor
from fieldmark.core.machine import AUTO
from fieldmark.runs.bundle import Bundle
from fieldmark.serving.app import app_of
from fieldmark.serving.guard import LOOPBACK, Guard, token_of
from fieldmark.serving.limits import Limits
from fieldmark.serving.measures import Measures
from fieldmark.serving.service import Service

__all__ = ["Options", "application"]


@final
class Options(BaseModel):
    """What is served, and how."""

    model_config = ConfigDict(extra="forbid")

    run: Path
    """A run or a bundle, which all machines see there."""
    replicas: int = Field(1, ge=1)
    cpus: float = Field(1, gt=0)
    """The cores of each replica."""
    gpus: float = Field(0, ge=0)
    queued: int = Field(64, ge=1)
    """Requests that wait at the address until a replica has room."""
    token_file: Path | None = None
    """Whose token is asked for; without one, the service answers to names of the loopback only."""
    accuracy: float | None = None
    coverage: float | None = None
    device: str = AUTO
    limits: Limits = Limits()


def application(options: Options | dict[str, Any]) -> serve.Application:
    """The application, for `serve.run` or, from the words of a command, `serve run`.

    Raises ValueError for options that there are not, and RunError for a bundle or a promise that cannot be used.
    """
    options = Options.model_validate(options)
    run = options.run.resolve()
    bundle = Bundle.load(run)
    bundle.thresholds(options.accuracy, options.coverage)
    token = token_of(options.token_file) if options.token_file else None

    def app() -> Guard:
        measures = Measures()
        service = Service(
            Predictor.load(run, device=options.device),
            accuracy=options.accuracy,
            coverage=options.coverage,
            limits=options.limits,
            heard=measures.batch,
        )
        return app_of(service, measures, token=token, hosts=None if token else LOOPBACK, name=run.name)

    deployed: Any = serve.deployment(
        name="fieldmark",
        num_replicas=options.replicas,
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        max_ongoing_requests=options.limits.most_waiting,
        max_queued_requests=options.queued,
        backpressure_config={"retry_after_s": 1},
        graceful_shutdown_timeout_s=options.limits.seconds + options.limits.sending_seconds,
    )(serve.ingress(app)())
    return deployed.bind()
