"""A probe's head in closed form beside the logistic regression that it stands for where that would take hours.

usage: discriminants.py FEATURES.npz …    (`frozen.py` computes them)

Both learn from features of unit length of the training split and are scored on the test split.
"""

import sys
import time
from pathlib import Path

import numpy as np
from frozen import frozen
from sklearn.preprocessing import normalize

from fieldmark.learning.training.discriminant import fit_discriminant
from fieldmark.learning.training.probe import fit_linear_head

print("| data | test images | regression | discriminant | processor time |\n|---|---|---|---|---|")
for file in map(Path, sys.argv[1:]):
    found = frozen(None, file)
    (learnt, labels), (asked, truth) = ((normalize(one), of) for one, of in map(found.of, ("train", "test")))
    groups, number = np.arange(len(labels)), len(found.classes)
    began = time.process_time()
    regressed = fit_linear_head(learnt, labels, groups, number, reading="unit")
    middle = time.process_time()
    solved = fit_discriminant(learnt, labels, groups, number)
    ended = time.process_time()
    right = [((asked @ head.weight.T + head.bias).argmax(1) == truth).mean() for head in (regressed, solved)]
    shares = " | ".join(f"{100 * one:.1f} %" for one in right)
    print(f"| {file.stem} | {len(truth):,} | {shares} | {middle - began:.1f} and {ended - middle:.1f} s |", flush=True)
