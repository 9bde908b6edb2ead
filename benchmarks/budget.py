"""What a budget is worth: the same data trained within 2, 8 or 30 minutes, judged on the same validation images.

usage: budget.py run WORK DATA SEEDS 2m,8m       DATA: cub, flowers102 or cars60; SEEDS: how many. Needs FIELDMARK_DATA
       budget.py fixed WORK DATA SEEDS 8m RECIPE …    the same for fixed recipes, whose epochs fit into the budget
       budget.py show                            the tables in Markdown

No test photograph is looked at. A run is a process of its own, and its wall time, from its start to its end, is set
against its budget: it may be late by 5 % or 10 s, whichever is more. Every budget of a seed has the same validation
images, so accuracies are compared image by image; intervals are over images, the mean of the seeds. A finished run is
kept in results/budget/ and passed over the next time. Whoever measures on a busy machine measures a smaller budget.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np

from fieldmark.core.machine import processor
from fieldmark.core.reading import read_json
from fieldmark.core.storage import read_rows, write_json
from fieldmark.evaluation.paired import interval, resampled_means
from fieldmark.learning.budget.budget import Budget
from fieldmark.runs.budgeted import budget_of
from fieldmark.runs.run import Run

RESULTS = Path(__file__).parent / "results" / "budget"
PLACES = {"cub": "CUB_200_2011_first50", "flowers102": "flowers-102", "cars60": "cars-60/cars.csv"}


def measured(work, data, seed, budget, recipe, asked):
    """One run: what it chose, how long it took, and which validation images it has right."""
    out = work / f"{data}-{budget}-{recipe or 'auto'}-{seed}"
    place = Path(os.environ["FIELDMARK_DATA"], PLACES[data])
    settings = [f"seed={seed}", *asked.set]
    command = [sys.executable, "-m", "fieldmark", "train", str(place), "--budget", budget, "--out", str(out)]
    command += [*(["--recipe", recipe] if recipe else []), *(f"--set={setting}" for setting in settings)]
    began = time.monotonic()
    subprocess.run(command, check=True)
    wall = time.monotonic() - began
    run, facts = Run(out), budget_of(Run(out))
    rows = read_rows(run.evaluation("val") / "predictions.csv", ["path", "label", "predicted"])
    return {
        "data": data,
        "budget": budget,
        "recipe": recipe or "auto",
        "seed": seed,
        "settings": settings,
        "seconds": facts["amount"],
        "wall": round(wall, 1),
        "load": os.getloadavg()[0],
        "chosen": facts["chosen"],
        "because": facts["because"],
        "probes": facts["probes"],
        "trials": facts["trials"],
        "right": {row["path"]: int(row["label"] == row["predicted"]) for row in rows},
        "machine": {"threads": run.machine().threads, "device": run.machine().device, "processor": processor()},
    }


def run(asked):
    asked.work.mkdir(parents=True, exist_ok=True)
    for seed in range(asked.seeds):
        for budget in asked.budgets.split(","):
            for recipe in asked.recipes or [None]:
                file = asked.out / f"{asked.data}-{budget}-{recipe or 'auto'}-{seed}.json"
                if not file.exists():
                    write_json(file, measured(asked.work, asked.data, seed, budget, recipe, asked))
                one = read_json(file, dict)
                accuracy = 100 * np.mean(list(one["right"].values()))
                print(f"{file.stem}: {one['wall']:.0f} s, {accuracy:.1f} %, {one['chosen']}")


def late(one):
    """Whether it took more than 5 % or 10 s too long."""
    return one["wall"] > one["seconds"] + max(10.0, 0.05 * one["seconds"])


def difference(runs, others):
    """In points: the mean over common seeds of the difference on the same images, with its 95 % interval."""
    values, low_high = [], []
    for seed in sorted(runs.keys() & others.keys()):
        first, second = runs[seed]["right"], others[seed]["right"]
        paths = sorted(first.keys() & second.keys())
        right = np.array([[first[path], second[path]] for path in paths], float)
        values.append(right[:, 0].mean() - right[:, 1].mean())
        low_high.append(resampled_means(right, np.arange(len(paths)), seed=seed))
    if not values:
        return ""
    replicates = np.mean([found[:, 0] - found[:, 1] for found in low_high], axis=0)
    value = float(np.mean(values))
    low, high = interval(value, replicates)
    return f"{100 * value:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def show(asked):
    kept = defaultdict(lambda: defaultdict(dict))
    for file in sorted(asked.out.glob("*.json")):
        one = read_json(file, dict)
        kept[one["data"]][one["seconds"], one["recipe"]][one["seed"]] = one
    heads = ["data", "budget", "recipe", "wall time over budget", "late", "validation top-1", "gain on the one before"]
    print(f"| {' | '.join([*heads, 'chosen'])} |\n{'|---' * (len(heads) + 1)}|")
    for data, budgets in kept.items():
        before = {}
        for (seconds, recipe), runs in sorted(budgets.items()):
            walls = ", ".join(f"{one['wall'] / seconds:.2f}" for one in runs.values())
            accuracies = [100 * np.mean(list(one["right"].values())) for one in runs.values()]
            each = f" ({', '.join(f'{one:.1f}' for one in accuracies)})" if len(accuracies) > 1 else ""
            gain = difference(runs, before[recipe]) if recipe in before else ""
            chosen = "; ".join(dict.fromkeys(one["chosen"] for one in runs.values()))
            cells = [data, next(iter(runs.values()))["budget"], f"`{recipe}`", walls, sum(map(late, runs.values()))]
            cells += [f"{np.mean(accuracies):.1f} %{each}", gain, chosen]
            print(f"| {' | '.join(map(str, cells))} |")
            before[recipe] = runs
    beside_fixed(kept)


def accuracy(runs):
    return np.mean([np.mean(list(one["right"].values())) for one in runs.values()])


def beside_fixed(kept):
    """What the choice of a recipe costs: the best fixed one is that with the best validation accuracy."""
    print("\n| data | budget | best fixed recipe | its top-1 | `auto`, same seeds, against it |\n|---|---|---|---|---|")
    for data, budgets in kept.items():
        for seconds in sorted({one for one, _ in budgets}):
            fixed = {recipe: runs for (one, recipe), runs in budgets.items() if one == seconds and recipe != "auto"}
            if not fixed or (seconds, "auto") not in budgets:
                continue
            best = max(fixed, key=lambda recipe: accuracy(fixed[recipe]))
            gain = difference(budgets[seconds, "auto"], fixed[best])
            print(f"| {data} | {seconds:.0f} s | `{best}` | {100 * accuracy(fixed[best]):.1f} % | {gain} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    acts = parser.add_subparsers(required=True)
    for name in ("run", "fixed"):
        running = acts.add_parser(name)
        running.add_argument("work", type=Path)
        running.add_argument("data", choices=PLACES)
        running.add_argument("seeds", type=int)
        running.add_argument("budgets", help="such as 2m,8m")
        if name == "fixed":
            running.add_argument("recipes", nargs="+")
        else:
            running.set_defaults(recipes=[])
        running.add_argument("--set", action="append", default=[], help="a further setting, to try the script out")
        running.set_defaults(act=run)
    acts.add_parser("show").set_defaults(act=show)
    asked = parser.parse_args()
    for budget in getattr(asked, "budgets", "").split(","):
        if budget:
            Budget.parse(budget)
    asked.act(asked)


if __name__ == "__main__":
    main()
