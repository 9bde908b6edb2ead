"""Same or different, on classes that were never trained on: how good, and whether rates are what was asked for.

usage: verify.py NAME DATA FEATURES.npz [--size 224] [--draws 20] [--photographs 5] [--out FILE]
       verify.py NAME DATA RUN                on features of a network that has learnt some of the classes, such as
                                              those of retrieval.py

In each draw of the classes of DATA, half are learnt, on frozen features (`frozen.py` computes them once): PLDA is
fitted to four fifths of their images, as a bundle keeps them. Of the other half, all images are of new classes: half of
these give the thresholds, and the rest is judged by them. Told are the equal error rate, true accepts at 1 % false
accepts, the false accepts that came out where 1 % was asked for, with thresholds of new classes and of learnt ones
(cross-fitted, as where nothing was measured), and the cosine beside it. In open galleries, half of the judged classes
are known by a few photographs each, and the others are strangers. Where classes come in pairs of a genuine one and its
impostor (`fieldmark draw --kind impostors`), pairs stay together, and impostors that pass for their genuine one are
counted. Images of one group, such as a burst, are not compared. With a RUN, its classes are the learnt ones in each
draw, and what is held out of them is the official test split. Medians over draws, with the range of nine in ten.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from frozen import Frozen, frozen

from fieldmark import Predictor, read
from fieldmark.evaluation.comparing import Basis
from fieldmark.evaluation.enrolment import Kept
from fieldmark.evaluation.identification import Reference
from fieldmark.evaluation.outputs import unit
from fieldmark.evaluation.paired import group_codes
from fieldmark.evaluation.plda import means_and_counts
from fieldmark.evaluation.verification import Verification, at_rate

RATE = 0.01


def a_fifth(labels, random):
    """(N,) a fifth of each class."""
    chosen = np.zeros(len(labels), bool)
    for k in np.unique(labels):
        chosen[random.permutation(np.flatnonzero(labels == k))[::5]] = True
    return chosen


def kept_of(embedding, labels, units, num_classes, held):
    """What a bundle would keep of these images, of which some (N,) are held out."""
    means, counts = means_and_counts(embedding[~held], labels[~held], num_classes)
    half = embedding.astype(np.float16)
    logits = np.zeros((held.sum(), num_classes), np.float32)
    near = np.zeros(held.sum())
    return Kept(logits, near, labels[held], units[held], half[held], means, counts, half[~held], labels[~held])


def divided(twins, learnt, random):
    """Classes in four lots: learnt (those given, or half), for thresholds, known and strangers. Twins stay together."""
    given = set() if learnt is None else set(learnt.tolist())
    units = [sorted({k, int(twins[k])}) for k in range(len(twins)) if k <= twins[k] and k not in given]
    order = [units[k] for k in random.permutation(len(units))]
    number = 0 if given else len(order) // 2
    half, rest = [sorted(given)] if given else order[:number], order[number:]  # one unit, or several
    measured, judged = rest[: len(rest) // 2], rest[len(rest) // 2 :]
    known, strangers = judged[: len(judged) // 2], judged[len(judged) // 2 :]
    return [np.array([k for unit in some for k in unit]) for some in (half, measured, known, strangers)]


def rates_at(threshold, scores, labels, groups):
    """False and true accepts."""
    found = Verification.of(scores, labels, groups)
    accepted = found.scores >= threshold
    return float(accepted[~found.genuine].mean()), float(accepted[found.genuine].mean())


def measured(embedding, labels, groups, twins, shots, seed, learnt=None, held=None):
    """One draw of the classes."""
    random = np.random.default_rng(seed)
    learnt, lot, known, strangers = divided(twins, learnt, random)
    rows = {
        "learnt": np.isin(labels, learnt),
        "lot": np.isin(labels, lot),
        "judged": np.isin(labels, [*known, *strangers]),
        "new": ~np.isin(labels, learnt),
    }
    x, y, g = ({name: values[some] for name, some in rows.items()} for values in (embedding, labels, groups))
    out = a_fifth(y["learnt"], random) if held is None else held[rows["learnt"]]
    kept = kept_of(x["learnt"], y["learnt"], g["learnt"], len(twins), out)
    plda = kept.plda()
    own = {name: plda.coordinates(x[name]) for name in ("lot", "judged", "new")}
    same = {name: plda.all_same(own[name], own[name]) for name in own}
    told = {}
    for way, scores in (("", same), ("cosine ", {name: x[name] @ x[name].T for name in own})):
        everything = Verification.of(scores["new"], y["new"], g["new"])
        told[f"{way}equal error rate"] = everything.equal_error_rate().value
        threshold = Verification.of(scores["lot"], y["lot"], g["lot"]).threshold(RATE)
        told[f"{way}false accepts"], told[f"{way}true accepts"] = rates_at(
            threshold, scores["judged"], y["judged"], g["judged"]
        )
        told[f"{way}true accepts, threshold of the same pairs"] = everything.at(
            everything.threshold(RATE)
        ).true_accepts.value
    told["1 % promised"] = at_rate(Verification.of(same["lot"], y["lot"], g["lot"]), RATE)[1]
    own_classes = Basis.learnt(kept, [str(k) for k in range(len(twins))]).verification()
    told["false accepts, threshold of learnt classes"], _ = rates_at(
        own_classes.threshold(RATE), same["judged"], y["judged"], g["judged"]
    )
    told |= opened(embedding, labels, groups, plda, lot, known, strangers, shots, random)
    if (twins != np.arange(len(twins))).any():
        threshold = Verification.of(same["lot"], y["lot"], g["lot"]).threshold(RATE)
        impostors = twins[y["judged"]][:, None] == y["judged"][None]
        told["impostors that pass"] = float((same["judged"][impostors] >= threshold).mean())
    return told


def opened(embedding, labels, groups, plda, lot, known, strangers, shots, random):
    """An open gallery of a few photographs of each known class; thresholds from searches for classes of `lot`."""
    shown = np.zeros(len(labels), bool)
    for k in known:
        own = np.flatnonzero(labels == k)
        shown[random.permutation(own)[:shots]] = True
    places = {k: i for i, k in enumerate(sorted(known))}
    reference = Reference(embedding[shown], np.array([places[k] for k in labels[shown]]), groups[shown])
    basis = Basis.measured(plda, embedding[np.isin(labels, lot)], [str(k) for k in labels[np.isin(labels, lot)]],
                           groups[np.isin(labels, lot)])  # fmt: skip
    found = basis.identification(reference, plda)
    threshold = found.threshold(RATE)
    asked = np.isin(labels, known) & ~shown & ~np.isin(groups, groups[shown])
    others = np.isin(labels, strangers)
    scores = reference.likeness(plda, embedding[asked])
    right = scores.argmax(axis=1) == np.array([places[k] for k in labels[asked]])
    named = reference.likeness(plda, embedding[others]).max(axis=1) >= threshold
    return {
        "gallery: false positive identifications": float(named.mean()),
        "gallery: false negative identifications": 1 - float((right & (scores.max(axis=1) >= threshold)).mean()),
        "gallery: right class first": float(right.mean()),
        "gallery: 1 % promised": at_rate(found, RATE)[1],
    }


def twins_of(classes):
    """(K,) for each class its genuine one or impostor ("True Glesper", "False Glesper"), or itself without one."""
    number = {str(name): k for k, name in enumerate(classes)}
    other = {"True": "False", "False": "True"}
    first = [name.partition(" ") for name in number]
    return np.array([number.get(f"{other.get(kind)} {rest}", k) for k, (kind, _, rest) in enumerate(first)])


def features_of(asked):
    """Features, and where a run made them, its classes and what is held out of them; see `measured`."""
    if asked.features.suffix == ".npz":
        return frozen(asked.data, asked.features, size=asked.size), {}
    catalog, predictor = read(asked.data), Predictor.load(asked.features)
    embedding = predictor.embed([catalog.file(row) for row in range(len(catalog))])
    learnt = np.flatnonzero(np.isin(catalog.classes, predictor.bundle.classes))
    return (
        Frozen(embedding, catalog.labels, catalog.splits, np.array(catalog.classes)),
        {"learnt": learnt, "held": catalog.splits == "test"},
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("data")
    parser.add_argument("features", type=Path)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--photographs", type=int, default=5)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    features, run = features_of(asked)
    groups = group_codes(read(asked.data).groups.tolist())
    draws = [
        measured(
            unit(features.embedding.astype(np.float64)),
            features.labels,
            groups,
            twins_of(features.classes),
            asked.photographs,
            seed,
            **run,
        )
        for seed in range(asked.draws)
    ]
    result = {}
    for name in draws[0]:
        values = np.array([one[name] for one in draws], float)
        low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
        result[name] = {"median": middle, "low": low, "high": high, "mean": values.mean()}
        print(f"{name:<48} {100 * middle:5.1f} ({100 * low:.1f}–{100 * high:.1f}), mean {100 * values.mean():.1f}")
    out = asked.out or Path(__file__).parent / "results" / f"verify-{asked.name}.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=2) + "\n")
