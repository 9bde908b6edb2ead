"""What verdicts are worth, from the answers of one finished run.

usage: verdicts.py answers RUN OUT.npz [PART=PATH …]
           answer the run's test split and, beside it, data that it does not know. PATH is a folder of images, or
           backgrounds:DATA for crops beside the boxes of a data set's test split, or unknown:DATA for its test images
           of classes that the run does not know.
       verdicts.py figures RUN OUT.npz
           the figures, without a look at any image, kept as results/verdicts/NAME.json; NAME is that of the run.
       verdicts.py table NAME …
           the kept figures of several runs beside each other, and their means.
       verdicts.py hold-out CUB_FOLDER TABLE.csv
           the table without the last species of each of the first ten genera with two or more, to train another run on.
"""

import csv
import json
import sys
from pathlib import Path

import numpy as np
from scipy.special import log_softmax
from scipy.stats import binom
from sklearn.metrics import roc_auc_score

from fieldmark import Bundle, Predictor, evaluate, read
from fieldmark.answering.stream import Shown, stream
from fieldmark.answering.views import short_side
from fieldmark.core.machine import processor
from fieldmark.core.reading import read_json
from fieldmark.core.storage import write_json
from fieldmark.data.decode import decode
from fieldmark.evaluation.conformal import coverage_interval, score, set_limits, sets, standing
from fieldmark.evaluation.outputs import joined
from fieldmark.evaluation.scaling import nll
from fieldmark.evaluation.unknown import nearness
from fieldmark.evaluation.verdict_scores import score_verdicts

RESULTS = Path(__file__).parent / "results" / "verdicts"
SMALLEST = 64
"""Side of a background crop, in pixels of the photograph."""


def outputs_of(engine, view, pictures):
    """Of decoded pictures."""
    return joined([one.output for one in stream(pictures, lambda pixels: Shown(view(pixels)), engine)])


def answered(predictor, pictures):
    """Logits and nearness of decoded pictures."""
    outputs = outputs_of(predictor.engine, predictor.view, pictures)
    return outputs.logits, nearness(outputs.embedding, predictor.bundle.calibration.means)


def beside(pixels, box):
    """The largest square beside the box; none where that is too small."""
    height, width = pixels.shape[:2]
    x, y, w, h = box
    strips = [(0, 0, x, height), (x + w, 0, width, height), (0, 0, width, y), (0, y + h, width, height)]
    left, top, right, bottom = (int(v) for v in max(strips, key=lambda s: min(s[2] - s[0], s[3] - s[1])))
    side = min(right - left, bottom - top)
    if side < SMALLEST:
        return None
    left, top = (left + right - side) // 2, (top + bottom - side) // 2
    return np.ascontiguousarray(pixels[top : top + side, left : left + side])


def pictures(bundle, place):
    """Decoded pictures of a folder, of backgrounds or of unknown classes."""
    side = short_side(bundle.images)
    kind, _, path = place.rpartition(":")
    if not kind:
        return (decode(file, short_side=side).pixels for file in sorted(Path(path).rglob("*.jpg")))
    catalog = read(path)
    rows = catalog.rows("test")
    if kind == "unknown":
        strange = [row for row in rows if catalog.classes[catalog.labels[row]] not in bundle.classes]
        return (decode(catalog.file(row), short_side=side).pixels for row in strange)
    crops = (beside(decode(catalog.file(row)).pixels, catalog.boxes[row]) for row in rows)
    return (crop for crop in crops if crop is not None)


def test_answers(run, predictor):
    """The test split, counted as a look, in the order of the catalogue."""
    looks = evaluate(run).looks
    known = read_json(Path(run) / "data.json", dict)
    catalog = read(known["source"])
    rows = catalog.rows("test")
    index, side = {name: k for k, name in enumerate(predictor.classes)}, short_side(predictor.bundle.images)
    logits, near = answered(predictor, (decode(catalog.file(row), short_side=side).pixels for row in rows))
    return logits, near, np.array([index[catalog.classes[catalog.labels[row]]] for row in rows]), looks


def paired(gain):
    """Mean of a paired gain and its 95 % interval."""
    half = 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
    return [gain.mean(), gain.mean() - half, gain.mean() + half]


def auroc(known, other):
    """Area under the curve that tells known pictures from others by their scores."""
    return roc_auc_score(np.repeat([1, 0], [len(known), len(other)]), np.concatenate([known, other]))


def auroc_gain(known, other, base_known, base_other, replicates=1000):
    """How much larger AUROC is than the baseline's, and the bootstrap interval of the difference."""
    rng, gains = np.random.default_rng(0), []
    for _ in range(replicates):
        i, j = rng.integers(len(known), size=len(known)), rng.integers(len(other), size=len(other))
        gains.append(auroc(known[i], other[j]) - auroc(base_known[i], base_other[j]))
    return [auroc(known, other) - auroc(base_known, base_other), *np.quantile(gains, [0.025, 0.975])]


def halvings(probabilities, labels, penalty, times=100):
    """90 % sets, calibrated on one random half and tested on the other."""
    scores = score(*standing(probabilities, labels), penalty)
    covered, size, hits = [], [], 0
    for seed in range(times):
        order = np.random.default_rng(seed).permutation(len(labels))
        first, second = np.array_split(order, 2)
        limits = set_limits(scores[first], labels[first], probabilities.shape[1], 0.9)
        inside = sets(probabilities[second], limits, penalty)
        low, high = coverage_interval([len(first)], [len(second)], 0.9)
        covered.append(inside[np.arange(len(second)), labels[second]].mean())
        size.append(inside.sum(axis=1).mean())
        hits += low <= covered[-1] <= high
    return {"covered": np.mean(covered), "hits": hits, "of": times, "interval": [low, high], "size": np.mean(size)}


def figures(run, file):
    """All that the answers can tell."""
    bundle, saved = Bundle.load(run), np.load(file)
    calibration, thresholds = bundle.calibration, bundle.thresholds()
    logits, near, labels = saved["logits"], saved["near"], saved["labels"]
    verdict_scores = score_verdicts(thresholds, logits, near, labels)
    before, after = log_softmax(logits.astype(np.float64), axis=1), calibration.scaling(logits)
    probabilities = np.exp(after)
    told = verdict_scores.as_dict()
    for crowded in ("reliability", "risk"):
        del told[crowded]
    return {
        "run": Path(run).name,
        "images": len(labels),
        "looks": int(saved["looks"]),
        "top1": np.mean(probabilities.argmax(axis=1) == labels),
        "scaling": [calibration.scaling.kind, calibration.scaling.temperature],
        "threshold": thresholds.promise.threshold,
        **told,
        "nll_gain": paired(nll(before, labels) - nll(after, labels)),
        "halvings": halvings(probabilities, labels, calibration.penalty),
        "softmax_share": softmax_share(before, labels),
        "unknown": unknowns(bundle, saved, probabilities, np.exp(before.max(axis=1))),
        "machine": {**read_json(Path(run) / "environment.json", dict)["machine"], "processor": processor()},
    }


def softmax_share(before, labels):
    """The most answers by maximum softmax that pass the same test, chosen on the test split itself: it flatters it."""
    order = np.argsort(-before.max(axis=1))
    right = np.cumsum((before.argmax(axis=1) == labels)[order])
    number = np.arange(1, len(labels) + 1)
    passed = np.flatnonzero(binom.sf(right - 1, number, 0.95) <= 0.05)
    return (passed[-1] + 1) / len(labels) if len(passed) else 0.0


def unknowns(bundle, saved, probabilities, softmax):
    """Known against each kind of unknown picture."""
    familiarity = bundle.calibration.familiarity
    known = familiarity.score(probabilities.max(axis=1), saved["near"])
    told = {"accepted": familiarity.accepts(known).mean()}
    for part in (name.removeprefix("logits_") for name in saved.files if name.startswith("logits_")):
        logits, near = saved[f"logits_{part}"], saved[f"near_{part}"]
        other = familiarity.score(np.exp(bundle.calibration.scaling(logits).max(axis=1)), near)
        other_softmax = np.exp(log_softmax(logits.astype(np.float64), axis=1).max(axis=1))
        pairs = ((known, other), (softmax, other_softmax))
        told[part] = {
            "pictures": len(other),
            "auroc": [auroc(*pair) for pair in pairs],
            "gain": auroc_gain(known, other, softmax, other_softmax),
            "false_positives": [(o >= np.quantile(k, 0.05)).mean() for k, o in pairs],
            "accepted": familiarity.accepts(other).mean(),
        }
    return told


def leaves(told, path=()):
    """Every number of a nested result, by where it stands."""
    items = told.items() if isinstance(told, dict) else enumerate(told) if isinstance(told, list) else ()
    for key, value in items:
        yield from leaves(value, (*path, str(key)))
    if isinstance(told, int | float) and not isinstance(told, bool):
        yield ".".join(path), told


def table(names):
    """One line for each figure that all runs have: each run's, and their mean."""
    runs = [dict(leaves(read_json(RESULTS / f"{name}.json", dict))) for name in names]
    for figure in runs[0]:
        values = [run[figure] for run in runs if figure in run]
        print(f"{figure:36}", *(f"{value:9.4f}" for value in values), f"  mean {np.mean(values):9.4f}")


def hold_out(folder, table):
    """Write the table without ten species whose genera stay known."""
    catalog = read(folder)
    genera = catalog.taxonomy["genus"]
    pairs = [genus for genus in dict.fromkeys(genera) if genera.count(genus) > 1][:10]
    held = {len(genera) - 1 - genera[::-1].index(genus) for genus in pairs}
    with Path(table).open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split", "level.genus"])
        for row in range(len(catalog)):
            if (label := catalog.labels[row]) not in held:
                part = catalog.splits[row]
                writer.writerow([catalog.file(row), catalog.classes[label], part, genera[label]])
    print("held out:", ", ".join(catalog.classes[k] for k in sorted(held)))


if __name__ == "__main__":
    command, *arguments = sys.argv[1:]
    if command == "hold-out":
        hold_out(*arguments)
    elif command == "figures":
        found = figures(*arguments)
        write_json(RESULTS / f"{found['run']}.json", json.loads(json.dumps(found, default=float)))
        print(RESULTS / f"{found['run']}.json")
    elif command == "table":
        table(arguments)
    else:
        run, out, *others = arguments
        predictor = Predictor.load(run)
        logits, near, labels, looks = test_answers(run, predictor)
        arrays = {"logits": logits, "near": near, "labels": labels, "looks": np.array(looks)}
        for other in others:
            name, _, place = other.partition("=")
            arrays[f"logits_{name}"], arrays[f"near_{name}"] = answered(predictor, pictures(predictor.bundle, place))
        np.savez(out, **arrays)
