"""Write Flowers-102 as a table with its official parts.

usage: flowers_table.py FLOWERS_FOLDER TABLE.csv     (the folder with jpg/, imagelabels.mat, setid.mat)
"""

import csv
import sys
from pathlib import Path

import scipy.io

root = Path(sys.argv[1])
labels = scipy.io.loadmat(root / "imagelabels.mat")["labels"][0]
ids = scipy.io.loadmat(root / "setid.mat")
with (root / "class_names.csv").open(newline="") as file:
    names = {int(row[0]): row[1] for row in csv.reader(file) if row[0].isdigit()}
with Path(sys.argv[2]).open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["path", "label", "split"])
    for part, key in (("train", "trnid"), ("val", "valid"), ("test", "tstid")):
        for i in sorted(ids[key][0]):
            writer.writerow([root / "jpg" / f"image_{i:05d}.jpg", names[int(labels[i - 1])], part])
