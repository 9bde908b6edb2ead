"""Whether verdicts keep what they promise: held-out answers are split 200 times, one half calibrates, the other is
scored.

usage: promises.py answers WORK [SET …]
           train `probe` on CUB-50, Cars-60 and Flowers-102 (in FIELDMARK_DATA; weights from FIELDMARK_WEIGHTS) and
           keep its answers for the test split.
       promises.py figures WORK [SET …] [--resplits 200] [--calibrating N]
           the figures, without a look at any image. With --calibrating, N images calibrate instead of a half.
"""

import argparse
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
from scipy.stats import binom

from fieldmark import Listener, Predictor, read, train
from fieldmark.answering.rows import answer_rows
from fieldmark.core.storage import write_json
from fieldmark.data.splits import units
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation.backoff import risk_coverage
from fieldmark.evaluation.calibration import Calibration, Held
from fieldmark.evaluation.outputs import joined
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.evaluation.unknown import class_means, nearness
from fieldmark.runs.opening import with_classes_of

SETS = {"CUB-50": "CUB_200_2011_first50", "Cars-60": "cars-60/cars.csv", "Flowers-102": "flowers-102"}


def answers(work, names):
    """The probe's logits and nearness for the test split of each set."""
    weights = Path(os.environ["FIELDMARK_WEIGHTS"]) / "mobilenetv2_100.imagenet1k.safetensors"
    for name in names or SETS:
        data, out = Path(os.environ["FIELDMARK_DATA"]) / SETS[name], work / name
        if not (out / "bundle").is_dir():
            overrides = ["backbone.name=mobilenetv2_100", f"backbone.weights={weights}", "protocol=refit"]
            train(data, "probe", out=out, overrides=overrides, listener=Listener())
        predictor, catalog = Predictor.load(out), read(data)
        catalog = with_classes_of(predictor.bundle, catalog, np.arange(len(catalog)))
        learnt, test = (
            answer_rows(predictor, catalog, catalog.rows(split), predictor.engine, Listener(), stage="Answering")
            for split in ("train", "test")
        )
        embedding, outputs = joined(learnt.outputs).embedding, joined(test.outputs)
        means = class_means(embedding, catalog.labels[learnt.rows], len(catalog.classes))
        np.savez(
            work / f"{name}.npz",
            logits=outputs.logits,
            near=nearness(outputs.embedding, means),
            labels=catalog.labels[test.rows],
            units=units(catalog)[test.rows],
        )
        print(name, (outputs.logits.argmax(1) == catalog.labels[test.rows]).mean(), flush=True)


def figures(work, name, resplits, calibrating):
    """One row of the table."""
    kept = np.load(work / f"{name}.npz")
    logits, near, labels, group = (kept[key] for key in ("logits", "near", "labels", "units"))
    taxonomy = Taxonomy(tuple(map(str, range(logits.shape[1]))))
    rejected, promised, vouched, oracle, covered, sizes, unmarked = 0, Counter(), [], [], [], [], 0
    for seed in range(resplits):
        order = np.random.default_rng(seed).permutation(group.max() + 1)  # images that belong together stay together
        place = order[group]
        first = place < (np.sort(place)[calibrating] if calibrating else (group.max() + 1) // 2)
        held = Held(logits[first], near[first], labels[first], group[first])
        made = Calibration.fit(held, np.eye(len(taxonomy.classes)), taxonomy, source="validation", seed=seed)
        thresholds = Thresholds.of(made, taxonomy)
        second = np.flatnonzero(~first)
        log_p = made.scaling(logits[second])
        verdicts = thresholds.verdicts([str(row) for row in second], log_p, near[second])
        given = np.array([verdict.promised is not None for verdict in verdicts])
        right = log_p.argmax(axis=1) == labels[second]
        unmarked += sum(v.promised is None and (v.name is not None or v.said == v.label) for v in verdicts)
        promised[thresholds.promised] += 1
        if thresholds.gives_sets:
            inside = thresholds.sets(np.exp(log_p))
            covered.append(inside[np.arange(len(second)), labels[second]].mean())
            sizes.append(inside.sum(axis=1).mean())
        if thresholds.promised is None:
            continue
        hits, answers = int(right[given].sum()), int(given.sum())
        rejected += answers > 0 and binom.cdf(hits, answers, thresholds.promised) <= 0.05
        vouched.append(given.mean())
        sure = made.order(taxonomy, log_p)[1][:, 0]
        risk = risk_coverage(sure, right)
        oracle.append(np.flatnonzero(risk <= 1 - thresholds.promised).max(initial=-1) / len(risk) + 1 / len(risk))
    return {
        "set": name,
        "top1": float((logits.argmax(1) == labels).mean()),
        "calibrating": int(first.sum()),
        "scored": int((~first).sum()),
        "resplits": resplits,
        "rejected": int(rejected),
        "promised": {str(accuracy): promised[accuracy] for accuracy in (0.95, 0.9, 0.8, 0.7, None)},
        "vouched_for": float(np.mean(vouched)) if vouched else None,
        "oracle": float(np.mean(oracle)) if oracle else None,
        "unmarked": unmarked,
        "coverage": float(np.mean(covered)) if covered else None,
        "set_size": float(np.mean(sizes)) if sizes else None,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("answers", "figures"))
    parser.add_argument("work", type=Path)
    parser.add_argument("sets", nargs="*")
    parser.add_argument("--resplits", type=int, default=200)
    parser.add_argument("--calibrating", type=int, default=0)
    asked = parser.parse_args()
    asked.work.mkdir(parents=True, exist_ok=True)
    if asked.what == "answers":
        answers(asked.work, asked.sets)
    else:
        for name in asked.sets or SETS:
            row = figures(asked.work, name, asked.resplits, asked.calibrating)
            print(json.dumps(row), flush=True)
            half = f"-{asked.calibrating}" if asked.calibrating else ""
            write_json(Path(__file__).parent / "results" / "promises" / f"{name}{half}.json", row)
