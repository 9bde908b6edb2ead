"""`fastest`: many pictures are answered by the engine that is faster here and gives the same answers.

Which one it is, is found out once for a bundle and a machine: a graph is made, and both engines look at the same
pictures in turns, each with the threads that it works with. That takes seconds, so only a job that lasts longer is
worth it. What came out is kept (`fieldmark.runs.engines`), and `Predictor.load` goes by it.

Shapes: B images of S × S pixels.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.onnx import NoGraph, OnnxEngine, can_make_graphs, kept_engine
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import BATCH, stream
from fieldmark.answering.things import Thing
from fieldmark.answering.trial import PAYS, WORTH, has_room, is_passing, seconds_each
from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.listener import Listener, Tick
from fieldmark.core.machine import AUTO, EngineName, num_decoders
from fieldmark.core.reading import reason
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.engines import Choice, Entry, circumstances

__all__ = ["faster", "fastest"]

_FEW = 200
"""Fewer pictures are answered at once."""
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
    """A predictor for the pictures that are to be computed; "auto" tries both engines if that pays, and "onnx" makes
    the graph that it lacks.

    Raises RunError and DeviceError as `Predictor.of` does; RunError if no graph that gives the same answers can be
    made of which "onnx" was asked.
    """
    listener = listener or Listener()
    if engine == "onnx" and can_make_graphs():
        with suppress(NoGraph):  # then it is made
            return Predictor.of(bundle, device=device, engine=engine)
        return _tried(Predictor.of(bundle, device="cpu", engine="torch"), things, listener, wished=True)
    predictor = Predictor.of(bundle, device=device, engine=engine)
    return faster(predictor, things, listener) if engine == "auto" else predictor


def faster(predictor: Predictor, things: Sequence[Thing], listener: Listener) -> Predictor:
    """The same predictor, or one by ONNX Runtime if a trial pays for the pictures that are to be computed, and is won.

    It is the same where another process has a trial just now: nothing waits.
    """
    if (
        len(things) < _FEW
        or predictor.device != "cpu"
        or isinstance(predictor.engine, OnnxEngine)
        or not can_make_graphs()
    ):
        return predictor
    return _tried(predictor, things, listener, wished=False)


def _tried(predictor: Predictor, things: Sequence[Thing], listener: Listener, *, wished: bool) -> Predictor:
    """After a trial; if it is not `wished`, only if it pays, at once, and where the outcome can be kept."""
    bundle, kept = predictor.bundle, False
    with ExitStack() as held:
        entry = _held_entry(bundle, held, listener, waits=wished)
        if entry is None and not wished:
            return predictor
        if (made := kept_engine(bundle, even_slower=wished)) is not None:  # by another process, in the meantime
            return Predictor(bundle, engine=made)
        if entry is not None and not wished and not _pays(predictor, things, entry):
            return predictor
        found = _found_out(predictor, _some(predictor, things), listener)
        if entry is not None and found.lasts:
            with suppress(OSError, StorageError):  # what cannot be kept serves this command all the same
                entry.keep(*found.to_keep(slower=wished))
                kept = True
    listener.note(found.said(kept=kept))
    if found.answers is not None and (wished or found.is_faster):
        return Predictor(bundle, engine=found.answers)
    if not wished:
        return predictor
    where = f" What was found out is kept in {entry.folder}." if entry and kept else ""
    raise RunError(
        f"ONNX Runtime cannot be used for {bundle.folder}: {found.why}", f"Choose the engine torch, or none.{where}"
    )


def _held_entry(bundle: Bundle, held: ExitStack, listener: Listener, *, waits: bool) -> Entry | None:
    """Where to keep what this process alone may find out now; None if nothing can be kept, or another one is at it and
    this one does not wait."""
    if (entry := Entry.of(bundle)) is None:
        return None
    try:
        if held.enter_context(entry.lock(wait=False)):
            return entry
        if not waits:
            return None
        listener.note("Another process is trying ONNX Runtime: waiting for it")
        held.enter_context(entry.lock(wait=True))
    except (OSError, StorageError):
        return None
    return entry


def _pays(predictor: Predictor, things: Sequence[Thing], entry: Entry) -> bool:
    """Whether it is not known yet which engine is faster, PyTorch would be at work for long, and there is memory."""
    choice = entry.read()
    if choice is not None and choice["engine"] == "torch":  # of a winner the graph is damaged, since it does not answer
        return False
    if not has_room(sum(one.nbytes for one in predictor.model.parameters())):
        return False
    each = seconds_each({"torch": predictor.engine}, _some(predictor, things), rounds=1)["torch"]
    return each * len(things) >= PAYS


@final
@dataclass(frozen=True)
class _Outcome:
    why: str
    """A clause about "it", which is ONNX Runtime."""
    answers: OnnxEngine | None = None
    """What gives the same answers."""
    graph: bytes | None = None
    is_faster: bool = False
    seconds: dict[str, float] = field(default_factory=dict)
    checked: dict[str, Any] = field(default_factory=dict)
    lasts: bool = True
    """Whether it tells something about the network, rather than about this moment."""
    took: float = 0.0

    def said(self, *, kept: bool) -> str:
        """In words."""
        stays = "and is used from now on" if self.is_faster else "which stays the default"
        then = f", {stays}" if kept and self.answers is not None else ""
        once = "once for this model" if kept else "for this job only"
        return f"Tried ONNX Runtime, {once} ({self.took:.0f} s): {self.why}{then}"

    def to_keep(self, *, slower: bool) -> tuple[Choice, bytes | None]:
        """With the graph if it is faster, or may be `slower`."""
        graph = self.graph if self.is_faster or slower else None
        choice = Choice(
            engine="onnx" if self.is_faster else "torch",
            why=self.why,
            sha256=None if graph is None else hashlib.sha256(graph).hexdigest(),
            seconds_per_image=self.seconds,
            checked=self.checked,
            took=round(self.took, 1),
            circumstances=circumstances(),
        )
        return choice, graph


def _found_out(predictor: Predictor, images: Images, listener: Listener) -> _Outcome:
    begun = time.perf_counter()
    with listener.progress("Trying ONNX Runtime") as tick:
        try:
            found = _compared(predictor, images, tick)
        except Exception as error:  # whatever an exporter raises about a network, PyTorch answers
            lasts = not is_passing(error)
            failed = "it cannot compute this network" if lasts else "that failed for now"
            found = _Outcome(f"{failed}: {reason(error)[:200]}", lasts=lasts)
        tick(_STEPS, _STEPS)
    return replace(found, took=time.perf_counter() - begun)


def _compared(predictor: Predictor, images: Images, tick: Tick) -> _Outcome:
    """Both engines look at images (B, 3, S, S): for what they answer, and then for how long it takes."""
    from fieldmark.exporting.checking import compared
    from fieldmark.exporting.graph import graph_of
    from fieldmark.model.graph import serialized

    tick(0, _STEPS)
    graph = serialized(graph_of(predictor.bundle))
    answers = OnnxEngine(graph, predictor.bundle)
    tick(1, _STEPS)
    checked = compared(predictor.engine(images), answers(images), "asked")
    if not checked.is_same:
        return _Outcome(f"it does not answer as PyTorch does. {checked.said}", checked=checked.as_dict())
    tick(2, _STEPS)
    seconds = seconds_each({"torch": predictor.engine, "onnx": answers}, images, rounds=_ROUNDS)
    ratio = seconds["torch"] / seconds["onnx"]
    why = f"it gives the same answers {ratio:.3g} times as fast as PyTorch"
    return _Outcome(why, answers, graph, ratio >= WORTH, seconds, checked.as_dict())


def _some(predictor: Predictor, things: Sequence[Thing]) -> Images:
    """A batch of these pictures as the network sees them, from all over; noise where none can be read."""
    spread = things[:: max(1, len(things) // BATCH)][:BATCH]
    side = predictor.bundle.images.size
    noise = np.random.default_rng(0).integers(0, 256, (BATCH, 3, side, side), np.uint8)
    for answered in stream(spread, predictor.see, lambda images: images, threads=num_decoders()):
        return noise if answered.output is None else np.resize(answered.output, noise.shape)
    return noise
