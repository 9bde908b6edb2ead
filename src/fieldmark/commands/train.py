"""Train: data and a recipe → a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldmark.augment.mixing import KINDS
from fieldmark.auxiliaries.auxiliary import AUXILIARIES
from fieldmark.bundle import Bundle
from fieldmark.commands.background import check_background, check_background_option
from fieldmark.commands.batches import check_batches
from fieldmark.commands.calibrate import cross_fit, fit_judge, hold_out, means_of, settled
from fieldmark.commands.combinations import check_combination, rehearse
from fieldmark.commands.evaluate import write_evaluation
from fieldmark.commands.fit import Fit
from fieldmark.commands.flips import decide_flip
from fieldmark.commands.license import tell_license
from fieldmark.commands.listener import Listener, relayed_warnings
from fieldmark.commands.part_centres import name_parts
from fieldmark.commands.poses import check_pose_options, check_poses, check_supervision
from fieldmark.commands.prepare import Prepared, prepare
from fieldmark.data.catalog import Catalog
from fieldmark.data.grades import in_order
from fieldmark.data.splits import first_few
from fieldmark.datasets import find
from fieldmark.errors import RecipeError, RunError, nearest
from fieldmark.evaluation.judge import Judge
from fieldmark.heads.classifier import CLASSIFIERS
from fieldmark.losses.loss import LOSSES
from fieldmark.model.backbone import check_backbone
from fieldmark.model.license import weights_license
from fieldmark.model.method import METHODS, Method
from fieldmark.necks.neck import NECKS
from fieldmark.recipe import NONE, Choice, Recipe, load_recipe
from fieldmark.registry import Registry
from fieldmark.run import Machine, Run
from fieldmark.training.optimizer import OPTIMIZERS

__all__ = ["check_data", "resolve_recipe", "train"]

_REGISTRIES: dict[str, Registry[Any]] = {
    "neck": NECKS,
    "method": METHODS,
    "head": CLASSIFIERS,
    "loss": LOSSES,
    "auxiliary": AUXILIARIES,
}
_OPTIONAL = {"neck", "auxiliary"}


def resolve_recipe(
    recipe: str | Recipe = "finetune",
    *,
    backbone: str | None = None,
    weights: str | None = None,
    overrides: Iterable[str] = (),
) -> Recipe:
    """The recipe with the user's changes, every name in it checked. Raises RecipeError before any data is read."""
    resolved = load_recipe(recipe) if isinstance(recipe, str) else recipe
    if backbone is not None or weights is not None:
        changes = {"name": backbone, "weights": weights}
        named = resolved.backbone.model_copy(update={k: v for k, v in changes.items() if v is not None})
        resolved = resolved.model_copy(update={"backbone": named})
    resolved = resolved.with_overrides(overrides)
    pieces = {
        section: Choice(name=choice.name, **registry.complete(*choice.pair))
        for section, registry in _REGISTRIES.items()
        if (choice := getattr(resolved, section)).pair != (NONE, {}) or section not in _OPTIONAL
    }
    OPTIMIZERS.get(resolved.train.optimizer)
    if resolved.augment.mix not in KINDS:
        raise RecipeError(f"There is no mix {resolved.augment.mix!r}", nearest(resolved.augment.mix, KINDS))
    check_pose_options(resolved)
    check_background_option(resolved)
    check_backbone(resolved.backbone)
    plan = resolved.train
    if plan.solver == "logistic" and resolved.loss.name != "cross_entropy":
        raise RecipeError(
            f"A logistic regression learns by cross-entropy, not by the loss {resolved.loss.name!r}",
            "Use train.solver = 'gradient', or leave loss.name out.",
        )
    resolved = resolved.model_copy(update=pieces)
    check_combination(resolved)
    return resolved


def train(
    data: Path | str | Catalog,
    recipe: str | Recipe | None = None,
    *,
    out: Path | str,
    root: Path | str | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    resume: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Train a classifier on `data` and write it to `out`. The test part is not learnt from, selected on or scored.

    `data` is a path, the name of a data set (whose copy lies in `root`; see `fieldmark.read`) or a catalogue.
    The recipe is "finetune" unless given. With `resume`, a run that was stopped goes on where it was, by its own
    recipe; where there is none yet, it begins, so that one command can be repeated until it is done. Raises
    FieldmarkError, and `Stopped` when the listener asks to stop.
    """
    listener = listener or Listener()
    takes_up = resume and Run(out).exists
    run = Run.open(out) if takes_up else Run(out)
    if resume and not takes_up:
        named = recipe if isinstance(recipe, str) else "given" if recipe else "finetune"
        listener.note(f"Nothing to go on with in {out}: a new run begins (recipe: {named})")
    if not takes_up or recipe or backbone or weights or overrides:
        asked = resolve_recipe(recipe or "finetune", backbone=backbone, weights=weights, overrides=overrides)
        if takes_up:
            _check_same(run.recipe(), asked, run, overrides)
        else:
            rehearse(asked)
            Run.create(run.folder, asked, Machine.decide(asked))
    if run.is_finished:
        listener.note(f"{run.folder} is finished already")
        return run
    with contextlib.nullcontext() if takes_up else _discarded_on_failure(run):
        _learn(run, data, root, listener)
    return run


def check_data(recipe: Recipe, data: Prepared, listener: Listener) -> None:
    """Raise FieldmarkError where the data has nothing of what a recipe asks for, and warn where it has little."""
    for check in (check_background, check_poses, check_supervision, check_batches):
        check(recipe, data, listener)


@contextlib.contextmanager
def _discarded_on_failure(run: Run) -> Iterator[None]:
    """A start that fails before anything is learnt leaves no folder, so that the same command can be repeated."""
    try:
        yield
    except BaseException:  # Ctrl-C while images are decoded, too
        run.discard()
        raise


def _learn(run: Run, data: Path | str | Catalog, root: Path | str | None, listener: Listener) -> None:
    """From a run that has begun to one that is finished."""
    resolved = run.recipe()
    tell_license(resolved, listener)
    with run.timed("reading"):
        if not isinstance(data, Catalog):
            with relayed_warnings(listener):
                data = find(data, root, tell=listener.note)
        prepared = prepare(data, resolved, listener)
    run.write_data(data.root if isinstance(data, Catalog) else data, prepared.catalog)
    check_data(resolved, prepared, listener)
    flip = decide_flip(run, resolved, prepared, listener)
    if not flip:  # what training must not mirror, answers must not
        resolved = resolved.model_copy(update={"images": resolved.images.model_copy(update={"mirror": False})})
    fit = Fit(run, resolved, run.machine(), prepared, listener, flip)
    rows, validation = prepared.catalog.rows("train"), prepared.catalog.rows("val")
    held, part = None, "val"
    with run.timed("training"):
        if resolved.protocol == "crossfit":
            rows, validation, part = np.sort(np.concatenate([rows, validation])), validation[:0], "crossfit"
            held, fit = cross_fit(fit, rows), settled(fit)
        method = fit.train(rows, validation)
    judge = None
    if held or len(validation):
        with run.timed("evaluating"):
            means = means_of(fit, method, rows)
            held = held or hold_out(fit, method, means, validation)
            judge, answers = fit_judge(fit, held, means)
            answered = rows if part == "crossfit" else validation
            task = fit.task(rows)
            write_evaluation(run, part, prepared.catalog, answered, answers, task=task, attributes=held.attributes)
    else:
        listener.note("Not calibrated: no image was held out, so verdicts are plain softmax")
    run.keep_memory()
    names = name_parts(fit, method, rows)
    # last, since a bundle is what makes a run finished
    _bundle(fit, method, judge, rows, names).save(run.bundle)
    listener.note(f"Saved {run.bundle}")


def _check_same(begun: Recipe, asked: Recipe, run: Run, overrides: Sequence[str]) -> None:
    """A resume goes on with the recipe that the run began with; what was asked for by name is told first."""
    if begun != asked:
        named = {text.partition("=")[0].strip() for text in overrides}
        changed = dict(sorted(begun.changes(asked).items(), key=lambda change: change[0] not in named))
        raise RunError(
            f"{run.folder} began with another recipe: "
            + first_few(f"{key} was {before!r}, not {now!r}" for key, (before, now) in changed.items()),
            "To go on as it began leave all options out, or give all of them; or start a new run with another --out.",
        )


def _bundle(fit: Fit, method: Method, judge: Judge | None, rows: NDArray[np.int64], parts: tuple[str, ...]) -> Bundle:
    recipe, catalog, task = fit.recipe, fit.data.catalog, fit.task(rows)
    order = in_order(catalog.classes, recipe.labels.order) or "none"  # a bundle does not ask again
    recipe = recipe.model_copy(update={"labels": recipe.labels.model_copy(update={"order": order})})
    return Bundle(
        method,
        catalog.classes,
        recipe,
        catalog.taxonomy,
        {
            "fieldmark": metadata.version("fieldmark"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "data": catalog.name,
            "images": len(rows),
            "protocol": recipe.protocol,
            "seed": recipe.seed,
            "weights": recipe.backbone.weights,
            "license": weights_license(recipe.backbone),
            "calibrated": judge is not None,
        },
        judge,
        parts,
        {one.name: one.values for one in task.attributes},
    )
