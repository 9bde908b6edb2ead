"""Classes enrolled from a few photographs: what they cost the classes that were learnt, and how well they are found.

usage: enrol.py NAME DATA FEATURES.npz [--size 224] [--draws 10] [--new 10] [--photographs 5] [--out FILE]

A probe learns all classes but ten, on frozen features (`frozen.py` computes them once); a fifth of its training images
is held out, as a run does. Each of the ten is then enrolled from five of its training images. Test images of both kinds
are answered: share right, and the harmonic mean of the two, with a 95 % interval over draws (Student's t). Beside it:
nearest class means, a regression on everything in which every class weighs the same, and one on all training images of
all classes. Verdicts: the share of test images that get a name, and how many of these names are right.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
from draws import interval
from frozen import frozen
from sklearn.linear_model import LogisticRegression

from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.calibration import Calibration, Held
from fieldmark.evaluation.enrolment import Kept, Shown, fit_enrolment
from fieldmark.evaluation.outputs import unit
from fieldmark.evaluation.plda import means_and_counts
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.evaluation.unknown import class_means, nearness
from fieldmark.learning.training.probe import fit_linear_head

STRENGTH = 30.0
"""What a probe chooses on either data set; choosing it again in every draw takes minutes."""


def probe(embedding, labels, num_classes):
    """A probe's logits, as a function of embeddings."""
    head = fit_linear_head(
        embedding, labels, np.arange(len(labels)), num_classes, reading="unit", folds=2, strengths=(STRENGTH,)
    )
    return lambda asked: (asked @ head.weight.T + head.bias).astype(np.float32)


def held_out(labels, random):
    """(N,) whether an image is held out: a fifth of each class."""
    found = np.zeros(len(labels), bool)
    for k in np.unique(labels):
        found[random.permutation(np.flatnonzero(labels == k))[::5]] = True
    return found


def measured(train, test, num_new, shots, seed):
    """One draw: the shares right of each way, (old, new), old before, and what verdicts are worth."""
    random = np.random.default_rng(seed)
    order = random.permutation(train[1].max() + 1)  # the new classes come last
    num_known, place = len(order) - num_new, np.argsort(order)
    (seen, labels), (asked, truth) = ((unit(x.astype(np.float64)), place[y]) for x, y in (train, test))
    is_old = truth < num_known
    out = held_out(labels, random)
    old = labels < num_known
    learnt, held = np.flatnonzero(old & ~out), np.flatnonzero(old & out)
    few = np.concatenate(
        [random.permutation(np.flatnonzero(labels == k))[:shots] for k in range(num_known, len(order))]
    )

    logits_of = probe(seen[learnt], labels[learnt], num_known)
    centres = class_means(seen[learnt], labels[learnt], num_known)
    near, units = nearness(seen[held], centres), np.arange(len(held))
    base = Calibration.fit(
        Held(logits_of(seen[held]), near, labels[held], units),
        centres,
        Taxonomy(tuple(map(str, range(num_known)))),
        source="validation",
    )
    means, counts = means_and_counts(seen[learnt], labels[learnt], num_known)
    half = seen.astype(np.float16)
    kept = Kept(
        logits_of(seen[held]), near, labels[held], units, half[held], means, counts, half[learnt], labels[learnt]
    )
    shown = Shown(logits_of(seen[few]), half[few], labels[few] - num_known)
    taxonomy = Taxonomy(tuple(map(str, range(len(order)))))
    start = time.monotonic()
    found = fit_enrolment(kept, shown, base, taxonomy)
    seconds = time.monotonic() - start
    joint = found.gate(logits_of(asked), asked)

    both = np.concatenate([learnt, few])
    everything = np.flatnonzero(~out)
    weighed = LogisticRegression(C=STRENGTH, max_iter=300, class_weight="balanced").fit(seen[both], labels[both])
    prototypes = class_means(seen[both], labels[both], len(order))
    ways = {
        "fieldmark": joint.argmax(axis=1),
        "prototypes": (asked @ prototypes.T).argmax(axis=1),
        "balanced regression": weighed.predict(asked),
        "probe on all photographs": probe(seen[everything], labels[everything], len(order))(asked).argmax(axis=1),
    }
    shares = {name: [float((said == truth)[one].mean()) for one in (is_old, ~is_old)] for name, said in ways.items()}
    before = float((logits_of(asked[is_old]).argmax(axis=1) == truth[is_old]).mean())
    return (
        shares,
        before,
        promised(found, taxonomy, joint, asked, truth, is_old)
        | {
            "seconds": seconds,
            "odd": float(found.odd.mean()),
        },
    )


def promised(found, taxonomy, joint, asked, truth, is_old):
    """What verdicts promise, and what they keep on old and on new classes."""
    thresholds = Thresholds.of(found.calibration, taxonomy)
    verdicts = thresholds.verdicts(
        [""] * len(asked), found.calibration.scaling(joint), nearness(asked, found.calibration.means)
    )
    given = np.array([one.name is not None for one in verdicts])
    right = np.array([one.name == str(k) for one, k in zip(verdicts, truth, strict=True)])
    told = {"promised": thresholds.promised}
    for name, some in (("old", is_old), ("new", ~is_old), ("both", np.ones(len(truth), bool))):
        told[f"{name} named"] = float(given[some].mean())
        told[f"{name} right"] = float(right[some & given].mean()) if given[some].any() else None
    return told


def named(values):
    return dict(zip(("mean", "low", "high"), interval(values), strict=True))


def harmonic(pair):
    return 2 * pair[0] * pair[1] / max(sum(pair), 1e-9)


def shown_as(found):
    return f"{100 * found['mean']:.1f} ({100 * found['low']:.1f}–{100 * found['high']:.1f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("data")
    parser.add_argument("features")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--new", type=int, default=10)
    parser.add_argument("--photographs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    features = frozen(asked.data, asked.features, size=asked.size)
    train, test = features.of("train"), features.of("test")
    draws = [measured(train, test, asked.new, asked.photographs, seed) for seed in range(asked.draws)]
    result = {"before": named([before for _, before, _ in draws])}
    print("old classes before", shown_as(result["before"]))
    for way in draws[0][0]:
        pairs = [shares[way] for shares, _, _ in draws]
        result[way] = {
            "old": named([pair[0] for pair in pairs]),
            "new": named([pair[1] for pair in pairs]),
            "harmonic": named([harmonic(pair) for pair in pairs]),
            "gain": named([harmonic(shares["fieldmark"]) - harmonic(shares[way]) for shares, _, _ in draws]),
        }
        print(way, *(f"{name} {shown_as(one)}" for name, one in result[way].items()), sep="; ")
    result["lost"] = named([before - shares["fieldmark"][0] for shares, before, _ in draws])
    print("lost on old classes", shown_as(result["lost"]))
    result["verdicts"] = [told for _, _, told in draws]
    for told in result["verdicts"]:
        print(told)
    out = asked.out or Path(__file__).parent / "results" / f"enrol-{asked.name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
