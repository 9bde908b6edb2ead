"""Doubt: labels of a run's data that are probably wrong, and a page on which a person decides about them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fieldmark.answering.explaining.drawing import FOR, outlined
from fieldmark.answering.explaining.explainer import Explainer
from fieldmark.answering.predictor import Predictor
from fieldmark.core.claims import claim
from fieldmark.core.errors import FieldmarkError, RunError
from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.machine import AUTO
from fieldmark.core.storage import write_bytes, write_rows
from fieldmark.core.wording import counted
from fieldmark.data.catalog import Catalog
from fieldmark.labelling.collecting import answered, copies_of, unseen_probabilities
from fieldmark.labelling.doubts import find_doubts
from fieldmark.labelling.page import Beside, Item, compose_labelling, pictured, shown_file
from fieldmark.labelling.suspects import COLUMNS, Suspect, conflicts, suspects
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.opening import catalog_of, opened_run

__all__ = ["doubt"]

_LEARNT = ("train", "val")


def doubt(
    run: Path | str,
    *,
    root: Path | str | None = None,
    out: Path | str | None = None,
    most: int = 100,
    evidence: int = 0,
    device: str = AUTO,
    listener: Listener | None = None,
) -> tuple[Suspect, ...]:
    """Find labels of the run's training and validation images that are probably wrong, the most doubtful first.

    Two witnesses are heard: models that have not seen an image (the run's own folds if it is a cross-fit, else a probe
    that is cross-fitted on its embeddings), and the images that look most like it. Pictures with copies under another
    label or in another split come first. What has been decided before is left out. `out`, by default RUN/doubts, gets
    `doubts.csv` and `index.html`, where `most` are decided by keyboard; `evidence` is the number of doubts for which
    the page also shows where the network sees the difference, which takes some seconds each. Nothing in the data is
    changed: give what the page saves to `fieldmark.train(decisions=…)`. Raises RunError and DataError.
    """
    listener = listener or Listener()
    opened, predictor = opened_run(Path(run)), Predictor.load(run, device=device)
    if not opened.exists:
        raise RunError(f"{run} is a bundle alone, which does not know its training images", "Give the run's folder.")
    folder = Path(out) if out is not None else opened.folder / "doubts"
    claim(folder, "doubts")
    with relayed_warnings(listener):
        catalog = catalog_of(opened, None, root, listener)
    copies = copies_of(catalog, listener)
    rows = np.flatnonzero(np.isin(catalog.splits, _LEARNT))
    seen = answered(predictor, catalog, rows, copies, listener, stage="Looking at the images")
    seen, probabilities = unseen_probabilities(opened, seen, listener)
    doubts = find_doubts(probabilities, seen.outputs.embedding, seen.labels, seen.units)
    passed = {one.path for one in opened.decisions()}
    asked = [*conflicts(seen.catalog, copies), *(one.among(seen.rows) for one in doubts)]
    found = suspects(seen.catalog, asked, passed)
    write_rows(folder / "doubts.csv", COLUMNS, (one.row() for one in found))
    explained = _explained(predictor, catalog, found[:evidence], listener)
    items = [_item(one, catalog, explained.get(one.path, ()), predictor.bundle) for one in found[:most]]
    page = compose_labelling(
        "doubt",
        items,
        predictor.classes,
        title=f"Labels in doubt: {catalog.name}",
        intro=_intro(len(found), len(items), len(seen.rows)),
        file="decisions.csv",
        then=f"fieldmark train {opened.folder} --decisions decisions.csv",
    )
    write_bytes(folder / "index.html", page.encode())
    listener.hear(Done("doubt", folder))
    return found


def _intro(found: int, shown: int, looked_at: int) -> str:
    if not found:
        return f"Of {counted(looked_at, 'image')}, none is in doubt."
    rest = f" The page shows the first {shown:,}; doubts.csv lists them all." if shown < found else ""
    return (
        f"{found:,} of {counted(looked_at, 'label')} {'is' if found == 1 else 'are'} worth a look, the most doubtful "
        f"first. Accept what is right: a doubt is a question, not a mistake.{rest}"
    )


def _item(one: Suspect, catalog: Catalog, explained: Sequence[Beside], bundle: Bundle) -> Item:
    def picture(path: str, *, small: bool = True) -> str | None:
        return shown_file(catalog.file_at(path), small=small, grey_bits=bundle.images.grey_depth) if path else None

    titles = {"label": "most alike of the suggested class", "copy": "the same picture", "leak": "the same picture"}
    beside = [Beside(picture(one.other), titles[one.kind], one.other_label)] if one.other else []
    beside += [Beside(picture(one.same), "most alike of its own class", one.label)] if one.same else []
    return Item(
        one.path,
        one.label,
        one.candidates,
        one.label,
        picture(one.path, small=False),
        one.facts,
        (*beside, *explained),
    )


def _explained(
    predictor: Predictor, catalog: Catalog, found: Sequence[Suspect], listener: Listener
) -> dict[str, tuple[Beside, ...]]:
    """Where the network sees what tells the label from the suggested class, by path."""
    if not found:
        return {}
    explainer, told = Explainer(predictor, root=catalog.root), dict[str, tuple[Beside, ...]]()
    with listener.progress("Explaining") as tick:
        for done, one in enumerate(found, 1):
            with contextlib.suppress(FieldmarkError):  # neither class is its answer, or its file is gone: no evidence
                told[one.path] = _evidence(explainer, catalog.file_at(one.path), one)
            tick(done, len(found))
    return told


def _evidence(explainer: Explainer, file: Path, one: Suspect) -> tuple[Beside, ...]:
    (verdict,) = explainer.predictor.predict(file)
    versus = one.label if verdict.label != one.label else one.suggested or None
    found = explainer(file, versus)
    if not found.regions:
        return ()
    region = found.regions[0]
    title = f"what speaks for {found.first} and against {found.second}"
    return (Beside(pictured(outlined(found.pixels, region.region.cells, FOR), small=True), title, region.title),)
