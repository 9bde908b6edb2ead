"""A run that goes on from another one, with new photographs beside the old ones.

It begins with the weights of the older run, learns from old and new data together and has the old classes first, in
their order. Old images stay in their splits, and new ones are divided as new data would be, but for what belongs
together with old ones: it goes where these are. So nothing that the older run held out is learnt from, and nothing that
it learnt from judges. The older run is only read.

The folds of a cross-fit begin with the recipe's own weights: the older run has seen what a fold holds out.
"""

from __future__ import annotations

import os
from collections.abc import Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import RecipeError, RunError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import Recipe, load_recipe
from fieldmark.core.storage import read_rows
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import SPLITS, Catalog
from fieldmark.evaluation.changed import Changed
from fieldmark.learning.fitting.trial import solved
from fieldmark.learning.training.start import Start
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.opening import opened_run
from fieldmark.runs.record import ANSWER_COLUMNS, Answers
from fieldmark.runs.run import Run, picture_name

__all__ = ["Older", "older_run"]

_KEPT = ("backbone.", "neck.", "method.", "head.")
"""The keys of a recipe that decide which weights there are."""


@final
@dataclass(frozen=True)
class Older:
    """The finished run that a new one goes on from."""

    run: Run
    bundle: Bundle
    """As training left it, without what was enrolled later."""

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
        own, its = (
            solved(one, self.run.solver) if one.train.solver == "auto" else one for one in (self.run.recipe(), asked)
        )
        changes = own.changes(its)
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

    def tell(self, run: Run, catalog: Catalog, known: Container[str], listener: Listener) -> None:
        """Say and keep what the new run has that this one had not, which had the paths `known`."""
        new = np.array([path not in known for path in catalog.paths], np.bool_)
        classes = catalog.classes[len(self.bundle.classes) :]
        sizes = (f"{split} {int((catalog.splits[new] == split).sum()):,}" for split in SPLITS)
        named = f", with {_classes(len(classes), 'new')} ({first_few(classes)})"
        listener.note(
            f"Going on from {self.run.folder}: {counted(int(new.sum()), 'new photograph')} ({', '.join(sizes)})"
            + (named if classes else "")
        )
        train = int((catalog.splits[new] == "train").sum())
        run.decide("grown", {"images": int(new.sum()), "train": train, "classes": list(classes)})

    def changed(self, run: Run, answers: Answers, pictures: NDArray[np.uint64], listener: Listener) -> None:
        """Say and keep how this run and the new one answer the images that both held out; `pictures` are the digests of
        all files of the catalogue of the new answers."""
        catalog, rows = answers.catalog, answers.rows.tolist()
        found = Changed.of(
            str(self.run.folder),
            self._answers(dict(zip(catalog.paths, map(picture_name, pictures), strict=False))),
            [picture_name(pictures[row]) for row in rows],
            [catalog.classes[label] for label in answers.labels],
            [catalog.classes[guess] for guess in answers.logits.argmax(axis=1)],
            answers.units,
            known=self.bundle.classes,
            seed=run.recipe().seed,
        )
        if found is None:
            listener.note(f"No image was held out by {self.run.folder} and by this run, so what changed is not known")
            return
        for sentence in found.sentences():
            listener.note(sentence)
        run.decide("changed", found.as_dict())

    def _answers(self, now: Mapping[str, str]) -> dict[str, str]:
        """The class that this run gave to each picture that it held out; {} where none is known. A run of an earlier
        version does not know pictures by their contents: then those count that have its paths `now`."""
        split = "crossfit" if self.run.recipe().protocol == "crossfit" else "val"
        path = self.run.evaluation(split) / "predictions.csv"
        if not path.is_file():
            return {}
        hint = f"Write it again: fieldmark evaluate {self.run.folder} --split {split}."
        rows = read_rows(path, ANSWER_COLUMNS, hint=hint)
        picture = {row["path"]: row.get("picture") or now.get(row["path"], "") for row in self.run.images()}
        return {picture.get(row["path"], ""): row["predicted"] for row in rows}


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


def _classes(number: int, kind: str) -> str:
    return f"1 {kind} class" if number == 1 else f"{number:,} {kind} classes"
