"""`Leaderboard` ranks results: which recipe is better than the baseline, by how much, and how certain that is.

Shapes: N images, S seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.comparison.result import Result
from fieldmark.core.wording import counted
from fieldmark.evaluation.metrics import Score, widened, wilson_interval
from fieldmark.evaluation.paired import Difference, interval, resampled_means

__all__ = ["TITLES", "Leaderboard", "Standing", "rank"]

Floats: TypeAlias = NDArray[np.float64]
_Figure: TypeAlias = tuple[str, str]
"""Recipe and name, such as ("probe", "gain")."""

TITLES: Final = {"val": "validation split", "crossfit": "out-of-fold answers", "test": "test split"}
_CHANCE: Final = 0.05
"""The probability that a 95 % interval excludes zero if there is no difference."""
_ENOUGH: Final = 20
"""The fewest units for which percentile intervals can be trusted; with fewer they are too narrow."""


@final
@dataclass(frozen=True)
class Standing:
    """One recipe with the figures of its finished runs, averaged over seeds."""

    recipe: str
    seeds: tuple[int, ...]
    """The seeds that are finished; without any, everything below is None or empty."""
    accuracy: Score | None = None
    by_seed: tuple[float, ...] = ()
    nll: Score | None = None
    gain: Difference | None = None
    """The accuracy minus the baseline's; None for the baseline itself, or without a common seed."""
    nll_change: Difference | None = None
    """The negative log-likelihood minus the baseline's; below zero is better."""
    seconds: float | None = None
    learning_speed: float | None = None
    answering_speed: float | None = None
    """The speeds of training and inference in images per second."""
    memory: Mapping[str, int] | None = None
    """The bytes used by the seed that used most."""
    num_parameters: int | None = None
    curve: tuple[float, ...] = ()
    """The validation accuracy after each epoch."""

    @property
    def spread(self) -> float | None:
        """The standard deviation of the accuracy over seeds, estimated from S of them; None for fewer than two."""
        return float(np.std(self.by_seed, ddof=1)) if len(self.by_seed) > 1 else None

    @property
    def verdict(self) -> str:
        """The conclusion about this recipe and the baseline; "" for the baseline itself."""
        if self.gain is None:
            return ""
        if not self.gain.is_clear:
            return "no clear difference"
        word = "better" if self.gain.value > 0 else "worse"
        return word if self.gain.in_every_seed else f"{word}, but not for every seed"


@final
@dataclass(frozen=True, repr=False)
class Leaderboard:
    """Recipes by accuracy, the best first; recipes without a finished run come last."""

    data: str
    split: str
    num_images: int
    num_units: int
    """The number of units resampled for the intervals: images, where bursts and near-duplicates count as one."""
    baseline: str
    seeds: tuple[int, ...]
    """The seeds that were asked for."""
    standings: tuple[Standing, ...]
    failures: Mapping[str, str] = field(default_factory=dict)
    """Why a run, such as "finetune-2", did not finish."""
    notices: tuple[str, ...] = ()
    """What a reader must know, such as further differences between the recipes."""
    folder: Path | None = None

    def __repr__(self) -> str:
        places = [f"{one.recipe} {100 * one.accuracy.value:.1f} %" for one in self.standings if one.accuracy]
        places += [f"{counted(len(self.missing), 'run')} to go"] if self.missing else []
        places += [f"{counted(len(self.failures), 'run')} failed"] if self.failures else []
        return f"Leaderboard({self.data!r}, {TITLES[self.split]}: {', '.join(places)})"

    @property
    def missing(self) -> list[str]:
        """The runs that are not finished yet."""
        runs = [f"{one.recipe}-{seed}" for one in self.standings for seed in self.seeds if seed not in one.seeds]
        return [run for run in runs if run not in self.failures]

    @cached_property
    def compared(self) -> list[Standing]:
        """The recipes that can be compared with the baseline."""
        return [one for one in self.standings if one.gain is not None]

    @property
    def clear(self) -> int:
        """The number of intervals that exclude zero."""
        return sum(one.gain is not None and one.gain.is_clear for one in self.standings)

    @property
    def clear_by_chance(self) -> float:
        """The number of intervals that would exclude zero on average if no recipe differed from the baseline."""
        return _CHANCE * len(self.compared)

    def __getitem__(self, recipe: str) -> Standing:
        return next(one for one in self.standings if one.recipe == recipe)

    def sheet(self) -> tuple[list[str], list[list[Any]]]:
        """The contents of leaderboard.csv: a header and a row for each recipe."""
        rows = []
        for one in self.standings:
            row = {"recipe": one.recipe, "seeds": len(one.seeds)}
            for name in ("accuracy", "gain", "nll", "nll_change"):
                found = getattr(one, name)
                for suffix, key in (("", "value"), ("_low", "low"), ("_high", "high")):
                    row[name + suffix] = "" if found is None else f"{getattr(found, key):.4f}"
            spread = "" if one.spread is None else f"{one.spread:.4f}"
            row |= {"spread": spread, "verdict": one.verdict, "seconds": one.seconds}
            row |= {"learning_speed": one.learning_speed, "answering_speed": one.answering_speed}
            row |= {f"memory_{kind}": (one.memory or {}).get(kind, "") for kind in ("process", "gpu")}
            rows.append(row | {"num_parameters": one.num_parameters})
        return list(rows[0]), [list(row.values()) for row in rows]

    def as_dict(self) -> dict[str, Any]:
        """The contents of leaderboard.json."""
        return {
            "data": self.data,
            "split": self.split,
            "num_images": self.num_images,
            "num_units": self.num_units,
            "baseline": self.baseline,
            "seeds": list(self.seeds),
            "intervals": {"clear": self.clear, "clear_by_chance": round(self.clear_by_chance, 3)},
            "missing": self.missing,
            "failures": dict(self.failures),
            "notices": list(self.notices),
            "standings": [_as_dict(one) for one in self.standings],
        }


def rank(
    results: Mapping[tuple[str, int], Result],
    *,
    recipes: Sequence[str],
    seeds: Sequence[int],
    baseline: str,
    units: NDArray[np.int64],
    data: str,
    split: str,
    notices: Sequence[str] = (),
    failures: Mapping[str, str] | None = None,
    folder: Path | None = None,
) -> Leaderboard:
    """Rank the results that exist, given by (recipe, seed).

    Each figure is averaged over seeds and then over images, and its interval resamples images; `units` (N,) says
    which of them belong together. A difference is taken over the seeds that both recipes have.
    """
    runs = {name: {seed: results[name, seed] for seed in seeds if (name, seed) in results} for name in recipes}
    found = _estimated(_columns(runs, baseline), units)
    num_units = len(np.unique(units))
    standings = [_standing(name, own, found, num_units) for name, own in runs.items()]
    return Leaderboard(
        data=data,
        split=split,
        num_images=len(units),
        num_units=num_units,
        baseline=baseline,
        seeds=tuple(seeds),
        standings=tuple(sorted(standings, key=lambda one: -one.accuracy.value if one.accuracy else 1)),
        failures=dict(failures or {}),
        notices=(*notices, *(_few(num_units) if found else ())),
        folder=folder,
    )


def _few(num_units: int) -> tuple[str, ...]:
    if num_units >= _ENOUGH:
        return ()
    return (f"With fewer than {_ENOUGH} independent images, the intervals are narrower than they should be.",)


def _columns(runs: Mapping[str, Mapping[int, Result]], baseline: str) -> dict[_Figure, list[Floats]]:
    """The figures of every image, with shape (N,) for each seed."""
    columns: dict[_Figure, list[Floats]] = {}
    for name, own in runs.items():
        if not own:
            continue
        columns[name, "accuracy"] = [run.correct.astype(float) for run in own.values()]
        columns[name, "nll"] = [run.nll.astype(float) for run in own.values()]
        if name != baseline and (
            pairs := [(own[seed], runs[baseline][seed]) for seed in own if seed in runs[baseline]]
        ):
            columns[name, "gain"] = [a.correct.astype(float) - b.correct for a, b in pairs]
            columns[name, "nll_change"] = [a.nll.astype(float) - b.nll for a, b in pairs]
    return columns


def _estimated(columns: Mapping[_Figure, Sequence[Floats]], units: NDArray[np.int64]) -> dict[_Figure, Difference]:
    """The mean of each figure over seeds and images, its interval and its mean for each seed."""
    if not columns:
        return {}
    means = np.stack([np.mean(values, axis=0) for values in columns.values()], axis=1)
    replicates = resampled_means(means, units)  # all at once, so that every comparison resamples the same images
    found = {}
    for at, (figure, by_seed) in enumerate(columns.items()):
        value = float(means[:, at].mean())
        low, high = interval(value, replicates[:, at])
        if figure[1] == "gain":  # if no resample differs, that is still not certain
            low, high = widened(low, high, replicates[:, at], units, -1.0, 1.0)
        found[figure] = Difference(value, low, high, tuple(float(one.mean()) for one in by_seed))
    return found


def _standing(name: str, runs: Mapping[int, Result], found: Mapping[_Figure, Difference], num_units: int) -> Standing:
    if not runs:
        return Standing(name, ())
    results = list(runs.values())
    curves = [run.curve for run in results]
    accuracy, nll = found[name, "accuracy"], found[name, "nll"]
    # if all answers are correct, no resample differs, which is still not certain
    least, most = wilson_interval(np.array([accuracy.value]), num_units)
    return Standing(
        recipe=name,
        seeds=tuple(runs),
        accuracy=Score(accuracy.value, min(accuracy.low, float(least[0])), max(accuracy.high, float(most[0]))),
        by_seed=accuracy.by_seed,
        nll=Score(nll.value, nll.low, nll.high, percent=False),
        gain=found.get((name, "gain")),
        nll_change=found.get((name, "nll_change")),
        seconds=_mean([run.seconds for run in results]),
        learning_speed=_mean([run.learning_speed for run in results]),
        answering_speed=_mean([run.answering_speed for run in results]),
        memory={
            kind: max(run.memory.get(kind, 0) for run in results)
            for kind in sorted({kind for run in results for kind in run.memory})
        },
        num_parameters=results[0].num_parameters,
        curve=tuple(np.mean(curves, axis=0).tolist()) if len({len(curve) for curve in curves}) == 1 else (),
    )


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _as_dict(one: Standing) -> dict[str, Any]:
    plain = {name: value for name, value in vars(one).items() if name not in ("accuracy", "nll", "gain", "nll_change")}
    return {
        "recipe": plain.pop("recipe"),
        "seeds": list(plain.pop("seeds")),
        "verdict": one.verdict,
        **{
            name: value and value.as_dict()
            for name, value in (
                ("accuracy", one.accuracy),
                ("gain", one.gain),
                ("nll", one.nll),
                ("nll_change", one.nll_change),
            )
        },
        "spread": one.spread,
        **{name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()},
    }
