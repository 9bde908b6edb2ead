"""`Batcher`: pictures that come one by one are answered in batches, within a deadline and a bounded queue.

A few threads decode, one shows the network whatever is ready, up to B pictures at once, and another one tells the
answers. A picture that is alone is answered alone: nobody waits for company that is not on its way.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.stream import Shown, stream
from fieldmark.answering.things import Thing
from fieldmark.core.machine import num_threads
from fieldmark.evaluation.outputs import Outputs
from fieldmark.serving.refusal import busy, late, stopping, too_many

__all__ = ["Batcher"]

_SMOOTHING = 0.2
"""The weight of the latest batch in the mean time that a picture takes."""
_LINGER, _LINGER_IN_TURNS = 0.004, 0.05
"""How many seconds a picture waits at most for others that are being decoded. Where cores decode or compute, but not
both, it loses nothing by that."""
_SHARE_OF_DEADLINE = 0.5
"""A picture is accepted if the wait that is expected is at most this share of its time. Those of one request wait
for each other."""


@final
@dataclass(eq=False)
class _Waiting:
    thing: Thing | Shown
    since: float
    until: float
    answer: Future[Outputs] = field(default_factory=Future)
    shown: Shown | None = None


@final
class Batcher:
    """Answers pictures with outputs of N = 1, as the network gives them."""

    def __init__(
        self,
        see: Callable[[Thing], Shown],
        engine: Callable[[NDArray[np.uint8]], Outputs],
        *,
        seconds: float = 10.0,
        most_waiting: int = 64,
        batch_size: int = 16,
        in_turns: bool = False,
        each: float = 0.0,
        decoders: int | None = None,
        heard: Callable[[int], None] = lambda num_pictures: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Each picture has `seconds`, and at most `most_waiting` are accepted and not answered yet.

        `in_turns` is for a network on the cores that decode: a picture that is decoded meanwhile takes one of the
        threads from a layer, and the others wait for it. `each` is how many seconds a picture takes, until that is
        measured. `heard` is told the size of each batch.
        """
        self._see, self._engine, self._heard, self._clock = see, engine, heard, clock
        self.seconds, self.most_waiting = seconds, most_waiting
        self._batch_size, self._in_turns = batch_size, in_turns
        self._linger = _LINGER_IN_TURNS if in_turns else _LINGER
        self._may_decode = threading.Event()
        self._may_decode.set()
        self._changed = threading.Condition()
        self._waiting, self._closed = 0, False
        self._each = each
        self._ready: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._decoders = ThreadPoolExecutor(decoders or max(2, num_threads()), "fieldmark-decode")
        self._teller = ThreadPoolExecutor(1, "fieldmark-tell")
        self._worker = threading.Thread(target=self._work, name="fieldmark-answer", daemon=True)
        self._worker.start()

    @property
    def waiting(self) -> int:
        """How many pictures are accepted and not answered yet."""
        return self._waiting

    @property
    def expected_wait(self) -> float:
        """The seconds after which a picture that comes now would be answered, judging by the latest ones."""
        return self._waiting * self._each

    @property
    def closed(self) -> bool:
        """Whether nothing more is accepted."""
        return self._closed

    @property
    def most_at_once(self) -> int:
        """How many pictures may be accepted and not answered yet: so many that the last one need not wait too long."""
        before = _SHARE_OF_DEADLINE * self.seconds / self._each if self._each else math.inf
        return int(min(self.most_waiting, before + 1))

    def check_room(self, num_pictures: int = 1) -> None:
        """Raise the Refusal with which pictures would be answered now: 413 if there will never be time for so many, 429
        if too many wait, 503 after `close`."""
        if self._closed:
            raise stopping()
        if num_pictures > (most := self.most_at_once):
            raise too_many(num_pictures, most)
        if self._waiting + num_pictures > most:
            raise busy(self.expected_wait)

    def submit(self, thing: Thing) -> Future[Outputs]:
        """Accept a picture. Its answer may also be an ImageError, or a Refusal if the time was over before.

        Raises Refusal as `check_room` does.
        """
        return self.submit_all([thing])[0]

    def submit_all(self, things: Sequence[Thing | Shown]) -> list[Future[Outputs]]:
        """Accept pictures, or views of them: all or none; the rest is as for `submit`."""
        now = self._clock()
        accepted = [_Waiting(thing, now, now + self.seconds) for thing in things]
        with self._changed:
            self.check_room(len(accepted))
            self._waiting += len(accepted)
        for one in accepted:
            one.answer.add_done_callback(self._answered)
            self._decoders.submit(self._decode, one)
        return [one.answer for one in accepted]

    def close(self) -> None:
        """Answer what was accepted, and accept nothing more."""
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._waiting)
        self._decoders.shutdown()
        self._ready.put(None)
        self._worker.join()
        self._teller.shutdown()

    def _answered(self, _: Future[Outputs]) -> None:
        with self._changed:
            self._waiting -= 1
            self._changed.notify_all()

    def _decode(self, one: _Waiting) -> None:
        self._may_decode.wait()
        if not one.answer.set_running_or_notify_cancel():  # whoever asked has gone
            return
        if self._is_late(one):
            return
        try:
            one.shown = one.thing if isinstance(one.thing, Shown) else self._see(one.thing)
        except Exception as error:  # whatever it is, whoever asked is told, and the thread goes on
            one.answer.set_exception(error)
        else:
            self._ready.put(one)

    def _is_late(self, one: _Waiting) -> bool:
        """Whether its time is over; then that is its answer."""
        over = self._clock() >= one.until
        if over:
            one.answer.set_exception(late(self.expected_wait))
        return over

    def _work(self) -> None:
        ended = self._clock()
        while (first := self._ready.get()) is not None:
            batch = [one for one in self._gathered(first) if not self._is_late(one)]
            if batch:
                self._heard(len(batch))
                if self._in_turns:
                    self._may_decode.clear()
                answers = self._computed(batch)
                self._may_decode.set()
                began, ended = max(ended, min(one.since for one in batch)), self._clock()
                self._learn((ended - began) / len(batch))  # from end to end of two batches, unless nobody waited then
                self._teller.submit(_tell, batch, answers)  # so that the next batch need not wait for whoever is told

    def _gathered(self, first: _Waiting) -> list[_Waiting]:
        """What is ready, and what becomes so while it pays to wait."""
        batch, until = [first], self._clock() + self._linger
        while len(batch) < self._batch_size:
            others = self._waiting > len(batch)
            try:
                one = self._ready.get(timeout=max(0.0, until - self._clock()) if others else 0.0)
            except queue.Empty:
                break
            if one is None:  # the end, which comes after this batch
                self._ready.put(None)
                break
            batch.append(one)
        return batch

    def _computed(self, batch: list[_Waiting]) -> list[Outputs | Exception]:
        try:
            (answered,) = stream(
                [one.shown for one in batch if one.shown], _itself, self._engine, batch_size=len(batch)
            )
            assert answered.output is not None
            return [_row(answered.output, at) for at in range(len(batch))]
        except Exception as error:  # likewise
            if len(batch) == 1:
                return [error]
            return [answer for one in batch for answer in self._computed([one])]  # it must not spoil the others

    def _learn(self, each: float) -> None:
        self._each += (_SMOOTHING if self._each else 1.0) * (each - self._each)


def _tell(batch: list[_Waiting], answers: list[Outputs | Exception]) -> None:
    for one, answer in zip(batch, answers, strict=True):
        if isinstance(answer, Exception):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)


def _itself(shown: Shown) -> Shown:
    return shown


def _row(outputs: Outputs, at: int) -> Outputs:
    """The outputs of one picture: N = 1."""
    logits, embedding, attributes = outputs
    return Outputs(logits[at : at + 1], embedding[at : at + 1], tuple(one[at : at + 1] for one in attributes))
