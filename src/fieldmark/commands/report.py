"""Report: what a run holds → one page to look at."""

from __future__ import annotations

import contextlib
import warnings
from dataclasses import replace
from pathlib import Path

from fieldmark.commands.evaluate import opened_run
from fieldmark.commands.explain import Explainer
from fieldmark.commands.listener import Listener
from fieldmark.data.catalog import Catalog
from fieldmark.data.splits import DataWarning
from fieldmark.datasets import read
from fieldmark.errors import DataError, ImageError, RunError
from fieldmark.explaining.explanation import Explanation
from fieldmark.reporting import NUM_PAIRS, Material, Part, compose, gather
from fieldmark.run import Run
from fieldmark.storage import write_bytes

__all__ = ["report"]


def report(
    run: Path | str,
    data: Path | str | Catalog | None = None,
    *,
    root: Path | str | None = None,
    out: Path | str | None = None,
    split: str | None = None,
    listener: Listener | None = None,
) -> Path:
    """Write RUN/report/index.html, or `out`, and return it.

    The page shows `split`; unless told otherwise the test part if it was evaluated, else what training kept back.
    `data` (and `root`, as in `fieldmark.train`) says where the images are now if they were moved. What is missing
    (predictions, pictures) the page says itself, and the listener is warned. Raises RunError where there is no run or
    `split` was not evaluated.
    """
    listener = listener or Listener()
    material = gathered(Path(run), data, root=root, split=split)
    if not material.run.is_finished:
        listener.warn(f"{run} is not finished. To go on: fieldmark train … --out {run} --resume")
    elif material.shown is None:
        listener.warn(f"{run} has no predictions yet. The report will show more after: fieldmark evaluate {run}")
    page = compose(replace(material, explained=_explained(material, listener)))
    if missing := material.pictures.missing:
        count = f"{len(missing):,} of {material.pictures.count:,} pictures"
        hint = f". If the data was moved: fieldmark report {run} DATA" if data is None else ""
        listener.warn(f"{count} cannot be read, such as {missing[0]}{hint}")
    path = Path(out) if out is not None else material.run.folder / "report" / "index.html"
    write_bytes(path, page.encode())
    return path


def _explained(material: Material, listener: Listener) -> dict[tuple[str, str], list[Explanation]]:
    """Each of the most confused pairs: a right answer of either, if there is one, explained against the other."""
    shown, found = material.shown, dict[tuple[str, str], list[Explanation]]()
    if shown is None or not shown.confused or not material.run.is_finished:
        return found
    root = material.catalog.root if material.catalog else None
    try:
        explainer = Explainer(material.run.folder, root=root)
    except RunError as error:  # of another version, or damaged: the rest of the page needs no model
        listener.warn(f"The confused pairs are not explained. {error}")
        return found
    pairs = [(pair.first, pair.second) for pair in shown.confused[:NUM_PAIRS]]
    with listener.progress("Explaining look-alikes") as tick:
        for done, (first, second) in enumerate(pairs):
            tick(done, len(pairs))
            for own, other in ((first, second), (second, first)):
                file = _typical(material, shown, own)
                if file is not None:
                    with contextlib.suppress(ImageError, RunError):  # the report does without
                        found.setdefault((first, second), []).append(explainer(file, other))
    return found


def _typical(material: Material, shown: Part, label: str) -> Path | None:
    """The file of a right answer that is as sure as most of its class."""
    right = sorted((a for a in shown.answers if a.right and a.label == label), key=lambda a: (a.probability, a.path))
    return material.pictures.file(right[len(right) // 2].path) if right else None


def gathered(
    run: Path, data: Path | str | Catalog | None, *, root: Path | str | None = None, split: str | None = None
) -> Material:
    """A run with the catalogue of its data, if that can still be read."""
    opened = Run.open(opened_run(run).folder)
    catalog, lost = None, ""
    if isinstance(data, Catalog):
        catalog = data
    elif source := data or opened.data().get("source"):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DataWarning)  # training has said it
                catalog = read(source, root)
        except DataError as error:
            if data is not None:
                raise
            lost = str(error)
    return gather(opened, catalog, lost=lost, split=split, other=catalog.root if catalog and data else None)
