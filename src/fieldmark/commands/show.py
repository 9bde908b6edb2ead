"""Show: some predictions as a figure, for notebooks."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fieldmark.core.errors import RunError
from fieldmark.data.catalog import Catalog
from fieldmark.pages import legible, shortened
from fieldmark.reporting.gathering import gathered
from fieldmark.reporting.material import Answer, Material

__all__ = ["show"]

RIGHT, WRONG = "#2f7d4f", "#b3412f"
_PIXELS = 224


@final
class _Grid(Figure):
    """A figure that notebooks display on their own, without pyplot and its global state."""

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.savefig(data, format="png", dpi=100)
        return data.getvalue()


def show(
    run: Path | str,
    count: int = 9,
    *,
    split: str | None = None,
    seed: int = 0,
    data: Path | str | Catalog | None = None,
) -> Figure:
    """`count` random predictions in a grid, each with the predicted and the actual class as its title.

    A notebook displays the figure; `figure.savefig("grid.png")` saves it. It shows `split`: by default the test split
    if it was evaluated, otherwise the validation data. Raises RunError if nothing was evaluated.
    """
    material = gathered(Path(run), data, split=split)
    if material.shown is None:
        raise RunError(f"{run} has no predictions to show", f"Run `fieldmark evaluate {run}` first.")
    answers = material.shown.sample(count, seed)
    columns = math.ceil(math.sqrt(len(answers)))
    rows = math.ceil(len(answers) / columns)
    figure = _Grid(figsize=(2.6 * columns, 2.9 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for axes, answer in zip(grid.flat, answers, strict=False):
        _draw(axes, material, answer)
    legible(figure)
    return figure


def _draw(axes: Axes, material: Material, answer: Answer) -> None:
    pixels = material.pictures.pixels(answer.path, side=_PIXELS)
    if pixels is None:
        axes.text(0.5, 0.5, "picture not found", ha="center", va="center")
    else:
        axes.imshow(pixels)
    mark = "✓" if answer.right else "✗"  # not by colour alone
    predicted = shortened(answer.predicted, 20)
    said = f"predicted: {predicted}" if answer.promised else f"likely {predicted}, not vouched for"
    title = f"{mark} {said}\nactual: {shortened(answer.label, 20)}"
    axes.set_title(title, fontsize=9, color=RIGHT if answer.right else WRONG, parse_math=False)
