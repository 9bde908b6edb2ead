"""How soon planted mistakes are found: Fieldmark's ranking beside confident learning alone.

usage: doubts.py NAME DATA FEATURES.npz [--plantings 5] [--noise 0.05] [--out results/doubts-NAME.json]

Of the training split, a share of the labels is changed: half to any other class, half to the class's look-alike, which
is the one that a probe on the true labels mistakes it for most often. Both rankings see the same out-of-fold
probabilities of a probe on frozen features (`frozen.py` computes them once). Mean average precision over the plantings,
and the paired difference with a 95 % interval over plantings (Student's t).
"""

import argparse
import json
from pathlib import Path

import numpy as np
from cleanlab.rank import get_label_quality_scores
from draws import interval
from frozen import frozen
from sklearn.metrics import average_precision_score

from fieldmark.labelling.confidence import self_confidence
from fieldmark.labelling.doubts import pooled
from fieldmark.labelling.neighbours import votes
from fieldmark.learning.training.probe import out_of_fold


def look_alikes(embedding, labels, num_classes):
    """(K,) the class that each is most often taken for, by out-of-fold answers."""
    found = out_of_fold(embedding, labels, np.arange(len(labels)), num_classes)
    confused = np.zeros((num_classes, num_classes))
    np.add.at(confused, labels, found)
    np.fill_diagonal(confused, -1)
    return confused.argmax(axis=1)


def planted(labels, alike, noise, num_classes, seed):
    """Labels with mistakes, and which they are (N,)."""
    random = np.random.default_rng(seed)
    rows = random.permutation(len(labels))[: round(noise * len(labels))]
    uniform, spoilt = rows[: len(rows) // 2], labels.copy()
    spoilt[rows] = alike[labels[rows]]
    spoilt[uniform] = (labels[uniform] + random.integers(1, num_classes, len(uniform))) % num_classes
    return spoilt, spoilt != labels


def measured(embedding, labels, alike, noise, seed):
    """Average precision of each ranking on one planting."""
    num_classes, units = len(alike), np.arange(len(labels))
    spoilt, wrong = planted(labels, alike, noise, num_classes, seed)
    probabilities = out_of_fold(embedding, spoilt, units, num_classes, seed=seed)
    voted = votes(embedding, spoilt, units, num_classes)
    rankings = {
        "fieldmark": -self_confidence(pooled(probabilities, voted, spoilt), spoilt),
        "look-alikes alone": -self_confidence(voted, spoilt),
    }
    for method in ("self_confidence", "normalized_margin", "confidence_weighted_entropy"):
        for adjusted in (False, True):
            if not (adjusted and method == "confidence_weighted_entropy"):
                name = f"cleanlab, {method}{', adjusted' if adjusted else ''}"
                rankings[name] = -get_label_quality_scores(
                    spoilt, probabilities, method=method, adjust_pred_probs=adjusted
                )
    found = {name: float(average_precision_score(wrong, scores)) for name, scores in rankings.items()}
    return found | {"planted": int(wrong.sum()), "accuracy": float((probabilities.argmax(1) == labels).mean())}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("data")
    parser.add_argument("features")
    parser.add_argument("--plantings", type=int, default=5)
    parser.add_argument("--noise", type=float, default=0.05)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    known = frozen(asked.data, asked.features)
    embedding, labels = known.of("train")
    alike = look_alikes(embedding, labels, len(known.classes))
    rounds = []
    for seed in range(asked.plantings):
        rounds.append(measured(embedding, labels, alike, asked.noise, seed))
        print(seed, json.dumps(rounds[-1]), flush=True)
    names = [name for name in rounds[0] if name not in ("planted", "accuracy")]
    means = {name: float(np.mean([one[name] for one in rounds])) for name in names}
    usual = "cleanlab, self_confidence"
    best = max((name for name in names if name.startswith("cleanlab")), key=means.get)
    own = [one["fieldmark"] for one in rounds]
    result = {
        "data": asked.name,
        "images": len(labels),
        "noise": asked.noise,
        "mean average precision": means,
        "gain over self_confidence": interval(own, [one[usual] for one in rounds]),
        f"gain over the best ({best})": interval(own, [one[best] for one in rounds]),
        "plantings": rounds,
    }
    print(json.dumps({key: value for key, value in result.items() if key != "plantings"}, indent=1))
    out = asked.out or Path(__file__).parent / "results" / f"doubts-{asked.name}.json"
    out.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
