"""Write CUB's official training part as a table with a train and a val part; the official test part is not in it.

usage: cub_parts.py CUB_FOLDER TABLE.csv val       ten images of each class to choose by, the others to learn from
       cub_parts.py CUB_FOLDER TABLE.csv train     ten images of each class to learn from, the others to choose by
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from fieldmark import read
from fieldmark.data.write import write_catalog

folder, table, part = sys.argv[1:]
other = {"val": "train", "train": "val"}[part]
catalog = read(folder)
rows = catalog.rows("train")
random = np.random.default_rng(123)
ten = {r for k in range(len(catalog.classes)) for r in random.permutation(rows[catalog.labels[rows] == k])[:10]}
splits = np.array([part if row in ten else other for row in rows])
write_catalog(Path(table), replace(catalog.select(rows), splits=splits))
