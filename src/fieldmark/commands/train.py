"""Train: make a run from data and a recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.unlabelled import unlabelled_facts
from fieldmark.core.listener import Done, Listener, Listeners
from fieldmark.core.machine import AUTO, Machine
from fieldmark.core.ranks import began, led, was_begun
from fieldmark.core.recipe import Recipe
from fieldmark.core.version import version
from fieldmark.data.catalog import Catalog
from fieldmark.data.decisions import Decisions, read_decisions
from fieldmark.data.grades import in_order
from fieldmark.data.readers.columns import Columns
from fieldmark.evaluation.calibration import Calibration
from fieldmark.learning.budget.begin import sized
from fieldmark.learning.budget.budget import Budget, within
from fieldmark.learning.budget.purse import Purse, left_open
from fieldmark.learning.budget.rivals import rivals
from fieldmark.learning.budget.search import chosen_within
from fieldmark.learning.fitting import resuming, without_labels
from fieldmark.learning.fitting.beside_probe import beside_probe
from fieldmark.learning.fitting.combinations import rehearse
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.fitting.flips import decide_flip
from fieldmark.learning.fitting.holdout import cross_fit, fit_calibration, hold_out, kept_of, learnt_of, settled
from fieldmark.learning.fitting.learn import learn, ready
from fieldmark.learning.fitting.onward import Older, older_run
from fieldmark.learning.fitting.part_names import name_parts
from fieldmark.learning.fitting.reading import read_for, run_at
from fieldmark.learning.fitting.resolve import check_data, plugins_of, resolve_recipe
from fieldmark.learning.fitting.weights import tell_license
from fieldmark.learning.training.pieces import enough_memory
from fieldmark.model.choosing import weights_name
from fieldmark.model.hub import check_hub
from fieldmark.model.license import weights_license
from fieldmark.model.model import Model
from fieldmark.runs.budgeted import has_tried
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.record import Answers, score_answers, write_evaluation
from fieldmark.runs.run import Run, RunLog

__all__ = ["train"]


@led
def train(
    data: Path | str | Catalog,
    recipe: str | Recipe | None = None,
    *,
    out: Path | str,
    root: Path | str | None = None,
    columns: Columns | None = None,
    decisions: Path | str | Sequence[Path | str] | Decisions | None = None,
    unlabelled: Path | str | Sequence[Path | str] | None = None,
    from_run: Path | str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    budget: Budget | str | None = None,
    price: str | None = None,
    resume: bool = False,
    device: str = AUTO,
    listener: Listener | None = None,
) -> Run:
    """Train a classifier on `data` and write it to `out`. The test split is not used in any way.

    `data` is a path, the name of a data set (whose copy lies in `root`; see `fieldmark.read`) or a catalogue;
    `columns` says which columns of a table hold what, such as {"path": "filename", "label": "species"}. `decisions` are
    tables that a labelling page saved (`fieldmark.doubt`, `fieldmark.next`): labels are changed and samples dropped or
    added in memory, and the run remembers it. A run in place of the data stands for its data, splits and earlier
    decisions, and for its recipe if none is named; new photographs are then learnt from.
    `unlabelled` are photographs without labels (files, folders, globs, tables), from which a recipe with
    `train.pseudo_weight` learns too, such as "pseudo_labels"; a run in place of the data has its own.
    With `from_run`, the new run goes on from a finished one: from its weights, with its recipe, with its data and the
    new photographs in `data` together; a budget then decides how long it trains. Its classes stay in order and its
    images in their splits; `fieldmark.report` shows what changed on images that both held out. The older run is only
    read.
    The recipe is "finetune" by default. With a `budget`, such as "10m", "200000 images", or "2eur" at a `price` of
    "1.20/h", what was not named is chosen on validation images, and the run ends when the budget does; the recipe
    "auto" names nothing. See `fieldmark.learning.budget`.
    With `resume`, a run that was stopped continues where it was, with its own recipe; if there is none yet, a new one
    starts, so that one command can be repeated until it is done. For a run that is resumed, `device` "auto" is the
    device that it started on, if that is available; for a new run, it is a CUDA GPU or else the processor. Raises
    FieldmarkError, and `Stopped` if the listener asks to stop.
    """
    budget, recipe = within(budget, price, recipe)
    listener = listener or Listener()
    run, heard = Run(out), Listeners(RunLog(Run(out)), listener)
    named = decisions if isinstance(decisions, Decisions) else read_decisions(_several(decisions))
    pool = None if unlabelled is None else unlabelled_facts(unlabelled)
    resume = resume or was_begun(run.folder)
    older = None if resume and run.is_finished else older_run(from_run, run, listener, resumed=resume)
    parent = older.run if older else run_at(data)
    made = parent.decisions().then(named) if parent else named
    base = older.recipe(recipe) if older else recipe or (parent.recipe() if parent else "finetune")
    place = resuming.in_place(run) if resume and run.exists else contextlib.nullcontext()
    with place, run.held(), enough_memory():
        onward = older is not None
        resolved = partial(resolve_recipe, base, backbone=backbone, weights=weights, overrides=overrides, onward=onward)
        if resume and run.exists:
            if recipe or backbone or weights or overrides:
                resuming.check_same(run, resolved(), overrides)
            if Run.open(out).is_finished:
                listener.note(f"{run.folder} is already finished")
                return run
            resuming.check_weights(run)
            if named:
                resuming.check_decisions(run, made)
            without_labels.check_same(run, pool)
            resuming.move(run, device, listener)
            _learn(run, data, root, columns, heard, older, Purse.of(run, budget))
        else:
            run.check_free()
            if resume:
                given = "given" if recipe or not parent else f"as in {parent.folder}"
                called = base if isinstance(base, str) else given
                listener.note(f"There is no run in {out} to resume, so a new one starts (recipe: {called})")
            rehearse(asked := resolved())
            if not onward or asked.protocol == "crossfit":
                check_hub(asked.backbone)
            if older:
                older.check(asked)
            pool = without_labels.checked(asked, pool, parent)
            with _discarded_on_failure(run):
                began(Run.create(run.folder, asked, Machine.decide(asked, device)).folder)
                began_with = older.run.decided("weights") if older else None
                run.decide("weights", began_with or weights_name(asked.backbone))
                run.keep_decisions(made)
                run.keep_unlabelled(pool)
                if older:
                    older.begin(run)
                choices = left_open(recipe or parent, backbone, weights, overrides, goes_on=onward)
                purse = Purse.begin(run, budget, asked, choices) if budget else None
                if purse and purse.leaves("recipe"):
                    like = partial(resolve_recipe, backbone=backbone, weights=weights, overrides=overrides)
                    purse.compete(rivals(asked, like, backbone=purse.leaves("backbone")))
                _learn(run, data, root, columns, heard, older, purse)
    listener.hear(Done("train", run.folder))
    return run


@contextlib.contextmanager
def _discarded_on_failure(run: Run) -> Iterator[None]:
    """Leave no folder if the start fails before any training, so that the same command can be repeated. What a budget
    has paid for is left, to be resumed with the rest of it."""
    try:
        yield
    except BaseException:  # Ctrl-C while images are decoded, too
        if not has_tried(run):
            run.discard()
        raise


def _learn(
    run: Run,
    data: Path | str | Catalog,
    root: Path | str | None,
    columns: Columns | None,
    listener: Listener,
    older: Older | None,
    purse: Purse | None,
) -> None:
    """Take a run from its start to its end."""
    recipe = purse.recipe if purse else run.recipe()
    tell_license(recipe, listener)
    with run.timed("reading"):
        begin = partial(sized, purse, listener) if purse else None
        prepared = read_for(run, recipe, data, root, columns, listener, older, begin)
    recipe = purse.sized if purse else recipe
    check_data(recipe, prepared, listener, goes_on=older is not None)
    if recipe.labels.order == "auto" and (grades := in_order(prepared.catalog.classes, "auto")):
        between = f"from {grades[0]!r} to {grades[-1]!r}"
        listener.note(f"The classes are taken for grades, {between} (set labels.order=none if they are not)")
    flip = not purse and decide_flip(run, recipe, prepared, listener)  # a budget decides it if a network is trained
    seen = {
        "grey_bits": prepared.pixels.grey_bits or "auto",
        "mirror": flip and recipe.images.mirror,  # answers must not mirror what training must not mirror
    }
    recipe = recipe.model_copy(update={"images": recipe.images.model_copy(update=seen)})
    fit = Fit(run, recipe, run.machine(), prepared, listener, flip, start=older.start if older else None)
    rows, validation = prepared.catalog.rows("train"), prepared.catalog.rows("val")
    held, split, chosen = None, "val", None
    with run.timed("training"):
        if recipe.protocol == "crossfit":
            rows, validation, split = np.sort(np.concatenate([rows, validation])), validation[:0], "crossfit"
        if purse:
            chosen = chosen_within(purse, fit, rows, validation)
        else:
            fit = ready(fit, rows)
        if recipe.protocol == "crossfit":
            held, strengths = cross_fit(fit, rows)
            fit = settled(fit, strengths)
        fit, model = (chosen.fit, chosen.model) if chosen else (fit, learn(fit, rows, validation).model)
    calibration = None
    with run.timed("evaluating"):
        learnt = learnt_of(fit, model, rows, chosen.learnt if chosen else None)
    if held or len(validation):
        with run.timed("evaluating"):
            means = learnt.means
            if held is None:
                told = chosen.held if chosen else None
                held = hold_out(fit, model, means, validation, learnt_from=rows, answered=told)
                if not purse and (found := beside_probe(fit, held, rows, validation)):
                    listener.note(found.sentence(len(validation)))
                    run.decide("beside_probe", found._asdict())
            calibration, logits = fit_calibration(fit, held, means)
            answered = rows if split == "crossfit" else validation
            answers = Answers(prepared.catalog, answered, logits, held.units, held.attributes, learnt=held.learnt)
            task = fit.task(rows)
            write_evaluation(run.evaluation(split), score_answers(split, answers, task), answers, task)
            if older:
                older.changed(run, answers, prepared.pixels.fingerprints.digests, listener)
    else:
        listener.note("Not calibrated: no images were held out, so probabilities are plain softmax outputs")
    run.keep_memory()
    names = name_parts(fit, model, rows)
    # last, since a bundle is what makes a run finished
    kept = kept_of(fit, model, learnt, held, rows if split == "crossfit" else validation)
    Predictor(replace(_bundle(fit, model, calibration, rows, names), kept=kept), model).save(run.bundle)
    if purse:
        listener.note(f"Spent {purse.keep()} of {purse.facts['written']}")
    listener.note(f"Saved {run.bundle}")


def _several(decisions: Path | str | Sequence[Path | str] | None) -> Sequence[Path | str]:
    if decisions is None:
        return ()
    return [decisions] if isinstance(decisions, str | Path) else decisions


def _bundle(
    fit: Fit, model: Model, calibration: Calibration | None, rows: NDArray[np.int64], parts: tuple[str, ...]
) -> Bundle:
    recipe, catalog, task = fit.recipe, fit.data.catalog, fit.task(rows)
    order = in_order(catalog.classes, recipe.labels.order) or "none"  # a bundle does not search again
    return Bundle(
        catalog.classes,
        recipe.model_copy(update={"labels": recipe.labels.model_copy(update={"order": order})}),
        model.backbone.normalization.interpolation,
        catalog.taxonomy,
        {
            "fieldmark": version(),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": catalog.name,
            "images": len(rows),
            "protocol": recipe.protocol,
            "seed": recipe.seed,
            "weights": weights_name(recipe.backbone),
            "license": weights_license(recipe.backbone),
            "calibrated": calibration is not None,
            "unlearnt": [catalog.classes[label] for label in task.unlearnt],
        },
        calibration,
        parts,
        {one.name: one.values for one in task.attributes},
        plugins_of(recipe),
    )
