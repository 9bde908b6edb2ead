"""A run that goes on from another one, with new photographs beside the old ones.

It begins with the weights of the older run, learns from old and new data together and has the old classes first, in
their order. Old images stay in their splits, and new ones are divided as new data would be, but for what belongs
together with old ones: it goes where these are. So nothing that the older run held out is learnt from, and nothing that
it learnt from judges. The older run is only read.

The folds of a cross-fit begin with the recipe's own weights: the older run has seen what a fold holds out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, final

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import DataError, RecipeError, RunError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Recipe, load_recipe
from fieldmark.core.storage import read_rows
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.data.decisions import Decisions
from fieldmark.data.joining import begun_with, joined
from fieldmark.data.names import alike
from fieldmark.data.readers.columns import Columns
from fieldmark.data.sets import find, read
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.changed import Changed
from fieldmark.learning.training.start import Start
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.facts import Facts, Source
from fieldmark.runs.opening import as_trained, data_of, is_source, opened_run
from fieldmark.runs.record import ANSWER_COLUMNS, Answers
from fieldmark.runs.run import Run

__all__ = ["Grown", "Older", "older_run"]

_KEPT = ("backbone.", "neck.", "method.", "head.")
"""The keys of a recipe that decide which weights there are."""


class Grown(NamedTuple):
    """Old and new data together."""

    catalog: Catalog
    source: str
    columns: Columns
    further: list[Source]
    """Where it lies, as a run keeps it."""


@final
@dataclass(frozen=True)
class Older:
    """The finished run that a new one goes on from."""

    run: Run
    bundle: Bundle
    """As training left it, without what was enrolled later."""

    @cached_property
    def splits(self) -> dict[str, str]:
        """Of each path of its data."""
        return self.run.splits()

    @property
    def start(self) -> Start:
        """Its weights."""
        return Start(self.bundle)

    def recipe(self, named: str | Recipe | None) -> Recipe:
        """The recipe of a run that goes on from this one: its own, or the one that is named, with its backbone."""
        own = self.run.recipe()
        if named is None:
            return own
        given = load_recipe(named) if isinstance(named, str) else named
        return given.model_copy(update={"backbone": own.backbone})

    def check(self, asked: Recipe) -> None:
        """Raise RecipeError if a recipe asks for another network than this run has."""
        own = self.run.recipe()
        changes = own.changes(asked)
        if other := [key for key in changes if key.startswith(_KEPT)]:
            raise RecipeError(
                f"A run that goes on from {self.run.folder} has its network and its weights, but "
                + first_few(f"{key} was {changes[key][0]!r}, not {changes[key][1]!r}" for key in other),
                "Leave these options out, or train a new run without --from.",
            )

    def begin(self, run: Run) -> None:
        """Let a new run remember where it begins. Whether it descends or fits a probe was settled by this one."""
        run.decide("older", {"run": str(self.run.folder.resolve()), "state": self.bundle.state})
        if run.recipe().train.solver == "auto":
            run.decide("solver", self.run.solver)

    def grown(
        self,
        data: Path | str | Catalog,
        root: Path | str | None,
        columns: Columns | None,
        decisions: Decisions,
        listener: Listener,
    ) -> Grown:
        """The data of this run, and `data` behind it, with all `decisions`. Raises DataError if the old data is gone,
        or if nothing is new."""
        known = self.run.data()
        name = self.run.folder
        here = None if isinstance(data, Catalog) else find(data, root, tell=listener.note)
        same = here is not None and (_is_run(here, self.run) or is_source(known, here))
        catalog = self._old_data(known, listener)
        further = [*known.get("further", ())]
        if not same:
            later = data if isinstance(data, Catalog) else read(here or data, columns=columns, tell=listener.note)
            _check_names(self.bundle.classes, later, str(name), listener)
            catalog, copies, relabelled = joined(catalog, later)
            if copies:
                listener.note(f"{counted(copies, 'photograph')} of {later.name} left out, since {name} has them")
            if relabelled:
                listener.warn(
                    f"{counted(len(relabelled), 'photograph')} with another label than in {name}, which counts: "
                    f"{first_few(relabelled)}. To change labels, use --decisions"
                )
            source: Source = {"source": os.path.abspath(here or later.root)}
            further.append(source | {"columns": dict(columns)} if columns else source)
        made = decisions if decisions.digest != self.run.decisions().digest else None
        catalog = as_trained(self.run, catalog, listener, made)
        catalog = begun_with(catalog, Taxonomy.of(self.bundle.classes, known["taxonomy"]))
        if not made and all(path in self.splits for path in catalog.paths):
            raise DataError(
                f"Nothing is new in {here or later.name}: {name} has all of its photographs",
                f"Name new photographs; or train again on the same: fieldmark train {name}.",
            )
        return Grown(catalog, known["source"], known.get("columns") or {}, further)

    def _old_data(self, known: Facts, listener: Listener) -> Catalog:
        """The data of this run. Raises DataError if it is gone."""
        name = self.run.folder
        hint = "Put it back where it was, or train on what you have without --from."
        try:
            catalog = data_of(known, tell=listener.note)
        except DataError as error:
            raise DataError(f"The data that {name} learnt from cannot be read: {error.problem}", hint) from None
        there = set(catalog.paths)
        gone = [path for path in self.splits if path not in there and not os.path.isfile(catalog.root / path)]
        if len(gone) == len(self.splits):
            raise DataError(f"The photographs that {name} learnt from are gone from {known['source']}", hint)
        if gone:
            held = sum(self.splits[path] == "val" for path in gone)
            listener.warn(
                f"{counted(len(gone), 'photograph')} of {name} {'is' if len(gone) == 1 else 'are'} gone, {held:,} of "
                f"them for validation: {first_few(gone)}"
            )
        return catalog

    def tell(self, run: Run, catalog: Catalog, listener: Listener) -> None:
        """Say and keep what the new run has that this one had not."""
        new = np.array([path not in self.splits for path in catalog.paths], np.bool_)
        classes = catalog.classes[len(self.bundle.classes) :]
        parts = (f"{split} {int((catalog.splits[new] == split).sum()):,}" for split in SPLITS)
        named = f", with {_classes(len(classes), 'new')} ({first_few(classes)})"
        listener.note(
            f"Going on from {self.run.folder}: {counted(int(new.sum()), 'new photograph')} ({', '.join(parts)})"
            + (named if classes else "")
        )
        train = int((catalog.splits[new] == "train").sum())
        run.decide("grown", {"images": int(new.sum()), "train": train, "classes": list(classes)})

    def changed(self, run: Run, answers: Answers, units: NDArray[np.int64], listener: Listener) -> Changed | None:
        """Say and keep how this run and the new one answer the images that both held out; `units` (N,) are those of the
        new answers (N,)."""
        catalog, rows = answers.catalog, answers.rows.tolist()
        found = Changed.of(
            str(self.run.folder),
            self._answers(),
            [catalog.paths[row] for row in rows],
            [catalog.classes[label] for label in answers.labels],
            [catalog.classes[guess] for guess in answers.logits.argmax(axis=1)],
            units,
            known=self.bundle.classes,
            seed=run.recipe().seed,
        )
        if found is None:
            listener.note(f"No image was held out by {self.run.folder} and by this run, so what changed is not known")
            return None
        for sentence in found.sentences():
            listener.note(sentence)
        run.decide("changed", found.as_dict())
        return found

    def _answers(self) -> dict[str, str]:
        """The class that this run gave to each image that it held out; {} where none is known."""
        split = "crossfit" if self.run.recipe().protocol == "crossfit" else "val"
        path = self.run.evaluation(split) / "predictions.csv"
        if not path.is_file():
            return {}
        hint = f"Write it again: fieldmark evaluate {self.run.folder} --split {split}."
        return {row["path"]: row["predicted"] for row in read_rows(path, ANSWER_COLUMNS, hint=hint)}


def older_run(named: Path | str | None, run: Run, listener: Listener, *, resumed: bool) -> Older | None:
    """The run to go on from: the one that is `named`, or the one that `run` began from if it is `resumed`, if any.

    Raises RunError if it cannot be gone on from, if `run` lies in it, or if `run` began otherwise.
    """
    began: dict[str, str] = (run.decided("older") if resumed and run.exists else None) or {}
    if named is None and not began:
        return None
    place = Path(began["run"] if named is None else named)
    older = opened_run(place.expanduser())
    if named is None and not older.exists:
        raise RunError(
            f"{place}, which {run.folder} goes on from, is gone", "Put it back, or name its new place with --from."
        )
    if not older.exists and os.path.isfile(place / "model.json"):
        raise RunError(
            f"{place} is a bundle without its run: what it learnt from, and what it held out, is not known",
            "Name the folder of the run.",
        )
    if not Run.open(older.folder).exists or not older.is_finished:
        raise RunError(
            f"{older.folder} is not finished, so there is nothing to go on from",
            f"Finish it: fieldmark train … --out {older.folder} --resume.",
        )
    if not older.data():
        raise RunError(f"{older.folder} does not say what data it was trained on", "Train a new run without --from.")
    if run.folder.resolve().is_relative_to(older.folder.resolve()):
        raise RunError(f"{run.folder} is the run to go on from, or lies in it", "Choose another folder with --out.")
    bundle = Bundle.load(older.folder)
    found = Older(older, bundle.trained)
    if resumed and run.exists and began.get("state") != found.bundle.state:
        other = f"that {began['run']} was then" if began else "a network of its own"
        raise RunError(
            f"{run.folder} did not begin with what {older.folder} is now, but with {other}",
            "Leave --from out or put the run back, or start a new run with another --out.",
        )
    if bundle.enrolment:
        listener.note(
            f"{_classes(len(bundle.photographs), 'enrolled')} of {older.folder} will not be in the new run unless the "
            "data has them: enrol them again"
        )
    return found


def _check_names(known: Sequence[str], later: Catalog, run: str, listener: Listener) -> None:
    """Warn where the classes of later data look like those of another task, or like known ones that are misspelt."""
    names = {later.classes[label] for label in np.unique(later.labels)}
    if not names & set(known):
        listener.warn(f"{later.name} has none of the classes of {run}: all {len(names):,} of them are new")
    for group in alike((*known, *sorted(names - set(known)))):
        listener.warn(f"Two classes with almost one name: {' and '.join(map(repr, group))}")


def _is_run(path: Path, run: Run) -> bool:
    """Whether `run` is at a path. Raises DataError if another run is."""
    there = opened_run(path)
    if there.exists and os.path.realpath(there.folder) != os.path.realpath(run.folder):
        raise DataError(
            f"{path} is another run than the one to go on from, {run.folder}",
            "Name new photographs: a folder or a table.",
        )
    return there.exists


def _classes(number: int, kind: str) -> str:
    return f"1 {kind} class" if number == 1 else f"{number:,} {kind} classes"
