"""A fixed tiny training gives the numbers that it gave before: what a refactor must not change.

The stored values are those of one machine; another rounds otherwise (measured with the vector units switched off:
5e-6), hence the tolerance. After a change that is meant to change them, look at the difference and write them anew:

    FIELDMARK_GOLDEN=write python -m pytest tests/golden
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldmark.answering.predictor import Predictor
from fieldmark.commands.train import train
from fieldmark.core.recipe import Recipe

COMMON = {
    "seed": 3,
    "protocol": "refit",
    "images": {"size": 32},
    "backbone": {"name": "test_resnet", "weights": "none"},
}
# 36 of the 42 pictures are learnt from in batches of 12: 3 steps an epoch, 6 in all.
STEPS = {"epochs": 2, "batch_size": 12, "lr": 1e-3, "head_lr": 1e-2, "precision": "fp32"}
# Shipped recipes may be tuned without changing these.
TRAININGS: dict[str, dict[str, Any]] = {
    "everything": {
        "method": {"name": "transfer", "dropout": 0.2},
        "loss": {"name": "cross_entropy", "label_smoothing": 0.1},
        "augment": {"color": 0.2, "erasing": 0.5, "trivial": True, "mix": "both"},
        "train": STEPS
        | {
            "head_epochs": 1,
            "layer_decay": 0.8,
            "weight_decay": 0.05,
            "batchnorm": "frozen",
            "ema": True,
            "clip_norm": 5.0,
        },
    },
    "plain": {"augment": {"crop": False}, "train": STEPS | {"optimizer": "sgd", "schedule": "constant", "warmup": 0.0}},
    "probe": {"train": {"solver": "logistic"}},
}


@pytest.mark.parametrize("name", sorted(TRAININGS))
def test_the_numbers_are_those_of_before(pictures: Path, tmp_path: Path, name: str) -> None:
    recipe = Recipe.parse(COMMON | TRAININGS[name], source=name)
    run = train(pictures, recipe, out=tmp_path)
    files = sorted(pictures.rglob("*.png"))[::6]
    found = {
        "steps": run.history()[-1]["step"] if run.history() else 0,
        "losses": [line["loss"] for line in run.history()],
        "logits": Predictor.load(run.folder).outputs(files).logits.astype(float).round(5).tolist(),
    }
    path = Path(__file__).with_name(f"{name}.json")
    if os.environ.get("FIELDMARK_GOLDEN") == "write":
        path.write_text(json.dumps(found, indent=1) + "\n")
    stored = json.loads(path.read_text())
    assert found["steps"] == stored["steps"]
    np.testing.assert_allclose(found["losses"], stored["losses"], rtol=1e-3, atol=1e-4)
    scale = float(np.abs(stored["logits"]).max())
    np.testing.assert_allclose(found["logits"], stored["logits"], rtol=1e-3, atol=1e-3 * scale)
