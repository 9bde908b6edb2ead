"""Write what is not for testing of a data set as a table with a train and a val split; its test split is not in it.

usage: divide.py DATA TABLE.csv choose N     N images of each class to choose by, the others to learn from
       divide.py DATA TABLE.csv learn N      N images of each class to learn from, the others to choose by

An official validation split is to choose by, whatever N is.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from fieldmark import read
from fieldmark.data.write import write_catalog

data, table, what, number = sys.argv[1:]
part, other = {"choose": ("val", "train"), "learn": ("train", "val")}[what]
catalog = read(data)
rows = catalog.rows("train")
random = np.random.default_rng(123)
classes = range(len(catalog.classes))
drawn = [row for k in classes for row in random.permutation(rows[catalog.labels[rows] == k])[: int(number)]]
splits = np.where(catalog.splits == "train", other, catalog.splits)
splits[drawn] = part
kept = np.flatnonzero(splits != "test")
write_catalog(Path(table), replace(catalog.select(kept), splits=splits[kept]))
