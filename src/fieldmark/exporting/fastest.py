"""`fastest`: many pictures are answered by the engine that is faster here and gives the same answers.

Which one it is, is found out once for a bundle and a machine: a graph is made, and both engines look at the same
pictures in turns, with as many threads. That takes seconds, so only a job that lasts longer is worth it. What came out
is kept (`fieldmark.runs.engines`), and `Predictor.load` goes by it.

Shapes: B images of S × S pixels.
"""

from __future__ import annotations

import hashlib
import importlib.util
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Literal, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.onnx import OnnxEngine, has_onnx, kept_engine
from fieldmark.answering.predictor import Engine, Predictor
from fieldmark.answering.stream import BATCH, stream
from fieldmark.answering.things import Thing
from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.listener import Listener, Tick
from fieldmark.core.machine import AUTO, EngineName, num_decoders, num_threads
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.engines import Choice, Entry, Known, circumstances
from fieldmark.runs.exported import read_onnx

__all__ = ["fastest"]

_FEW = 200
"""Fewer pictures are answered at once."""
_PAYS = 120.0
"""So many seconds must PyTorch have to compute. To find out takes about a third of it, once, and saves nearly half."""
_ROUNDS, _STEPS = 3, 3
Images = NDArray[np.uint8]


def fastest(
    bundle: Bundle,
    things: Sequence[Thing],
    *,
    device: str = AUTO,
    engine: EngineName = "auto",
    listener: Listener | None = None,
) -> Predictor:
    """A predictor for these pictures; "auto" tries both engines if that pays, "onnx" makes the graph that it lacks.

    Raises RunError and DeviceError as `Predictor.of` does; RunError if no graph that gives the same answers can be
    made of which "onnx" was asked.
    """
    wanted = engine == "onnx"
    if wanted and device in (AUTO, "cpu") and _can_export() and _lacks_graph(bundle):
        predictor = Predictor.of(bundle, device="cpu", engine="torch")
    else:
        predictor = Predictor.of(bundle, device=device, engine=engine)
        if engine != "auto" or not _pays(predictor, things):
            return predictor
    known = _known(predictor, things, wanted, listener or Listener())
    if known and known.graph is not None and (wanted or known.choice["engine"] == "onnx"):
        return Predictor(bundle, engine=OnnxEngine(known.graph, bundle))
    if wanted and known:
        problem = f"ONNX Runtime cannot be used for {bundle.folder}: {known.choice['why']}"
        raise RunError(problem, "Choose the engine torch, or none.")
    return predictor


def _lacks_graph(bundle: Bundle) -> bool:
    return read_onnx(bundle) is None and kept_engine(bundle, even_slower=True) is None


def _can_export() -> bool:
    return has_onnx() and importlib.util.find_spec("onnxscript") is not None


def _pays(predictor: Predictor, things: Sequence[Thing]) -> bool:
    """Whether it is not known yet which engine is faster, and PyTorch would be at work for long."""
    if len(things) < _FEW or predictor.device != "cpu" or isinstance(predictor.engine, OnnxEngine) or not _can_export():
        return False
    entry = Entry.of(predictor.bundle)
    if entry is None or entry.read() is not None:
        return False
    each = _seconds({"torch": predictor.engine}, _some(predictor, things), rounds=1)["torch"]
    return each * len(things) >= _PAYS


def _known(predictor: Predictor, things: Sequence[Thing], wanted: bool, listener: Listener) -> Known | None:
    """What is found out here, or by another process in the meantime; None where it cannot be kept, unless `wanted`."""
    entry = Entry.of(predictor.bundle)
    with ExitStack() as held:
        try:
            if entry is not None:
                held.enter_context(entry.lock())
        except (OSError, StorageError):
            entry = None
        if entry is None and not wanted:
            return None
        if entry is not None and (known := entry.read()) is not None:
            return known
        known = _found_out(predictor, _some(predictor, things), listener)
        if entry is not None:
            with suppress(OSError, StorageError):
                entry.keep(known)
    listener.note(f"Tried ONNX Runtime, once for this model ({known.choice['took']:.0f} s): {known.choice['why']}")
    return known


def _found_out(predictor: Predictor, images: Images, listener: Listener) -> Known:
    begun = time.perf_counter()
    with listener.progress("Trying ONNX Runtime") as tick:
        try:
            found = _tried(predictor, images, tick)
        except Exception as error:  # whatever an exporter raises about a network, PyTorch answers
            found = _Outcome(f"it cannot compute this network: {' '.join(str(error).split())[:200]}")
        tick(_STEPS, _STEPS)
    choice = Choice(
        engine=found.engine,
        why=found.why,
        sha256=None if found.graph is None else hashlib.sha256(found.graph).hexdigest(),
        seconds_per_image=found.seconds,
        checked=found.checked,
        took=round(time.perf_counter() - begun, 1),
        circumstances=circumstances(),
    )
    return Known(choice, found.graph)


@final
@dataclass(frozen=True)
class _Outcome:
    why: str
    engine: Literal["torch", "onnx"] = "torch"
    graph: bytes | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    checked: dict[str, Any] = field(default_factory=dict)


def _tried(predictor: Predictor, images: Images, tick: Tick) -> _Outcome:
    """Both engines look at images (B, 3, S, S): for what they answer, and then for how long it takes."""
    from fieldmark.exporting.checking import compared
    from fieldmark.exporting.graph import graph_of, serialized

    tick(0, _STEPS)
    graph = serialized(graph_of(predictor.bundle))
    engines = {"torch": predictor.engine, "onnx": OnnxEngine(graph, predictor.bundle)}
    tick(1, _STEPS)
    checked = compared(engines["torch"](images), engines["onnx"](images), "asked")
    if not checked.is_same:
        return _Outcome(f"it does not answer as PyTorch does. {checked.said}", checked=checked.as_dict())
    tick(2, _STEPS)
    seconds = _seconds(engines, images, rounds=_ROUNDS)
    ratio = seconds["torch"] / seconds["onnx"]
    if ratio < 1:
        why = f"it takes {1 / ratio:.1f} times as long as PyTorch, which answers on"
        return _Outcome(why, "torch", graph, seconds, checked.as_dict())
    why = f"it gives the same answers {ratio:.1f} times as fast as PyTorch, and is used from now on"
    return _Outcome(why, "onnx", graph, seconds, checked.as_dict())


def _some(predictor: Predictor, things: Sequence[Thing]) -> Images:
    """A batch of these pictures as the network sees them, from all over; noise where none can be read."""
    spread = things[:: max(1, len(things) // BATCH)][:BATCH]
    side = predictor.bundle.images.size
    noise = np.random.default_rng(0).integers(0, 256, (BATCH, 3, side, side), np.uint8)
    for answered in stream(spread, predictor.see, lambda images: images, threads=num_decoders()):
        return noise if answered.output is None else np.resize(answered.output, noise.shape)
    return noise


def _seconds(engines: Mapping[str, Engine], images: Images, *, rounds: int) -> dict[str, float]:
    """The median time per image of each engine, in turns, after a round that warms up."""
    taken: dict[str, list[float]] = {name: [] for name in engines}
    with _equal_threads():
        for _ in range(rounds + 1):
            for name, engine in engines.items():
                begun = time.perf_counter()
                engine(images)
                taken[name].append(time.perf_counter() - begun)
    return {name: float(np.median(times[1:])) / len(images) for name, times in taken.items()}


@contextmanager
def _equal_threads() -> Iterator[None]:
    """PyTorch computes with as many threads as ONNX Runtime is given."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(num_threads())
    try:
        yield
    finally:
        torch.set_num_threads(before)
