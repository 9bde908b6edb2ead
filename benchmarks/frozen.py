"""Embeddings of a data set by the frozen default backbone, computed once and kept as NPZ.

usage: frozen.py DATA OUT.npz [--size 160] [--backbone tf_efficientnet_lite0]
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fieldmark import read
from fieldmark.answering.engine import TorchEngine
from fieldmark.answering.stream import Shown, stream
from fieldmark.answering.views import evaluation_square, short_side
from fieldmark.core.recipe import Backbone, Images, Recipe
from fieldmark.data.decode import decode
from fieldmark.data.task import Task
from fieldmark.evaluation.outputs import joined
from fieldmark.model.build import build_model


class Frozen(NamedTuple):
    """Embeddings (N, D), labels (N,) and splits (N,) of a data set of K classes."""

    embedding: np.ndarray
    labels: np.ndarray
    splits: np.ndarray
    classes: np.ndarray

    def of(self, split):
        """Embeddings and labels of one split."""
        rows = np.flatnonzero(self.splits == split)
        return self.embedding[rows], self.labels[rows]


def frozen(data, out, *, size=160, backbone="tf_efficientnet_lite0"):
    """From `out`, or computed and kept there."""
    out = Path(out)
    if not out.exists():
        catalog = read(data)
        recipe = Recipe(images=Images(size=size), backbone=Backbone(name=backbone, weights="installed"))
        model = build_model(recipe, Task(2))
        view = evaluation_square(recipe.images, model.backbone.normalization.interpolation)
        side = short_side(recipe.images)

        def see(row):
            decoded = decode(catalog.file(row), short_side=side)
            return Shown(view(decoded.pixels), decoded.size)

        answered = [batch.output for batch in stream(range(len(catalog)), see, TorchEngine(model))]
        assert len(joined(answered).embedding) == len(catalog)
        out.parent.mkdir(parents=True, exist_ok=True)
        np.savez(
            out,
            embedding=joined(answered).embedding,
            labels=catalog.labels,
            splits=catalog.splits,
            classes=np.array(catalog.classes),
        )
    found = np.load(out)
    return Frozen(*(found[name] for name in Frozen._fields))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("out")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    asked = parser.parse_args()
    print(frozen(asked.data, asked.out, size=asked.size, backbone=asked.backbone).embedding.shape)
