"""Bench: where the time of training and answering goes on this machine."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.machine import AUTO, Machine, peak_memory
from fieldmark.core.recipe import Recipe
from fieldmark.core.wording import duration
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.columns import Columns
from fieldmark.data.sets import find
from fieldmark.learning.fitting.combinations import rehearse
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.fitting.limits import Bench
from fieldmark.learning.fitting.prepare import prepare
from fieldmark.learning.fitting.resolve import check_data, resolve_recipe
from fieldmark.learning.fitting.speed import measured_speed
from fieldmark.learning.fitting.tuning import fastest_machine
from fieldmark.learning.training.pieces import enough_memory
from fieldmark.runs.run import Run

__all__ = ["bench"]

_BESIDE = 40.0
"""Seconds that everything else takes beside the steps, on a processor: to try what is the fastest, and to answer."""


def bench(
    data: Path | str | Catalog,
    recipe: str | Recipe = "finetune",
    *,
    root: Path | str | None = None,
    columns: Columns | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    seconds: float = 20.0,
    device: str = AUTO,
    listener: Listener | None = None,
) -> Bench:
    """Take some steps of a training on `data`, and measure how fast they are and where their time goes.

    The steps are those of `fieldmark.train` with the same recipe, from the second epoch on, and take about `seconds`.
    In turns with them, the bare step is measured: the same network on a batch in memory. Where a training would try
    which precision is faster here, that is tried anew. Nothing is written but what a training keeps in the user's
    cache: decoded pixels, and what was tried. Raises FieldmarkError.
    """
    listener = listener or Listener()
    resolved = resolve_recipe(recipe, backbone=backbone, weights=weights, overrides=overrides)
    machine = Machine.decide(resolved, device)
    rehearse(resolved)
    if not isinstance(data, Catalog):
        with relayed_warnings(listener):
            data = find(data, root, tell=listener.note)
    if resolved.train.solver != "logistic":
        about = duration(_BESIDE + seconds)
        listener.note(f"Once pictures are read, this takes up to about {about}, and longer beside other work")
    prepared = prepare(data, resolved, listener, columns=columns)
    check_data(resolved, prepared, listener)
    validated = resolved.protocol == "holdout" and resolved.train.validate_epochs
    with tempfile.TemporaryDirectory() as nowhere, enough_memory():
        fit = Fit(Run(nowhere), resolved, machine, prepared, listener, resolved.augment.flip is not False)
        machine, tried = fastest_machine(fit, rows := prepared.learnt(resolved), anew=True)
        speed = measured_speed(replace(fit, machine=machine), rows, seconds=seconds, listener=listener)
    found = Bench(
        resolved,
        machine,
        speed,
        len(prepared.catalog.rows("val")) if validated else 0,
        peak_memory(),
        tried["images_per_second"] if tried else {},
    )
    listener.hear(Done("bench"))
    return found
