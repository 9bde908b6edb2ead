#!/usr/bin/env bash
# Train the small weights of the recipe `demo` on drawings of 60 species that no demo shows (another seed draws
# others), and write them in half precision: src/fieldmark/fieldguide/weights.safetensors.
# usage: benchmarks/fieldguide_weights.sh WORK_FOLDER     (about ten minutes on two cores)
set -euo pipefail
work=$1
here=$(cd "$(dirname "$0")/.." && pwd)
fieldmark draw "$work/birds" --species 60 --images 80 --seed 1
fieldmark train "$work/birds" --recipe demo --weights none --out "$work/run" \
  --set train.epochs=24 --set train.lr=4e-3 --set train.batch_size=64
python - "$work/run/bundle/model.safetensors" "$here/src/fieldmark/fieldguide/weights.safetensors" <<'END'
import sys
from safetensors.torch import load_file, save_file
weights = {key.removeprefix("backbone.model."): value for key, value in load_file(sys.argv[1]).items() if key.startswith("backbone.")}
save_file({key: value.half() if value.is_floating_point() else value for key, value in weights.items()}, sys.argv[2])
END
