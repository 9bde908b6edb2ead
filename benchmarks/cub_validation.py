"""Write CUB's official training part as a table in which a third of it is the validation part, for choosing options.

usage: cub_validation.py CUB_FOLDER TABLE.csv     (the official test part is not in the table)
"""

import csv
import sys
from pathlib import Path

import numpy as np

from fieldmark import read

catalog = read(sys.argv[1])
rows = catalog.rows("train")
random = np.random.default_rng(123)
held = {r for k in range(len(catalog.classes)) for r in random.permutation(rows[catalog.labels[rows] == k])[:10]}
with Path(sys.argv[2]).open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["path", "label", "split", "x", "y", "width", "height"])
    for row in rows:
        part = "val" if row in held else "train"
        writer.writerow([catalog.file(row), catalog.classes[catalog.labels[row]], part, *catalog.boxes[row].tolist()])
