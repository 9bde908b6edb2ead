"""What fits into a budget: arithmetic on measured costs, without torch.

All costs are in the budget's unit, seconds or images. Successive halving (Jamieson & Talwalkar, "Non-stochastic best
arm identification and hyperparameter optimization", 2016): all contenders get the same, and the better half goes on.
Deviation: what a contender has learnt is kept, so the winner has lost only what the others took, a quarter at most.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

__all__ = ["ENOUGH_STEPS", "FEWEST_STEPS", "Heats", "Way", "heats", "preferred", "probe_size", "with_rivals"]

ENOUGH_STEPS = 300
"""For a head that begins at random, which takes most of fewer steps to learn anything."""
_TIERS = ENOUGH_STEPS, 100, 30
"""Numbers of steps that make a difference; fewer than the last are no training."""
FEWEST_STEPS = _TIERS[-1]
_WHOLE = 600
"""For all stages to learn: a training without a budget has at least as many. Early stages learn little in fewer, and
frozen ones leave time for twice the steps."""
_HEAT_STEPS = 60
"""After fewer, validation images tell little about a contender."""
_HEAT_SHARE = 0.2
"""After a smaller share of a rival recipe's whole training they tell little about it: it has more to learn at first."""
_SMALLER = 1.5
"""The factor by which the pictures of a probe may be larger than those of a network with few steps."""
_LOST = 0.25
"""The most that contenders who lose may take, as a share."""


@dataclass(frozen=True)
class Way:
    """A way to train a network, and what it costs."""

    backbone: str
    size: int
    freeze: int
    """Early stages of the backbone that stay as they are."""
    probe: float
    """The accuracy of a probe on its features; 0 where that is not known."""
    begin: float
    """Until the first step: weights, statistics, pictures of another size."""
    step: float
    judge: float
    """To answer the validation images once."""
    finish: float
    """After the last step: answers, the calibration, the bundle."""
    start: Literal["random", "logistic"] = "random"
    """How its head starts."""
    recipe: str = ""
    """The name of another recipe than that which was asked for."""
    whole: int = 0
    """The steps of that recipe without a budget; 0 for the one that was asked for."""

    @property
    def name(self) -> str:
        """How it is told from the others."""
        recipe = f"{self.recipe}, " if self.recipe else ""
        frozen = f", {self.freeze} stages frozen" if self.freeze else ""
        return f"{recipe}{self.backbone} at {self.size} px{frozen}"

    def steps(self, left: float) -> int:
        """How many it takes before `left` is spent."""
        return max(0, math.floor((left - self.begin - self.finish) / self.step))

    def fits_whole(self, left: float) -> bool:
        """Whether it has its recipe's own steps if it wins, when those who lose have taken their share."""
        return self.steps((1 - _LOST) * left) >= self.whole

    @property
    def trial(self) -> float:
        """What the fewest steps cost after which it can be judged."""
        return max(_HEAT_STEPS, math.ceil(_HEAT_SHARE * self.whole)) * self.step


def preferred(ways: Sequence[Way], left: float, probe_size: int = 0) -> list[Way]:
    """Those worth trying, the likeliest first: those with enough steps, and of these the largest pictures, then those
    whose stages all learn if there is time for a whole training and otherwise the most frozen ones, then the best
    features. Pictures come before further steps: a mark that is too small is not learnt at all.

    With few steps, a network on pictures much smaller than those of a probe, `probe_size`, will not be better than it.
    """
    able = [
        way for way in ways if way.steps(left) >= (FEWEST_STEPS if _SMALLER * way.size >= probe_size else ENOUGH_STEPS)
    ]

    def rank(way: Way) -> tuple[float, ...]:
        steps = way.steps(left)
        missed, short = sum(steps < least for least in _TIERS), steps < _WHOLE
        return missed, -way.size, short, -way.freeze if short else way.freeze, -way.probe

    return sorted(able, key=rank)


def with_rivals(ways: Sequence[Way], rivals: Sequence[Way], left: float) -> list[Way]:
    """`ways`, the likeliest first, and behind the first of them each rival recipe that may win.

    What rivals are worth is known from whole trainings only. So each must have that many steps left if it wins, and has
    the largest pictures for which it does.
    """
    best = dict[str, Way]()
    for way in sorted(rivals, key=lambda way: way.size):
        if way.fits_whole(left):
            best[way.recipe] = way
    names = dict.fromkeys(way.recipe for way in rivals)
    return [*ways[:1], *(best[name] for name in names if name in best), *ways[1:]]


@dataclass(frozen=True)
class Heats:
    """Contenders, the likeliest first, and what each may spend on steps in a round after which half of them go."""

    ways: tuple[Way, ...]
    each: float = 0.0

    @property
    def lost(self) -> float:
        """The most that is not spent on the winner's steps."""
        return _overhead(self.ways) + _rounds_lost(len(self.ways)) * self.each


def heats(ways: Sequence[Way], left: float) -> Heats:
    """How many of `ways`, the likeliest first, are tried against each other: four, three, two, or the first alone.

    Only where each can show something, and the winner has enough steps left.
    """
    for number in (4, 3, 2):
        some = tuple(ways[:number])
        if len(some) == number and min(way.steps((1 - _LOST) * left) for way in some) >= ENOUGH_STEPS:
            free = left - max(way.finish for way in some)
            each = (_LOST * free - _overhead(some)) / _rounds_lost(number)
            if each >= max(way.trial for way in some):
                return Heats(some, each)
    return Heats(tuple(ways[:1]))


def _rounds_lost(number: int) -> int:
    """What the losers take: of two or three, each takes one round; of four, two take one and one takes two."""
    return {4: 4, 3: 2, 2: 1}.get(number, 0)


def _overhead(ways: Sequence[Way]) -> float:
    """Beginning and judging, in each round anew."""
    rounds = len(ways).bit_length() - 1
    return sum(rounds * (way.begin + way.judge) for way in ways)


def probe_size(costs: Mapping[int, float], left: float, share: float) -> int | None:
    """The largest size whose probe takes no more than `share` of what is left; if there is none, the smallest.

    None if that does not fit either, with a fifth to spare: nothing of it can be left out later.
    """
    if fitting := [size for size, cost in costs.items() if cost <= share * left]:
        return max(fitting)
    smallest = min(costs)
    return smallest if 1.25 * costs[smallest] <= left else None
