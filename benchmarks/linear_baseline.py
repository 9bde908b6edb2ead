"""How far do colours alone go? Logistic regression on 32 × 32 pixels and colour histograms; C by validation.

usage: linear_baseline.py DATA     (data with train, val and test splits, such as a field guide)
"""

import sys

import numpy as np
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from fieldmark import read
from fieldmark.data.decode import decode


def features(file):
    """Pixels of the thumbnail and, per channel, a histogram of 16 bins of the full picture."""
    pixels = decode(file).pixels
    small = np.asarray(Image.fromarray(pixels).resize((32, 32), Image.Resampling.BOX)).ravel() / 255
    histograms = [np.histogram(pixels[..., c], 16, (0, 256), density=True)[0] * 256 for c in range(3)]
    return np.concatenate([small, *histograms])


catalog = read(sys.argv[1])
inputs = np.stack([features(catalog.file(row)) for row in range(len(catalog))])
train, val, test = (catalog.rows(split) for split in ("train", "val", "test"))
models = [
    make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=500)).fit(inputs[train], catalog.labels[train])
    for c in (1e-4, 1e-3, 1e-2, 1e-1)
]
best = max(models, key=lambda model: model.score(inputs[val], catalog.labels[val]))
print(f"test top-1 {best.score(inputs[test], catalog.labels[test]):.3f} of {len(test)} images")
