"""`compose` turns the material of a run into the page. To add to the page, write a section and list it in SECTIONS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from fieldmark.core.wording import counted, duration
from fieldmark.pages import render
from fieldmark.reporting import answers, training
from fieldmark.reporting.background import background
from fieldmark.reporting.blocks import Section
from fieldmark.reporting.budgeted import budget
from fieldmark.reporting.material import Material

__all__ = ["SECTIONS", "compose"]

SECTIONS: Final[tuple[Callable[[Material], Section | None], ...]] = (
    answers.scores,
    training.changed,
    training.learning,
    budget,
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
"""The sections in the order of the page; a section with nothing to show returns None."""


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
        return f"{what}. It has not read its data yet."
    return f"{what}, trained on {len(material.classes):,} classes of {material.data['name']}."


def _figures(material: Material) -> list[tuple[str, str]]:
    shown = material.shown
    figures = []
    if shown is not None:
        top1 = shown.scores["top1"]
        between = f"{100 * top1.low:.1f}–\N{WORD JOINER}{100 * top1.high:.1f}"
        figures.append((f"{100 * top1.value:.1f} %", f"accuracy, {shown.title} (95 % interval {between})"))
        mistakes = len(shown.mistakes)
        word = "mistake" if mistakes == 1 else "mistakes"
        figures.append((f"{mistakes:,}", f"{word} in {counted(len(shown.answers), 'image')}"))
    if material.data:
        figures.append((f"{len(material.classes):,}", "classes"))
        figures.append((f"{len(material.images['train']):,}", "training images"))
    if spent := sum(training.stages(material).values()):
        figures.append((duration(spent), "total time"))
    return figures


def _notices(material: Material) -> list[str]:
    """What a reader must know first. This is called last, since only then is it known which pictures are missing."""
    folder = material.run.folder
    notices = []
    if not material.run.is_finished:
        notices.append(f"Training is not finished. To continue: fieldmark train … --out {folder} --resume")
    elif material.shown is None:
        notices.append(
            f"There are no predictions yet, so the sections about them are missing. Run: fieldmark evaluate {folder}"
        )
    elif material.shown.enrolment != material.enrolment:
        notices.append(
            "Classes were enrolled, renamed or removed since: these scores are of the model before. "
            f"Run: fieldmark evaluate {folder}"
        )
    pictures = material.pictures
    if pictures.missing:
        notices.append(
            f"{len(pictures.missing):,} of {counted(pictures.count, 'picture')} can no longer be read (moved, deleted "
            f"or damaged), such as {pictures.missing[0]}. The scores are not affected. "
            f"If the data was moved: fieldmark report {folder} DATA"
        )
    return notices
