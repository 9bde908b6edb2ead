"""Recipes beside each other, image by image, on the three sets: what `confirm.sh`, `reference.py` and `few.sh` kept.

usage: paired.py confirm SIZE [BASELINE]     on test images, against `reference` or another recipe
       paired.py few NUMBER [BASELINE]       with NUMBER images of a class, against `probe` or another recipe
Each prints a table in Markdown. Intervals are 95 % bootstrap intervals over images.
"""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from fieldmark.comparison.result import Result

RESULTS = Path(__file__).parent / "results"
BASELINES = {"confirm": "reference", "few": "probe"}
SETS = ("cub", "flowers102", "cars60")


def gains(results, baseline):
    """(N,) mean paired gain of each image over the seeds that both have."""
    seeds = sorted(results.keys() & baseline.keys())
    return np.mean([results[s].correct.astype(float) - baseline[s].correct for s in seeds], axis=0) if seeds else None


def interval(samples, replicates=2000):
    """The mean over sets of the mean of each, in points, and its 95 % bootstrap interval over the images of each."""
    random = np.random.default_rng(0)
    draws = [one[random.integers(0, len(one), (replicates, len(one)))].mean(1) for one in samples]
    low, high = np.quantile(100 * np.mean(draws, axis=0), [0.025, 0.975])
    return f"{100 * np.mean([one.mean() for one in samples]):+.1f} ({low:+.1f} to {high:+.1f})"


def minutes(runs):
    """The mean minutes of training on each kind of device."""
    seconds = defaultdict(list)
    for one in runs:
        seconds[one.machine.get("device", "cpu")].append(one.seconds)
    return ", ".join(f"{np.mean(some) / 60:.0f} ({device})" for device, some in sorted(seconds.items()))


def main(what, number, base=None):
    base = base or BASELINES[what]
    found = defaultdict(lambda: defaultdict(dict))
    for name in SETS:
        for file in sorted((RESULTS / what / f"{name}-{number}").glob("*.json")):
            result = Result.load(file)
            found[result.recipe][name][result.seed] = result
    print(f"| data | recipe | right, each seed | mean | against `{base}`, points | NLL | training, minutes |")
    print("|---|---|---|---|---|---|---|")
    total = defaultdict(list)
    for name in SETS:
        for recipe in sorted(found, key=lambda one: (one != base, one)):
            runs = found[recipe][name]
            if not runs:
                continue
            against = ""
            if recipe != base and (gain := gains(runs, found[base][name])) is not None:
                total[recipe].append(gain)
                against = interval([gain])
            each = ", ".join(f"{100 * runs[seed].accuracy:.1f}" for seed in sorted(runs))
            mean = 100 * np.mean([one.accuracy for one in runs.values()])
            nll = np.mean([one.nll.mean() for one in runs.values()])
            print(f"| {name} | `{recipe}` | {each} | {mean:.1f} % | {against} | {nll:.3f} | {minutes(runs.values())} |")
    for recipe, samples in total.items():
        if len(samples) == len(SETS):
            print(f"| all three, mean | `{recipe}` | | | {interval(samples)} | | |")


main(*sys.argv[1:])
