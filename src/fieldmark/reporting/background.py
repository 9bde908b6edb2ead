"""The section about background reliance, if it was measured."""

from __future__ import annotations

from pathlib import Path

from fieldmark.core.errors import ImageError
from fieldmark.core.reading import read_json
from fieldmark.core.wording import counted
from fieldmark.data.decode import decode
from fieldmark.evaluation.background import VIEWS
from fieldmark.evaluation.metrics import Score
from fieldmark.pages import picture
from fieldmark.reporting.blocks import Block, Gallery, Interval, Picture, Section, Table, Text
from fieldmark.reporting.material import Material
from fieldmark.runs.facts import Background, View, ViewedImage

__all__ = ["background", "read_background"]


def read_background(material: Material) -> Background | None:
    """What was measured on the split that is shown; None if nothing was."""
    if material.shown is None:
        return None
    path = material.run.evaluation(material.shown.name) / "background.json"
    return read_json(path, Background) if path.is_file() else None


def background(material: Material) -> Section | None:
    """How accurate the model is when backgrounds are exchanged."""
    if material.shown is None or (found := read_background(material)) is None:
        return None
    folder = material.run.evaluation(material.shown.name)
    bad = "remedy" in found["advice"]
    measured = {str(name): Score.of(values) for name, values in found["accuracy"].items()}
    rows = tuple((title, Interval(measured[name])) for name, title in VIEWS.items() if name in measured)
    blocks: list[Block] = [
        Text(f"{found['advice']}.", "warn" if bad else ""),
        Table(("object shown", "accuracy"), rows),
        Text(
            f"Measured on {counted(found['num_images'], 'image')}, with the object located by {found['known_by']}. "
            f"Always naming the most common class would score {100 * found['chance']:.1f} %. "
            "The exchanged backgrounds are from training images.",
            "soft",
        ),
    ]
    for example in found["examples"]:
        views = tuple(_view(folder, example, name) for name in example["files"] if name in example["said"])
        blocks += [Text(f"True class: {example['label']}"), Gallery(views, small=True)]
    return Section("background", "Background", tuple(blocks))


def _view(folder: Path, example: ViewedImage, name: View) -> Picture:
    right = example["said"][name] == example["label"]
    try:
        image = picture(decode(folder / example["files"][name]).pixels, side=160, quality=75)
    except ImageError:  # deleted since
        image = None
    return Picture(image, example["path"], (VIEWS[name], f"{'✓' if right else '✗'} {example['said'][name]}"), right)
