"""AutoGluon's `MultiModalPredictor` on the data and weights of `accuracy_time.py`, whose table shows it.

usage: autogluon_tune.py prepare WORK DATA [--seed 0]    beside Fieldmark. DATA: cub, flowers102 or cars60
       autogluon_tune.py run WORK                        in an environment of its own: pip install autogluon.multimodal

As it ships: its augmentation, rates, schedule, 20 epochs, its own validation images and the mean weights of its best
three checkpoints. What is set is the backbone with its weights, 160 px, fp32, and batches of 32. It learns from all
official training photographs, a share of which it keeps to judge itself, and is scored once on the official test split.
The time is that of `fit`.
"""

import argparse
import json
import time
from pathlib import Path

BACKBONE, SIZE, WAY = "tf_efficientnet_lite0", 160, "autogluon"


def prepare(asked):
    """Write tables of the splits, and the weights as AutoGluon reads them."""
    import numpy as np
    import torch
    from accuracy_time import RESULTS, file_of, place_of
    from study_network import backbone_of

    from fieldmark import read
    from fieldmark.core.machine import processor
    from fieldmark.core.storage import csv_line, write_json

    catalog = read(place_of(asked.data))
    asked.work.mkdir(parents=True, exist_ok=True)
    for name, splits in (("train", ["train", "val"]), ("test", ["test"])):
        rows = np.flatnonzero(np.isin(catalog.splits, splits)).tolist()
        lines = (csv_line([str(catalog.file(row)), catalog.classes[catalog.labels[row]]]) for row in rows)
        (asked.work / f"{name}.csv").write_text(csv_line(["image", "label"]) + "".join(lines))
    network, mean, std = backbone_of(BACKBONE)
    folder = asked.work / "backbone"
    folder.mkdir(exist_ok=True)
    torch.save(network.state_dict(), folder / "pytorch_model.bin")
    config = {"architecture": BACKBONE, "num_features": network.num_features}
    write_json(folder / "config.json", {**config, "input_size": [3, SIZE, SIZE], "mean": mean, "std": std})
    facts = {
        "data": asked.data,
        "way": WAY,
        "seed": asked.seed,
        "machine": {"processor": processor(), "threads": "all"},
    }
    write_json(asked.work / "facts.json", {"file": str(file_of(RESULTS, asked.data, WAY, asked.seed)), "facts": facts})


def run(asked):
    """Train and score."""
    import pandas as pd
    from autogluon.multimodal import MultiModalPredictor

    told = json.loads((asked.work / "facts.json").read_text())
    train, test = (pd.read_csv(asked.work / f"{name}.csv") for name in ("train", "test"))
    predictor = MultiModalPredictor(label="label", problem_type="multiclass", path=str(asked.work / "predictor"))
    began = time.monotonic()
    predictor.fit(
        train,
        seed=told["facts"]["seed"],
        hyperparameters={
            "model.names": ["timm_image"],
            "model.timm_image.checkpoint_name": str(asked.work / "backbone"),
            "model.timm_image.image_size": SIZE,
            "env.num_gpus": 0,
            "env.precision": "32-true",
            "env.per_gpu_batch_size": 32,
            "env.batch_size": 32,
        },
    )
    seconds = time.monotonic() - began
    accuracy = float((predictor.predict(test, as_pandas=True) == test["label"]).mean())
    found = {**told["facts"], "accuracy": accuracy, "seconds": round(seconds, 1)}
    Path(told["file"]).write_text(json.dumps(found, indent=2) + "\n")
    print(f"{100 * accuracy:.1f} % in {seconds:.0f} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    acts = parser.add_subparsers(required=True)
    preparing = acts.add_parser("prepare")
    preparing.add_argument("work", type=Path)
    preparing.add_argument("data", choices=["cub", "flowers102", "cars60"])
    preparing.add_argument("--seed", type=int, default=0)
    preparing.set_defaults(act=prepare)
    running = acts.add_parser("run")
    running.add_argument("work", type=Path)
    running.set_defaults(act=run)
    asked = parser.parse_args()
    asked.act(asked)


if __name__ == "__main__":
    main()
