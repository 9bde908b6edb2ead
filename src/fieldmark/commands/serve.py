"""Serve: a run answers over HTTP, with a page for people."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from fieldmark.answering.predictor import Predictor
from fieldmark.core.errors import RunError
from fieldmark.core.listener import Done, Listener
from fieldmark.core.machine import AUTO
from fieldmark.core.memory import keep_freed_memory
from fieldmark.core.storage import check_writable
from fieldmark.core.wording import not_installed
from fieldmark.runs.opening import opened_run
from fieldmark.serving.corrections import Corrections
from fieldmark.serving.limits import Limits
from fieldmark.serving.service import Service

__all__ = ["serve"]

_NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def serve(
    run: Path | str,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    token_file: Path | str | None = None,
    names: Sequence[str] = (),
    accuracy: float | None = None,
    coverage: float | None = None,
    gallery: Path | str | None = None,
    keep: Path | str | None = None,
    keep_pictures: bool = False,
    examples: bool = True,
    root: Path | str | None = None,
    limits: Limits | None = None,
    device: str = AUTO,
    listener: Listener | None = None,
) -> None:
    """Answer over HTTP until SIGTERM or Ctrl-C.

    At a `host` other than the loopback, or by further `names`, a token is asked for: that in `token_file`, or a new
    one, which the listener is told. `accuracy` and `coverage` are what verdicts promise, as for `Predictor.predict`;
    `gallery` is what is searched, that of the run by default. Corrections are kept in `keep`, by default in
    RUN/corrections; their pictures only with `keep_pictures`. Without `examples`, no known picture is shown; they lie
    in `root` if they were moved.

    Raises RunError if a package is missing, for a promise that cannot be kept, for a gallery of another model and if
    nothing can listen there.
    """
    keep_freed_memory()
    listener = listener or Listener()
    if missing := [name for name in _NEEDED if importlib.util.find_spec(name) is None]:
        raise RunError(
            f"Serving needs {not_installed([name.replace('_', '-') for name in missing])}",
            "Install it with: pip install 'fieldmark[serve]'.",
        )
    from fieldmark.serving.app import app_of
    from fieldmark.serving.guard import hosts_of, is_loopback, token_of
    from fieldmark.serving.measures import Measures
    from fieldmark.serving.server import address_of, bound, server_of

    opened = opened_run(Path(run))
    place = Path(keep) if keep else opened.folder / "corrections" if opened.exists else None
    if keep_pictures:
        if place is None:
            raise RunError(
                f"{run} is a bundle without a run, which has no place for pictures", "Say where with --keep."
            )
        check_writable(place)
    inside = is_loopback(host) and not names
    token = None if inside and token_file is None else token_of(token_file)
    measures, limits = Measures(), limits or Limits()

    def made() -> Service:
        return Service(
            Predictor.load(run, device=device),
            accuracy=accuracy,
            coverage=coverage,
            gallery=gallery,
            corrections=Corrections(place, keep_pictures=keep_pictures, most=limits.kept) if place else None,
            examples=examples,
            root=Path(root) if root else None,
            limits=limits,
            listener=listener,
            heard=measures.batch,
        )

    with bound(host, port) as listening:
        # Whatever thread computes keeps a team of others, and with more of them than cores OpenMP lets them sleep after
        # every layer. The team of a thread that has ended is gone, and that of the batcher has the cores to itself.
        with ThreadPoolExecutor(1, "fieldmark-load") as loading:
            service = loading.submit(made).result()
        app = app_of(
            service,
            measures,
            token=token,
            hosts=hosts_of(names, host=host),
            name=(opened.folder if opened.exists else Path(run)).resolve().name,
        )
        shown = address_of(listening, host, names) + (f"#token={token}" if token and token_file is None else "")

        def ready() -> None:
            listener.note(f"Answering at {shown}")
            listener.note("Stop with Ctrl-C.")

        server = server_of(app, seconds_to_stop=limits.seconds_to_stop, ready=ready)
        with suppress(KeyboardInterrupt):  # it has stopped by then
            server.run(sockets=[listening])
    listener.hear(Done("serve"))
