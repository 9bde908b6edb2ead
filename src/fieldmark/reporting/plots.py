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
    """The loss over the epochs and, if there is a validation split, the accuracy on it.

    Folds are drawn thinner than the final model; the trainings of a soup are all drawn as members.
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
    """The accuracy of the top answer against its probability, in bins of equally many images with Wilson intervals.

    On the diagonal, the probabilities are well calibrated.
    """
    confidence = np.array([answer.probability for answer in answers])
    right = np.array([answer.right for answer in answers])
    figure, axes = canvas(height=3.4)
    axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1.2, linestyle="--")
    for point in scaling.reliability(confidence, right):
        axes.plot([point.confidence] * 2, [point.low, point.high], color=ACCENT, linewidth=1.2)
        axes.plot([point.confidence], [point.accuracy], color=ACCENT, marker="o", markersize=4)
    axes.set(title="Is it as accurate as it is confident?", xlabel="probability of the answer", ylabel="accuracy")
    axes.set(xlim=(0, 1.02), ylim=(0, 1.02))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    return svg(figure, title="Reliability diagram of the top answer")


def risk_coverage(risk: Sequence[float]) -> Markup:
    """The error rate when only the most confident 0, …, 100 % of the answers are given."""
    figure, axes = canvas(height=3.4)
    axes.plot(np.linspace(0, 1, len(risk)), risk, color=ACCENT)
    axes.set(title="Errors when only the surest are answered", xlabel="share answered", ylabel="error rate")
    axes.set(xlim=(0, 1.02), ylim=(0, max(0.05, 1.1 * max(risk))))
    axes.yaxis.set_major_locator(MaxNLocator(steps=[1, 2, 5, 10]))  # 2.5 % would be written as 2 %
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1, decimals=0))
    return svg(figure, title="Risk–coverage curve of class answers")
