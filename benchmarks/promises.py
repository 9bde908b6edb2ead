"""Whether verdicts keep what they promise: held-out answers are split 200 times, one half calibrates, the other is
scored.

usage: promises.py answers WORK [SET …]
           train `probe` on CUB-50, Cars-60 and Flowers-102 (in FIELDMARK_DATA; weights from FIELDMARK_WEIGHTS) and
           keep its answers for the test part.
       promises.py figures WORK [--resplits 200] [--calibrating N]
           the figures, without a look at any image. With --calibrating, N images calibrate instead of a half.
"""

import argparse
import os
from pathlib import Path

import numpy as np

from fieldmark import Listener, Predictor, read, train
from fieldmark.answering.rows import answer_rows
from fieldmark.data.splits import units
from fieldmark.evaluation.outputs import joined
from fieldmark.evaluation.unknown import class_means, nearness
from fieldmark.runs.opening import with_classes_of

SETS = {"CUB-50": "CUB_200_2011_first50", "Cars-60": "cars-60/cars.csv", "Flowers-102": "flowers-102"}


def answers(work, names):
    """The probe's logits and nearness for the test part of each set."""
    weights = Path(os.environ["FIELDMARK_WEIGHTS"]) / "mobilenetv2_100.imagenet1k.safetensors"
    for name in names or SETS:
        data, out = Path(os.environ["FIELDMARK_DATA"]) / SETS[name], work / name
        if not (out / "bundle").is_dir():
            overrides = [f"backbone.weights={weights}", "protocol=refit"]
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


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what")
    parser.add_argument("work", type=Path)
    parser.add_argument("names", nargs="*")
    a = parser.parse_args()
    a.work.mkdir(parents=True, exist_ok=True)
    answers(a.work, a.names)
