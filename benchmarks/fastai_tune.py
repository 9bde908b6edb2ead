"""fastai's `fine_tune` on the data and weights of `accuracy_time.py`, whose table shows it. Needs `pip install fastai`.

usage: fastai_tune.py DATA [--seed 0] [--epochs 20] [--out results/accuracy-time]    DATA: cub, flowers102 or cars60

As fastai's documentation has it for photographs: squares of a little more than the size from files, `aug_transforms`
with crops of at least 0.75, one epoch for the head and the others for all (`fine_tune`'s own rates), its head, its
optimizer; the last weights, one central view. It learns from all official training photographs, at 160 px, and is
scored once on the official test split. The time is that of the training alone, without validation.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from accuracy_time import RESULTS, keep, place_of
from budget import PLACES
from fastai.vision.all import (
    Callback,
    CancelValidException,
    CategoryBlock,
    CrossEntropyLossFlat,
    DataBlock,
    ImageBlock,
    IndexSplitter,
    Normalize,
    Resize,
    aug_transforms,
    set_seed,
    vision_learner,
)
from study_network import backbone_of

from fieldmark import read

BACKBONE, SIZE = "tf_efficientnet_lite0", 160


class Unvalidated(Callback):
    """Validation after each epoch would only take time: the last weights are scored."""

    def before_validate(self):
        raise CancelValidException


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=PLACES)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--out", type=Path, default=RESULTS)
    asked = parser.parse_args()
    catalog = read(place_of(asked.data))
    rows = np.flatnonzero(np.isin(catalog.splits, ["train", "val", "test"]))
    test = np.flatnonzero(catalog.splits[rows] == "test")
    set_seed(asked.seed, reproducible=True)
    block = DataBlock(
        (ImageBlock, CategoryBlock(vocab=list(catalog.classes))),
        get_x=lambda row: catalog.file(row),  # a method by another name would not do
        get_y=lambda row: catalog.classes[catalog.labels[row]],
        splitter=IndexSplitter(test),
        item_tfms=Resize(SIZE * 8 // 7),
        batch_tfms=aug_transforms(size=SIZE, min_scale=0.75),
    )
    loaders = block.dataloaders(rows.tolist(), bs=32)
    learner = vision_learner(loaders, BACKBONE, pretrained=False, loss_func=CrossEntropyLossFlat())
    backbone, mean, std = backbone_of(BACKBONE)
    learner.model[0].model.load_state_dict(backbone.state_dict())
    learner.dls.add_tfms([Normalize.from_stats(mean, std)], "after_batch")
    began = time.monotonic()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(asked.epochs - 1, cbs=Unvalidated())
    seconds = time.monotonic() - began
    with learner.no_bar():
        answers, labels = learner.get_preds(ds_idx=1)  # what it takes for validation images is the test split
    accuracy = (answers.argmax(1) == labels).float().mean().item()
    keep(asked.out, asked.data, "fastai", asked.seed, {"accuracy": accuracy, "seconds": round(seconds, 1)})


main()
