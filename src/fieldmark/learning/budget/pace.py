"""How many steps a training takes, when only what they may cost is given: estimated anew at each step.

The learning rate follows the share of the budget that is used, not a number of steps that was fixed beforehand (Li,
Yumer & Ramanan, "Budgeted training: rethinking deep neural network training under resource constraints", 2020). A step
is taken as the n-th of those that are done and those that still fit. So whatever the speed of the machine does, the
rate has fallen to zero when the budget ends. Deviation: theirs falls linearly, ours as the recipe says.
"""

from __future__ import annotations

import math
from typing import final

from fieldmark.learning.budget.budget import Meter

__all__ = ["Pace"]

_MEMORY = 0.8
"""The weight of earlier steps in the cost of the next: other work on the machine comes and goes within seconds."""
_SLOWEST = 2.0
"""The factor up to which a slower machine makes the reserve larger."""


@final
class Pace:
    """`pace(step)` is how many steps there will be, when so many are done. It equals `step` when it is time to stop."""

    def __init__(
        self, meter: Meter, *, step: float, batch: int, reserve: float, pause: float | None = None, most: int = 2**31
    ) -> None:
        """`step` is what a step of `batch` images is thought to cost, `reserve` what must be left after the last one.

        With `pause`, the training pauses when its steps have cost so much, though its rate falls as if it went on. It
        takes `most` steps in all.
        """
        self.step, self.done = step, 0
        self._meter, self._batch, self._reserve, self._most = meter, batch, reserve, most
        self._pause = math.inf if pause is None else pause
        self._first = self._before = -1.0
        self._costs: list[float] = []

    def __call__(self, step: int) -> int:
        taken, self.done = step - self.done, step
        if self._first < 0:  # what was taken in earlier sittings is paid
            self._first = self._before = self._meter.spent
        elif taken > 0:
            self._meter.look(self._batch * taken)
            self._learn((self._meter.spent - self._before) / taken)
            self._before = self._meter.spent
        spent = self._before
        if spent - self._first + self.step > self._pause:
            return step
        left = self._meter.budget.amount - spent - self._reserve * self._slowed
        return max(step, min(self._most, step + math.floor(left / self.step)))

    @property
    def taken(self) -> float:
        """What its steps have cost so far, in the budget's unit."""
        return self._before - self._first

    @property
    def _slowed(self) -> float:
        """How much slower the machine has become: what follows the last step is slower as well."""
        return min(_SLOWEST, max(1.0, self.step / self._costs[1])) if len(self._costs) > 1 else 1.0

    def _learn(self, cost: float) -> None:
        """The first step also makes memory and threads ready, so it counts only for want of others."""
        self._costs.append(max(cost, 1e-9))
        first = len(self._costs) <= 2
        self.step = self._costs[-1] if first else _MEMORY * self.step + (1 - _MEMORY) * self._costs[-1]
