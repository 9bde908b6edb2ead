"""The service as a Ray Serve application: replicas on many machines behind one address.

    serve run fieldmark.serving.on_ray:application run=/shared/runs/birds replicas=4 token_file=/shared/token

Each replica is a whole service, with a network and a queue of its own. Ray gives it as many requests as its queue
holds; `queued` more wait, and whatever comes then is answered 503. Replicas share neither a table nor counters, so
corrections are not kept, and there is no `/metrics`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, final

from pydantic import BaseModel, ConfigDict, Field
from ray import serve

from fieldmark.answering.predictor import Predictor
from fieldmark.core.errors import RunError
from fieldmark.core.machine import AUTO
from fieldmark.runs.bundle import Bundle
from fieldmark.serving.app import app_of
from fieldmark.serving.guard import LOOPBACK, Guard, token_of
from fieldmark.serving.limits import Limits
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
    """Whose token is asked for."""
    open: bool = False
    """Whether to do without a token. The service then answers to names of the loopback only, which keeps pages of other
    sites out of it, and nobody else: whoever reaches the address may say any name."""
    examples: bool = True
    """Whether training images may be shown."""
    accuracy: float | None = None
    coverage: float | None = None
    device: str = AUTO
    limits: Limits = Limits()


def application(options: Options | dict[str, Any]) -> serve.Application:
    """The application, for `serve.run` or, from the words of a command, `serve run`.

    Raises ValueError for options that there are not, and RunError without a token and for a bundle or a promise that
    cannot be used.
    """
    options = Options.model_validate(options)
    if options.token_file is None and not options.open:
        raise RunError(
            "On a cluster, a service without a token answers whoever reaches its address",
            "Give it one with token_file=FILE, or open=true where only those can reach it who may.",
        )
    run = options.run.absolute()  # where a link leads is each machine's own business
    bundle = Bundle.load(run)
    bundle.thresholds(options.accuracy, options.coverage)
    token = token_of(options.token_file) if options.token_file else None

    def app() -> Guard:
        service = Service(
            Predictor.load(run, device=options.device),
            accuracy=options.accuracy,
            coverage=options.coverage,
            examples=options.examples,
            limits=options.limits,
        )
        return app_of(service, token=token, hosts=None if token else LOOPBACK, name=run.name)

    deployed: Any = serve.deployment(
        name="fieldmark",
        num_replicas=options.replicas,
        ray_actor_options={"num_cpus": options.cpus, "num_gpus": options.gpus},
        max_ongoing_requests=options.limits.most_waiting,
        max_queued_requests=options.queued,
        backpressure_config={"retry_after_s": 1},
        graceful_shutdown_timeout_s=options.limits.seconds_to_stop,
    )(serve.ingress(app)())
    return deployed.bind()
