#!/usr/bin/env bash
# The README's main job as a newcomer meets it: ten species of flowers, thirty photographs each in a folder of its own,
# five more of each to be named; an empty cache, and no network at all. What it prints is kept in results/newcomer.txt.
# usage: FIELDMARK_DATA=… benchmarks/newcomer.sh WORK_FOLDER [OPTION OF train …]
set -euo pipefail
work=$1
photographs=$(mktemp -d)
python - "$FIELDMARK_DATA/flowers-102" "$photographs" << 'END'
import shutil, sys
from pathlib import Path
import numpy as np
import fieldmark

catalog, out = fieldmark.read(sys.argv[1]), Path(sys.argv[2])
labels = np.asarray(catalog.labels)
for label in range(10):
    rows = np.random.default_rng(label).permutation(np.flatnonzero(labels == label))[:35]
    for folder, some in (("photographs", rows[:30]), ("new", rows[30:])):
        place = out / folder / catalog.classes[label]
        place.mkdir(parents=True)
        for row in some:
            shutil.copy(catalog.root / catalog.paths[row], place)
END
mkdir -p "$work"
mv "$photographs"/* "$work"
unset FIELDMARK_DATA FIELDMARK_WEIGHTS
export FIELDMARK_CACHE=cache HF_HUB_OFFLINE=1 http_proxy=http://127.0.0.1:9 https_proxy=http://127.0.0.1:9
cd "$work"
step() {
  echo "\$ $*"
  began=$SECONDS
  eval "$*" 2>&1 || echo "(exit status $?)"
  echo "($((SECONDS - began)) s)"
  echo
}
step fieldmark audit photographs/
step fieldmark train photographs/ "${@:2}"
step fieldmark evaluate runs/photographs
step fieldmark report runs/photographs
step "fieldmark predict runs/photographs new/*/*"
