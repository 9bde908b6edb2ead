"""What choosing the next labels is worth: accuracy against the number of labels, beside choosing at random.

usage: next_labels.py NAME DATA FEATURES.npz [--seeds 10] [--steps 50,100,…,900] [--out results/next-NAME.json]

A probe on frozen features (`frozen.py` computes them once) begins with as many labels as the first step says, chosen
as `fieldmark next` chooses from nothing, or at random. At each step it is trained anew (C by cross-validation),
calibrated by a temperature on out-of-fold answers, and scored on the test split; then the labels up to the next are
chosen from the training split. Area under accuracy against labels (its mean), the paired difference from random over
seeds with a 95 % interval (Student's t), and the share of labels saved at random's final accuracy.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from draws import interval
from frozen import frozen
from scipy.special import log_softmax
from sklearn.preprocessing import normalize

from fieldmark.evaluation.scaling import fit_temperature
from fieldmark.evaluation.unknown import class_means
from fieldmark.labelling.choosing import choose, typical
from fieldmark.learning.training.probe import LinearHead, fit_linear_head, out_of_fold

WAYS = ("random", "fieldmark", "fieldmark, balanced")


def head(embedding, labels, num_classes, seed):
    """A probe and its calibration; class means while no class has two labels."""
    groups = np.arange(len(labels))
    if np.bincount(labels).max() < 2:
        means = class_means(embedding, labels, num_classes)
        return LinearHead(means, np.zeros(num_classes), 0.0, 0.0), lambda logits: log_softmax(10 * logits, axis=1)
    fitted = fit_linear_head(embedding, labels, groups, num_classes, reading="unit", seed=seed)
    unseen = out_of_fold(embedding, labels, groups, num_classes, folds=3, strengths=(fitted.strength,), seed=seed)
    known = unseen[groups, labels] > 0
    logits = np.log(unseen[known].clip(1e-12))
    return fitted, fit_temperature(logits, labels[known])


def curve(way, train, test, num_classes, steps, seed):
    """Accuracy (steps,) on the test split."""
    (embedding, labels), (others, truth) = train, test
    random = np.random.default_rng(seed)
    order = random.permutation(len(labels))
    nothing = np.empty((0, embedding.shape[1]))
    start = order[: steps[0]] if way == "random" else order[typical(embedding[order], nothing, steps[0], seed=seed)]
    chosen, found = list(start), []
    for at, step in enumerate(steps):
        fitted, scaling = head(embedding[chosen], labels[chosen], num_classes, seed)
        found.append(float(((normalize(others) @ fitted.weight.T + fitted.bias).argmax(1) == truth).mean()))
        if at + 1 == len(steps):
            break
        rest, wanted = np.setdiff1d(order, chosen, assume_unique=True), steps[at + 1] - step
        if way == "random":
            more = order[len(chosen) : len(chosen) + wanted]
        else:
            logits = normalize(embedding[rest]) @ fitted.weight.T + fitted.bias
            more = rest[
                choose(
                    np.exp(scaling(logits)),
                    embedding[rest],
                    embedding[chosen],
                    labels[chosen],
                    wanted,
                    balanced="balanced" in way,
                    seed=seed,
                )
            ]
        chosen += more.tolist()
    return found


def saved(curves, steps):
    """The share of labels that are saved at random's final mean accuracy; 0 if it is not reached earlier."""
    level = np.mean(curves["random"], axis=0)[-1]
    reached = {}
    for way in WAYS[1:]:
        mean = np.maximum.accumulate(np.mean(curves[way], axis=0))
        needed = np.interp(level, mean, steps) if mean[-1] >= level else steps[-1]
        reached[way] = float(1 - needed / steps[-1])
    return reached


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("data")
    parser.add_argument("features")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", default="50,100,150,200,300,400,500,600,700,800,900")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    known = frozen(asked.data, asked.features)
    steps = [int(step) for step in asked.steps.split(",")]
    curves = {way: [] for way in WAYS}
    for seed in range(asked.seeds):
        for way in WAYS:
            curves[way].append(curve(way, known.of("train"), known.of("test"), len(known.classes), steps, seed))
            print(seed, way, " ".join(f"{100 * one:.1f}" for one in curves[way][-1]), flush=True)
    areas = {way: [float(np.trapezoid(one, steps) / (steps[-1] - steps[0])) for one in curves[way]] for way in WAYS}
    result = {
        "data": asked.name,
        "steps": steps,
        "area": {way: float(np.mean(areas[way])) for way in WAYS},
        "gain in area": {way: interval(areas[way], areas["random"]) for way in WAYS[1:]},
        "labels saved": saved(curves, steps),
        "curves": curves,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "curves"}, indent=1))
    out = asked.out or Path(__file__).parent / "results" / f"next-{asked.name}.json"
    out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
