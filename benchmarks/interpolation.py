"""Validation accuracy on the straight line from the start of a fine-tuning to its end, with and without mirror images.

usage: interpolation.py START END DATA        (two finished runs of one recipe on one data set with a validation part)

START is END trained for one epoch at a rate of nothing: `--set train.epochs=1 --set train.lr=1e-12
--set train.head_lr=1e-12 --set train.head_epochs=0 --set train.ema=false`. END is trained with `train.keep_start=0`.
"""

import sys

import torch

from fieldmark import Predictor, read
from fieldmark.answering.stream import stream
from fieldmark.answering.views import short_side
from fieldmark.data.decode import decode
from fieldmark.evaluation.outputs import joined

start, end, catalog = Predictor.load(sys.argv[1]), Predictor.load(sys.argv[2]), read(sys.argv[3])
rows = catalog.rows("val")
labels = torch.from_numpy(catalog.labels[rows])
views = [end.show(decode(catalog.file(row), short_side=short_side(end.bundle.images))) for row in rows]
ends = [{key: value.clone() for key, value in one.model.state_dict().items()} for one in (start, end)]
print("| kept of the start | top-1 | over mirror images |\n|---|---|---|")
for share in (0.0, 0.15, 0.3, 0.5, 0.7, 1.0):
    mixed = {key: value.lerp(ends[0][key], share) for key, value in ends[1].items() if value.is_floating_point()}
    end.model.load_state_dict(ends[1] | mixed)
    found = []
    for end.model.mirrored in (False, True):
        answered = [one.output for one in stream(views, lambda view: view, end.engine)]
        logits = torch.from_numpy(joined(answered).logits)
        found.append(f"{100 * (logits.argmax(1) == labels).float().mean():.1f} %")
    print(f"| {share} | {' | '.join(found)} |", flush=True)
