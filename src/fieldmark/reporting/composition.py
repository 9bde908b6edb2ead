"""`compose`: a run's material → the page. To add to the page, write a section and name it in SECTIONS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fieldmark.core.wording import duration
from fieldmark.pages import render
from fieldmark.reporting import answers, training
from fieldmark.reporting.background import background
from fieldmark.reporting.blocks import Section
from fieldmark.reporting.material import Material

__all__ = ["SECTIONS", "compose"]

SECTIONS: Final[tuple[Callable[[Material], Section | None], ...]] = (
    answers.scores,
    training.learning,
    answers.predictions,
    answers.look_alikes,
    answers.classes,
    answers.mistakes,
    answers.slices,
    background,
    training.data,
    training.time,
    training.model,
)
"""In the order of the page; one that has nothing to say gives None."""


def compose(material: Material) -> str:
    """The whole page as HTML."""
    sections = [section for make in SECTIONS if (section := make(material)) is not None]
    return render(
        "report.html",
        title=material.run.folder.resolve().name,
        summary=_summary(material),
        figures=_figures(material),
        notices=_notices(material),
        sections=sections,
    )


def _summary(material: Material) -> str:
    recipe = material.recipe
    size = recipe.images.size
    what = f"{recipe.backbone.name} at {size} px, {recipe.method.name}"
    if not material.data:
        return f"{what}, before it had read its data."
    return f"{what}, taught {len(material.classes):,} classes of {material.data['name']}."


def _figures(material: Material) -> list[tuple[str, str]]:
    shown = material.shown
    figures = []
    if shown is not None:
        top1 = shown.scores["top1"]
        between = f"{100 * top1.low:.1f}–{100 * top1.high:.1f}"
        figures.append((f"{100 * top1.value:.1f} %", f"right, {shown.title} (95 % interval {between})"))
        figures.append((f"{len(shown.mistakes):,}", f"mistakes in {len(shown.answers):,} images"))
    if material.data:
        figures.append((f"{len(material.classes):,}", "classes"))
        figures.append((f"{len(material.images['train']):,}", "images learnt from"))
    if spent := sum(training.stages(material).values()):
        figures.append((duration(spent), "spent"))
    return figures


def _notices(material: Material) -> list[str]:
    """What a reader has to know first. Called last: only then is it known which pictures are missing."""
    folder = material.run.folder
    notices = []
    if not material.run.is_finished:
        notices.append(f"Training is not finished. To go on: fieldmark train … --out {folder} --resume")
    elif material.shown is None:
        notices.append(
            f"There are no predictions yet, so what they would show is missing. Run: fieldmark evaluate {folder}"
        )
    pictures = material.pictures
    if pictures.missing:
        notices.append(
            f"{len(pictures.missing):,} of {pictures.count:,} pictures cannot be read any more (moved, deleted or "
            f"damaged), such as {pictures.missing[0]}. The figures are those of the evaluation. "
            f"If the data was moved: fieldmark report {folder} DATA"
        )
    return notices
