"""What it saves to compute frozen stages once: steps and cross-fits with and without what is kept, in turns.

usage: kept.py DATA [--each 5] [--size 160] [--views 2] [--rounds 2]

`--each` training images of each class are used. For each recipe, an epoch that computes everything and two epochs from
what was kept take turns, after the views were computed, which is timed by itself. Then a probe is cross-fitted both
ways. Results go to results/kept.json.
"""

import argparse
import statistics
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from itertools import islice

import numpy as np
import torch
from collect import RESULTS, processor

from fieldmark import read
from fieldmark.core.listener import Listener
from fieldmark.core.machine import Machine
from fieldmark.core.storage import write_json
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.fitting.holdout import cross_fit, learnt_of
from fieldmark.learning.fitting.kept import Kept
from fieldmark.learning.fitting.prepare import prepare
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.runs.run import Run

RECIPES = {
    "all frozen": ["train.freeze_stages=all"],
    "all frozen, attention pooling": ["train.freeze_stages=all", "neck.name=attention"],
    "4 stages frozen": ["train.freeze_stages=4"],
}


def few_of(catalog, each):
    """So many training images of each class."""
    rng = np.random.default_rng(0)
    train = rng.permutation(catalog.rows("train"))
    return catalog.select(np.sort(np.concatenate([train[catalog.labels[train] == k][:each] for k in range(50)])))


def fit_of(catalog, name, options, folder):
    recipe = resolve_recipe(name, overrides=options)
    machine = Machine.decide(recipe, "cpu")
    return Fit(Run(folder), recipe, machine, prepare(catalog, recipe, Listener()), Listener())


def steps_of(fit, kept, epochs):
    """Seconds for an image in so many epochs, and what came before the first step."""
    fit = replace(fit, kept=kept)
    rows = fit.data.catalog.rows("train")
    model = fit.build(rows, load_weights=True)
    samples, schedule = fit.plan(model, rows)
    state = fit.state(model, schedule)
    began = time.perf_counter()
    with closing(fit.steps(state, samples, schedule, rows)) as steps:
        next(steps)
        first = time.perf_counter()
        for _ in islice(steps, epochs * schedule.steps_per_epoch):
            pass
    taken = time.perf_counter() - first
    return taken / (epochs * schedule.steps_per_epoch * schedule.step_size), first - began


def cross_fitted(fit, kept):
    fit = replace(fit, kept=kept)
    rows, began = fit.data.learnt(fit.recipe), time.perf_counter()
    cross_fit(fit, rows)
    learnt_of(fit, fit.train(rows, rows[:0]).model, rows)
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    for name, default in {"each": 5, "size": 160, "views": 2, "rounds": 2}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    asked = parser.parse_args()
    catalog = few_of(read(asked.data), asked.each)
    common = [f"images.size={asked.size}", "train.precision=fp32"]
    found = {"processor": processor(), "threads": torch.get_num_threads(), **vars(asked), "learning": {}}
    found["data"] = catalog.name
    with tempfile.TemporaryDirectory() as folder:
        for name, options in RECIPES.items():
            more = [
                f"augment.views={asked.views}",
                "augment.flip=true",
                "protocol=refit",
                "train.solver=gradient",
                *options,
            ]
            fit = fit_of(catalog, "finetune", [*common, *more], folder)
            kept = Kept()
            before = steps_of(fit, kept, 1)[1]
            turns = [(steps_of(fit, Kept(limit=0), 1)[0], steps_of(fit, kept, 2)[0]) for _ in range(asked.rounds)]
            plain, own = (statistics.median(1 / taken for taken in one) for one in zip(*turns, strict=True))
            found["learning"][name] = {
                "images_per_second": round(plain, 1),
                "kept_images_per_second": round(own, 1),
                "ratios": [round(without / with_it, 2) for without, with_it in turns],
                "seconds_before": round(before, 1),
                "kilobytes_of_a_view": round(next(iter(next(iter(kept._tables.values())).values())).nbytes / 1e3, 1),
            }
            print(name, found["learning"][name], flush=True)
        probe = fit_of(catalog, "probe", [*common, "protocol=crossfit"], folder)
        seconds = [(cross_fitted(probe, Kept(limit=0)), cross_fitted(probe, Kept()))]
        found["crossfit"] = {
            "seconds": [round(one, 1) for one in seconds[0]],
            "ratio": round(seconds[0][0] / seconds[0][1], 2),
        }
        print(found["crossfit"])
    write_json(RESULTS / "kept.json", found)


if __name__ == "__main__":
    main()
