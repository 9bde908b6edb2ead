"""The report's plots."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator, PercentFormatter

from fieldmark.evaluation import scaling
from fieldmark.pages import ACCENT, FAINT, INK, canvas, svg
from fieldmark.reporting.material import Answer

__all__ = ["learning_curves", "reliability", "risk_coverage"]


def learning_curves(history: Sequence[Mapping[str, Any]]) -> list[Markup]:
    """Loss and, where there is a validation part, accuracy on it, over the epochs.

    Where the model is a training of its own, folds beside it are drawn thin; of a soup all are members.
    """
    plots = [_curve(history, "loss", "Training loss")]
    if any("val_top1" in line for line in history):
        plots.append(_curve(history, "val_top1", "Validation accuracy"))
    return plots


def _curve(history: Sequence[Mapping[str, Any]], key: str, title: str) -> Markup:
    figure, axes = canvas()
    fits = list(dict.fromkeys(line["fit"] for line in history))
    kinds = {fit: "folds" if fit.startswith("fold") else "members" if "member 2" in fits else "model" for fit in fits}
    for fit, kind in kinds.items():
        points = [(line["epoch"], line[key]) for line in history if line["fit"] == fit and key in line]
        main = kind != "folds"
        axes.plot(*zip(*points, strict=True), color=ACCENT if main else INK, linewidth=1.8 if main else 0.7, marker="o")
        axes.lines[-1].set_markersize(3 if main else 0)
        if kind not in (line.get_label() for line in axes.lines):
            axes.lines[-1].set_label(kind)
    if len(fits) > 1:
        axes.legend()
    axes.set(title=title, xlabel="epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if key == "val_top1":
        axes.yaxis.set_major_formatter(PercentFormatter(1))
    else:
        axes.set_ylim(bottom=0)
    return svg(figure, title=f"{title} over the epochs")


def reliability(answers: Sequence[Answer]) -> Markup:
    """How often the top answer is right against how sure it was: bins of equally many images with Wilson intervals.

    On the diagonal the probabilities mean what they say.
    """
    confidence = np.array([answer.probability for answer in answers])
    right = np.array([answer.right for answer in answers])
    figure, axes = canvas(height=3.4)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle="--")
    for point in scaling.reliability(confidence, right):
        axes.plot([point.confidence] * 2, [point.low, point.high], color=ACCENT, linewidth=1.2)
        axes.plot([point.confidence], [point.accuracy], color=ACCENT, marker="o", markersize=4)
    axes.set(title="Is it right as often as it is sure?", xlabel="probability of the answer", ylabel="share right")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    return svg(figure, title="Reliability diagram of the top answer")


def risk_coverage(risk: Sequence[float]) -> Markup:
    """What share of the answers is wrong when only the surest 0, …, 100 % are given."""
    figure, axes = canvas(height=3.4)
    axes.plot(np.linspace(0, 1, len(risk)), risk, color=ACCENT)
    axes.set(title="How wrong, if only the surest are answered?", xlabel="share answered", ylabel="of these wrong")
    axes.set(xlim=(0, 1.02), ylim=(0, max(0.05, 1.1 * max(risk))))
    axes.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))  # 2.5 % would be told as 2 %
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    return svg(figure, title="Risk–coverage curve of class answers")
