#!/usr/bin/env bash
# What the screen chose, confirmed on test images: CUB-50, official split, 160 px, 20 epochs, three seeds, each run scored
# once. The first recipe is finetune, which the others are compared with. A run that is finished is kept in
# results/confirm/, so that the table goes on in a fresh clone.
# usage: FIELDMARK_DATA=… FIELDMARK_WEIGHTS=… benchmarks/confirm.sh WORK_FOLDER RECIPE …
set -euo pipefail
work=$1
here=$(cd "$(dirname "$0")" && pwd)
recipes=(finetune "${@:2}")
mkdir -p "$work/confirm" "$here/results/confirm"
[[ -e $work/confirm/results ]] || ln -s "$here/results/confirm" "$work/confirm/results"
fieldmark compare cub --root "$FIELDMARK_DATA" --recipes "$(IFS=,; echo "${recipes[*]}")" --seeds 3 --split test \
  --out "$work/confirm" --weights "$FIELDMARK_WEIGHTS/mobilenetv2_100.imagenet1k.safetensors" \
  --set train.precision=fp32 --set protocol=refit --set images.size=160 --set train.epochs=20
