"""What training for likeness is worth on classes never seen: trained on half of the classes, retrieved on the others.

usage: retrieval.py run WORK DATA SEEDS RECIPE …    DATA: cub or cars60; SEEDS: how many. Needs FIELDMARK_DATA
       retrieval.py show [BASELINE]                 the tables in Markdown, against `probe` or another recipe

Each seed draws other classes to train on, half of all, and trains on their official training photographs: 160 px, fp32,
one thread, on a GPU where there is one. Official test photographs of the other half are then searched for each other
(`fieldmark.retrieve`); no photograph of a class that was trained on is scored. `probe` leaves the backbone frozen. All
recipes embed the mean of a photograph and its mirror image, so that they differ in what was learnt alone. A finished
run is kept in results/retrieval/ and passed over the next time; one that was stopped is resumed. Intervals are over
classes.
"""

import argparse
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from fieldmark import read, retrieve, train
from fieldmark.cli.terminal import terminal
from fieldmark.core.machine import processor
from fieldmark.core.memory import keep_freed_memory
from fieldmark.core.reading import read_json
from fieldmark.core.storage import write_json
from fieldmark.data.write import write_catalog
from fieldmark.evaluation.paired import resamples

RESULTS = Path(__file__).parent / "results" / "retrieval"
PLACES = {"cub": "CUB_200_2011_first50", "cars60": "cars-60/cars.csv"}
SETTINGS = [
    "protocol=refit",
    "images.size=160",
    "images.mirror=true",
    "train.precision=fp32",
    "train.validate_epochs=false",
]
MEASURES = ("map@r", "recall@1")


def tables(work, data, seed, most):
    """Tables of training photographs of half of the classes, and of test photographs of the other half."""
    catalog = read(Path(os.environ["FIELDMARK_DATA"], PLACES[data]))
    learnt = np.random.default_rng([5, seed]).permutation(len(catalog.classes))[: len(catalog.classes) // 2]
    known = np.isin(catalog.labels, learnt)
    for split, some in (("train", known), ("test", ~known)):
        rows = np.concatenate([
            rows[:most] for k in np.unique(catalog.labels[some])
            for rows in [np.flatnonzero((catalog.labels == k) & (catalog.splits == split))]
        ])  # fmt: skip
        picked = catalog.select(rows)
        file = work / f"{data}-{seed}-{split}.csv"
        write_catalog(file, replace(picked, splits=np.full(len(rows), "train" if split == "train" else "")))
        yield file


def measured(work, data, seed, recipe, asked):
    """One run, and what its searches found in each class: number of queries, mean average precision at R, recall@1."""
    learn, look = tables(work, data, seed, asked.most)
    settings = [*SETTINGS, f"seed={seed}", *asked.set]
    out = work / f"{data}-{Path(recipe).stem}-{seed}"
    run = train(learn, recipe, out=out, overrides=settings, resume=True, listener=terminal())
    found = retrieve(run.folder, look, unseen=True, listener=terminal())
    one, history = found.retrieval, run.history()
    catalog = read(look)
    names = np.array(sorted(catalog.classes))  # as `retrieve` numbers them
    assert len(names) == found.num_classes, "a class that was not trained on is one that is searched for"
    return {
        "data": data,
        "recipe": Path(recipe).stem,
        "seed": seed,
        "settings": settings,
        "pictures": found.num_pictures,
        "skipped": len(found.skipped),
        "scores": {name: vars(share) for name, share in one.scores().items()},
        "classes": {
            str(name): [int(own.sum()), float(one.average_precision[own].mean()), float(one.recall[own, 0].mean())]
            for k, name in enumerate(names)
            if (own := one.labels == k).any()
        },
        "training_seconds": history[-1]["seconds"] if history else None,
        "machine": {"device": run.machine().device, "threads": torch.get_num_threads(), "processor": processor()},
    }


def run(asked):
    torch.set_num_threads(1)
    keep_freed_memory()
    asked.work.mkdir(parents=True, exist_ok=True)
    for seed in range(
        asked.seeds
    ):  # every recipe with the first seed first, so that there is soon something to compare
        for recipe in asked.recipes:
            file = asked.out / f"{asked.data}-{Path(recipe).stem}-{seed}.json"
            if not file.exists():
                write_json(file, measured(asked.work, asked.data, seed, recipe, asked))
            print(
                file.stem, *(f"{name} {100 * read_json(file, dict)['scores'][name]['value']:.1f}" for name in MEASURES)
            )


def sums(runs, classes, column):
    """(K, 2) over the seeds, for each class: the sum of a measure over its queries, and how many there were."""
    found = np.zeros((len(classes), 2))
    for one in runs:
        for name, values in one["classes"].items():
            found[classes[name]] += [values[0] * values[1 + column], values[0]]
    return found


def share(found, base=None):
    """In points: a mean over queries, or the difference of two, with its 95 % interval over classes."""

    def value(times):
        total = times @ found
        mean = total[0] / total[1]
        return mean if base is None else mean - (times @ base)[0] / total[1]

    drawn = [value(times) for times in resamples(np.arange(len(found)), seed=0, replicates=2000)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    form = "{:.1f} ({:.1f}–{:.1f})" if base is None else "{:+.1f} ({:+.1f} to {:+.1f})"
    return form.format(*(100 * one for one in (value(np.ones(len(found))), low, high)))


def show(asked):
    kept = defaultdict(lambda: defaultdict(dict))
    for file in sorted(asked.out.glob("*.json")):
        one = read_json(file, dict)
        kept[one["data"]][one["recipe"]][one["seed"]] = one
    against = f"against `{asked.baseline}`"
    print(f"| data | recipe | seeds | MAP@R | {against} | Recall@1 | {against} | minutes |")
    print("|---|---|---|---|---|---|---|---|")
    for data, recipes in kept.items():
        names = sorted({name for runs in recipes.values() for one in runs.values() for name in one["classes"]})
        classes = {name: k for k, name in enumerate(names)}
        base = recipes.get(asked.baseline, {})
        for recipe in sorted(recipes, key=lambda name: (name != asked.baseline, name)):
            runs = recipes[recipe]
            both = sorted(runs.keys() & base.keys())
            cells = []
            for column in range(len(MEASURES)):
                cells.append(share(sums(runs.values(), classes, column)))
                compared = [sums([one[seed] for seed in both], classes, column) for one in (runs, base)]
                cells.append(share(*compared) if both and recipe != asked.baseline else "")
            seconds = [one["training_seconds"] for one in runs.values() if one["training_seconds"]]
            minutes = f"{np.mean(seconds) / 60:.0f}" if seconds else ""
            print(f"| {data} | `{recipe}` | {len(runs)} | {' | '.join(cells)} | {minutes} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    acts = parser.add_subparsers(required=True)
    running = acts.add_parser("run")
    running.add_argument("work", type=Path)
    running.add_argument("data", choices=PLACES)
    running.add_argument("seeds", type=int)
    running.add_argument("recipes", nargs="+")
    running.add_argument("--most", type=int, help="photographs of each class, to try the script out")
    running.add_argument("--set", action="append", default=[], help="a further setting, to try the script out")
    running.set_defaults(act=run)
    showing = acts.add_parser("show")
    showing.add_argument("baseline", nargs="?", default="probe")
    showing.set_defaults(act=show)
    asked = parser.parse_args()
    asked.act(asked)


if __name__ == "__main__":
    main()
