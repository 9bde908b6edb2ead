"""What photographs without labels are worth when few have one: the recipe `pseudo_labels` beside a probe.

usage: few_labels.py NAME DATA FEATURES.npz [--size 224] [--draws 10] [--out results/few-labels-NAME.json]

On frozen features (`frozen.py` computes them once), without the test split. A third of the images of each class is
scored, 1, 3, 5 or 10 of the others have a label, and the rest has none. Shares right, and paired differences from the
probe with 95 % intervals over draws (Student's t):

    always        every pseudo-label is learnt from
    recipe        … if a trial says that it helps, as the recipe does
    strangers     the same as `recipe`, but a quarter of the classes has no label at all, and what shows them lies among
                  the photographs without one; scored on the other classes, against a probe on the same labels
    all labels    a probe to which the labels of all are told

C is what a probe chooses with many labels; choosing it in every draw takes minutes.
"""

import argparse
import json
import warnings
from pathlib import Path

import numpy as np
from draws import interval
from frozen import frozen
from sklearn.preprocessing import normalize

from fieldmark.core.recipe import load_recipe
from fieldmark.learning.training.probe import regression
from fieldmark.learning.training.propagation import propagate, tried

STRENGTH = 30.0
WEIGHT = load_recipe("pseudo_labels").train.pseudo_weight
LABELS = (1, 3, 5, 10)


def parted(labels, number, random):
    """Rows with a label, without one, and to score."""
    rows = {"labelled": [], "unlabelled": [], "scored": []}
    for k in np.unique(labels):
        own = random.permutation(np.flatnonzero(labels == k))
        third = len(own) // 3
        for name, some in zip(rows, (own[third : third + number], own[third + number :], own[:third]), strict=True):
            rows[name].extend(some)
    return [np.array(some) for some in rows.values()]


def taught(embedding, labels, labelled, unlabelled):
    """A probe that learns from both, and what became of the photographs without a label."""
    found = propagate(embedding[labelled], labels[labelled], embedding[unlabelled], labels.max() + 1)
    used = found.certainty > 0
    rows = np.concatenate([labelled, unlabelled[used]])
    weights = np.concatenate([np.ones(len(labelled)), WEIGHT * found.certainty[used]])
    model = regression(embedding[rows], np.concatenate([labels[labelled], found.labels[used]]), STRENGTH, weights)
    return model, used, found.labels == labels[unlabelled]


def helps(embedding, labels, labelled, unlabelled, seed):
    """Whether a trial says so, or nothing can be tried."""
    trial = tried(
        embedding[labelled],
        labels[labelled],
        np.arange(len(labelled)),
        embedding[unlabelled],
        labels.max() + 1,
        strength=STRENGTH,
        weight=WEIGHT,
        seed=seed,
    )
    return trial is None or trial.taught > trial.alone


def measured(embedding, labels, number, seed):
    """One draw."""
    random = np.random.default_rng([17, number, seed])
    labelled, unlabelled, scored = parted(labels, number, random)

    def right(model, rows):
        return float((model.predict(embedding[rows]) == labels[rows]).mean())

    alone = regression(embedding[labelled], labels[labelled], STRENGTH)
    model, used, correct = taught(embedding, labels, labelled, unlabelled)
    told = np.concatenate([labelled, unlabelled])
    does = helps(embedding, labels, labelled, unlabelled, seed)
    found = {
        "probe": right(alone, scored),
        "always": right(model, scored),
        "recipe": right(model if does else alone, scored),
        "all labels": right(regression(embedding[told], labels[told], STRENGTH), scored),
        "pseudo-labels right": float(correct[used].mean()),
        "chosen by the trial": float(does),
    }
    num_classes = labels.max() + 1
    strange = np.isin(labels, random.permutation(num_classes)[: num_classes // 4])
    some, asked = labelled[~strange[labelled]], scored[~strange[scored]]
    alone = regression(embedding[some], labels[some], STRENGTH)
    model, used, _ = taught(embedding, labels, some, unlabelled)
    does = helps(embedding, labels, some, unlabelled, seed)
    return found | {
        "probe beside strangers": right(alone, asked),
        "strangers": right(model if does else alone, asked),
        "strangers left out": float((~used[strange[unlabelled]]).mean()),
        "others left out": float((~used[~strange[unlabelled]]).mean()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("data")
    parser.add_argument("features")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    warnings.simplefilter("ignore")  # of scikit-learn, about classes with one label: they are what is measured
    known = frozen(asked.data, asked.features, size=asked.size)
    rows = np.flatnonzero(known.splits != "test")
    embedding, labels = normalize(known.embedding[rows]), known.labels[rows]
    result = {"data": asked.name, "images": len(rows), "draws": asked.draws, "weight": WEIGHT, "labels": {}}
    for number in LABELS:
        draws = [measured(embedding, labels, number, seed) for seed in range(asked.draws)]
        means = {name: float(np.mean([one[name] for one in draws])) for name in draws[0]}
        pairs = [(name, "probe") for name in ("always", "recipe")] + [("strangers", "probe beside strangers")]
        gains = {a: interval([one[a] for one in draws], [one[b] for one in draws]) for a, b in pairs}
        result["labels"][number] = {"means": means, "gains": gains, "draws": draws}
        print(number, json.dumps(means | {"gains": gains}), flush=True)
    out = asked.out or Path(__file__).parent / "results" / f"few-labels-{asked.name}.json"
    out.write_text(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
