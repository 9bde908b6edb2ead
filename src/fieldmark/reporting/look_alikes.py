"""The most confused pairs of a run, each explained with a typical photograph of either class."""

from __future__ import annotations

import contextlib
from pathlib import Path

from fieldmark.answering.explaining.explainer import Explainer
from fieldmark.answering.explaining.explanation import Explanation
from fieldmark.core.errors import ImageError, RunError
from fieldmark.core.listener import Listener
from fieldmark.reporting.answers import NUM_PAIRS
from fieldmark.reporting.material import Material, Split

__all__ = ["explained_pairs"]


def explained_pairs(material: Material, listener: Listener, *, device: str) -> dict[tuple[str, str], list[Explanation]]:
    """For each of the most confused pairs, a correct answer of either class, if any, explained against the other."""
    shown, found = material.shown, dict[tuple[str, str], list[Explanation]]()
    if shown is None or not shown.confused or not material.run.is_finished:
        return found
    root = material.catalog.root if material.catalog else None
    try:
        explainer = Explainer(material.run.folder, root=root, device=device)
    except RunError as error:  # the bundle is of another version, or damaged: the rest of the page needs no model
        listener.warn(f"The confused pairs are not explained. {error}")
        return found
    pairs = [(pair.first, pair.second) for pair in shown.confused[:NUM_PAIRS]]
    with listener.progress("Explaining look-alikes") as tick:
        for done, (first, second) in enumerate(pairs):
            tick(done, len(pairs))
            for own, other in ((first, second), (second, first)):
                file = _typical(material, shown, own)
                if file is not None:
                    with contextlib.suppress(ImageError, RunError):  # the report can do without
                        found.setdefault((first, second), []).append(explainer(file, other))
    return found


def _typical(material: Material, shown: Split, label: str) -> Path | None:
    """The file of a correct answer of median confidence in its class."""
    right = sorted((a for a in shown.answers if a.right and a.label == label), key=lambda a: (a.probability, a.path))
    return material.pictures.file(right[len(right) // 2].path) if right else None
