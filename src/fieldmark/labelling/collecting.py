"""What a run knows about the photographs that it learnt from, gathered for `doubts` and `choosing`.

Shapes: N images, K classes, D embedding.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.rows import answer_rows
from fieldmark.core.errors import DataError, TrainingError
from fieldmark.core.listener import Listener
from fieldmark.core.storage import cache_folder, read_rows
from fieldmark.core.wording import CROSSFIT, counted
from fieldmark.data.auditing.examine import SIDE
from fieldmark.data.bursts import bursts, taken
from fieldmark.data.cache import build_store
from fieldmark.data.catalog import Catalog
from fieldmark.data.splits import units
from fieldmark.evaluation.outputs import Outputs, joined
from fieldmark.labelling.confidence import from_answers
from fieldmark.learning.training.probe import out_of_fold
from fieldmark.runs.opening import with_classes_of
from fieldmark.runs.record import ANSWER_COLUMNS
from fieldmark.runs.run import Run

__all__ = ["Answered", "answered", "copies_of", "unlabelled_catalog", "unseen_probabilities"]

Ints = NDArray[np.int64]
_CACHE_GB = 2.0
_FOLDS = 5


@final
@dataclass(frozen=True, eq=False)
class Answered:
    """Some rows of a catalogue that could be read, and what the network made of them."""

    catalog: Catalog
    """With the classes of the model."""
    rows: Ints
    """(N,)."""
    outputs: Outputs
    units: Ints
    """(N,) what belongs together, by group or as copies, shares a number."""

    @property
    def labels(self) -> Ints:
        """(N,)."""
        return self.catalog.labels[self.rows]

    @cached_property
    def paths(self) -> list[str]:
        """(N)."""
        return [self.catalog.paths[row] for row in self.rows]

    def select(self, chosen: Ints) -> Answered:
        """Of these of the N rows."""
        logits, embedding = self.outputs.logits[chosen], self.outputs.embedding[chosen]
        return replace(self, rows=self.rows[chosen], outputs=Outputs(logits, embedding), units=self.units[chosen])


def copies_of(catalog: Catalog, listener: Listener) -> Ints:
    """(N,) copies of whole pictures share a number, over all rows of the catalogue; see `data/duplicates.py`."""
    with listener.progress("Looking for copies") as tick:
        store = build_store(
            catalog,
            side=SIDE,
            keep=np.zeros(len(catalog), np.bool_),
            folder=cache_folder() / "audits",
            limit_gb=_CACHE_GB,
            progress=tick,
        )
    found = np.arange(len(catalog)) + len(catalog)  # what cannot be read is nobody's copy
    found[store.readable] = store.clusters()
    return found


def unlabelled_catalog(files: Sequence[Path], known: Catalog, listener: Listener) -> tuple[Catalog, Ints]:
    """Photographs without labels as a catalogue, and what belongs together (N,): copies and frames of one burst.

    Copies of photographs that are `known` are left out, with a note.
    """
    with listener.progress("Reading when they were taken") as tick:
        times = [taken(file) for file in files]
        tick(len(files), len(files))
    num = len(files)
    both = Catalog(
        "photographs without labels",
        Path(os.path.abspath(os.sep)),
        (*map(str, files), *(str(known.file(row)) for row in range(len(known)))),
        np.zeros(num + len(known), np.int64),
        known.classes,
        np.full(num + len(known), ""),
        np.concatenate([np.array(bursts(files, times), np.str_), np.full(len(known), "")]),
    )
    copies = copies_of(both, listener)
    fresh = np.flatnonzero(~np.isin(copies[:num], copies[num:]))
    if left_out := num - len(fresh):
        listener.note(f"{counted(left_out, 'photograph')} left out, because the same picture is in the data")
    new = both.select(fresh)
    return new, units(new, copies[fresh])


def answered(
    predictor: Predictor, catalog: Catalog, rows: Ints, copies: Ints, listener: Listener, *, stage: str
) -> Answered:
    """Show the rows of a catalogue to the network, once. Raises DataError for classes that it does not know."""
    named = with_classes_of(predictor.bundle, catalog, rows)
    found = answer_rows(predictor, named, rows, predictor.engine, listener, stage=stage)
    return Answered(named, found.rows, joined(found.outputs), units(named, copies)[found.rows])


def unseen_probabilities(run: Run, seen: Answered, listener: Listener) -> tuple[Answered, NDArray[np.float64]]:
    """Probabilities (N, K) by models that have not learnt from the image, and the images that have them.

    Of a cross-fit, these are its own out-of-fold answers. Otherwise a probe is cross-fitted on the run's embeddings.
    """
    recipe, num_classes = run.recipe(), len(seen.catalog.classes)
    table = run.evaluation("crossfit") / "predictions.csv"
    if recipe.protocol == "crossfit" and table.is_file():
        hint = "Train again, or name a run with another protocol."
        told = {row["path"]: row for row in read_rows(table, ANSWER_COLUMNS, hint=hint)}
        index = {name: k for k, name in enumerate(seen.catalog.classes)}
        seen = seen.select(np.flatnonzero([path in told and told[path]["predicted"] in index for path in seen.paths]))
        rows = [told[path] for path in seen.paths]
        own, probability = (
            np.array([float(row[name]) for row in rows]) for name in ("label_probability", "probability")
        )
        predicted = np.array([index[row["predicted"]] for row in rows], np.int64)
        return seen, from_answers(seen.labels, own, predicted, probability, num_classes)
    if run.solver != "logistic":
        listener.note(
            "This network was trained on the labels that are doubted, and may have learnt mistakes by heart: a run "
            f"with --recipe probe is a better witness, and so is one of `{CROSSFIT}`"
        )
    listener.note(f"Cross-fitting a probe on the embeddings of {counted(len(seen.rows), 'image')}")
    try:
        found = out_of_fold(
            seen.outputs.embedding, seen.labels, seen.units, num_classes, folds=_FOLDS, seed=recipe.seed
        )
    except TrainingError as error:
        raise DataError(
            "Nothing can be said about these labels: no class has images in two separate groups", "Add images."
        ) from error
    return seen, found
