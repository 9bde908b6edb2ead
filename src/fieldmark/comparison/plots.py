"""The plots of a comparison. Recipes are shown by their rank on the leaderboard where names would collide."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from markupsafe import Markup
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, PercentFormatter

from fieldmark.comparison.leaderboard import Standing
from fieldmark.evaluation.paired import Difference
from fieldmark.pages import ACCENT, FAINT, INK, RIGHT, WRONG, canvas, svg

__all__ = ["accuracy_against_time", "differences", "learning_curves"]

_MOST_CURVES: Final = 4
_LINES: Final = ((ACCENT, "-"), (RIGHT, "-"), (WRONG, "-"), (ACCENT, ":"))


def differences(
    found: Sequence[tuple[str, Difference]], *, title: str, unit: str, scale: float = 1, good: int = 1
) -> Markup:
    """A line for each recipe, with the difference, its interval and a small tick for each seed.

    `good` is 1 if higher is better and -1 if lower is better.
    """
    figure, axes = canvas(height=0.9 + 0.3 * len(found))
    axes.axvline(0, color=INK, linewidth=0.8)
    for at, (_, one) in enumerate(found):
        colour = (RIGHT if one.value * good > 0 else WRONG) if one.is_clear else ACCENT
        axes.plot([scale * one.low, scale * one.high], [at, at], color=colour, linewidth=2)
        axes.plot([scale * one.value], [at], color=colour, marker="o", markersize=6, linestyle="none")
        by_seed = [scale * value for value in one.by_seed]
        axes.plot(by_seed, [at] * len(by_seed), color=INK, marker="|", markersize=8, linestyle="none")
    axes.set_yticks(range(len(found)), [name for name, _ in found])
    axes.set_ylim(len(found) - 0.4, -0.6)
    axes.set(title=title, xlabel=unit)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:+g}".replace("-", "−") if value else "0"))
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.grid(visible=False, axis="y")
    return svg(figure, title=title)


def accuracy_against_time(standings: Sequence[Standing], baseline: str) -> Markup:
    """Accuracy with its interval against the time of one training; the numbers are ranks on the leaderboard."""
    figure, axes = canvas(height=3.4)
    minutes = [max((one.seconds or 0) / 60, 1 / 60) for one in standings]
    for place, (one, x) in enumerate(zip(standings, minutes, strict=True), start=1):
        assert one.accuracy is not None
        colour = INK if one.recipe == baseline else ACCENT
        axes.plot([x, x], [one.accuracy.low, one.accuracy.high], color=FAINT, linewidth=1.5)
        axes.plot([x], [one.accuracy.value], color=colour, marker="o", markersize=5, linestyle="none")
        axes.annotate(str(place), (x, one.accuracy.value), (5, 4), textcoords="offset points", color=colour)
    if max(minutes) > 10 * min(minutes):
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    else:
        axes.set_xlim(left=0)
    axes.margins(x=0.12)
    axes.set(title="Accuracy against training time", xlabel="minutes", ylabel="accuracy")
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    return svg(figure, title="Accuracy against the time of one training")


def learning_curves(standings: Sequence[Standing], baseline: str) -> Markup | None:
    """Validation accuracy over the epochs for the baseline and the best others; None if no recipe has epochs."""
    curves = [one for one in standings if one.curve]
    if not curves:
        return None
    others = [one for one in curves if one.recipe != baseline][:_MOST_CURVES]
    figure, axes = canvas(height=3.4)
    drawn = [*zip(others, _LINES, strict=False), *((one, (INK, "--")) for one in curves if one.recipe == baseline)]
    for one, (colour, style) in drawn:
        epochs = range(1, len(one.curve) + 1)
        axes.plot(epochs, one.curve, color=colour, linestyle=style, label=one.recipe, marker="o", markersize=3)
    axes.legend(frameon=False, labelcolor=INK)
    axes.set(title="Validation accuracy", xlabel="epoch")
    axes.set_ylim(top=min(1.01, axes.get_ylim()[1]))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    return svg(figure, title="Validation accuracy over the epochs, mean over seeds")
