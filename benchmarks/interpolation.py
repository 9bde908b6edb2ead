"""What is kept of the start of a fine-tuning: accuracy, or retrieval of other classes, between its start and its end.

usage: interpolation.py START END DATA               (accuracy on the validation images of DATA)
       interpolation.py START END DATA --retrieve    (a search among photographs of classes never trained on, such as
                                                      training photographs of classes that `retrieval.py` leaves out)

START and END are finished runs of one recipe on one data set. START is END trained for one epoch at a rate of nothing:
`--set train.epochs=1 --set train.lr=1e-12 --set train.head_lr=1e-12 --set train.head_epochs=0 --set train.ema=false`.
END is trained with `train.keep_start=0`. As `train.keep_start` has it, a head that began at random is END's throughout.
"""

import sys

import torch

from fieldmark import Predictor, read
from fieldmark.answering.stream import stream
from fieldmark.answering.views import short_side
from fieldmark.data.decode import decode
from fieldmark.evaluation.outputs import joined
from fieldmark.evaluation.retrieval import retrieval

start, end, catalog = Predictor.load(sys.argv[1]), Predictor.load(sys.argv[2]), read(sys.argv[3])
searches = "--retrieve" in sys.argv
rows = list(range(len(catalog))) if searches else catalog.rows("val").tolist()
labels = catalog.labels[rows]
views = [end.show(decode(catalog.file(row), short_side=short_side(end.bundle.images))) for row in rows]
ends = [{key: value.clone() for key, value in one.model.state_dict().items()} for one in (start, end)]
knows = "" if end.bundle.recipe.train.head_start == "logistic" else "method.backbone.model."
heads = "MAP@R | Recall@1 | MAP@R, mirrored | Recall@1, mirrored" if searches else "top-1 | top-1, mirrored"
print(f"| kept of the start | {heads} |\n|{'---|' * (heads.count('|') + 2)}")


def scores():
    """Of the model as it stands, in percent."""
    output = joined([one.output for one in stream(views, lambda view: view, end.engine)])
    if not searches:
        return [100 * (output.logits.argmax(1) == labels).mean()]
    found = retrieval(output.embedding, labels)
    return [100 * found.average_precision.mean(), 100 * found.recall[:, 0].mean()]


for share in (0.0, 0.15, 0.3, 0.5, 0.7, 1.0):
    mixed = {
        key: value.lerp(ends[0][key], share)
        for key, value in ends[1].items()
        if value.is_floating_point() and key.startswith(knows)
    }
    end.model.load_state_dict(ends[1] | mixed)
    cells = []
    for end.model.mirrored in (False, True):
        with torch.inference_mode():
            cells.append(" | ".join(f"{score:.1f}" for score in scores()))
    print(f"| {share} | {' | '.join(cells)} |", flush=True)
