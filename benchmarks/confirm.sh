#!/usr/bin/env bash
# What the screen chose, confirmed on test images: official split, 160 px, 20 epochs, three seeds, each run scored once.
# DATA is cub (CUB-50) or flowers102. The first recipe is finetune, which the others are compared with. A run that is
# finished is kept in results/confirm/ or results/confirm-flowers102/, so that the table goes on in a fresh clone.
# usage: FIELDMARK_DATA=… FIELDMARK_WEIGHTS=… benchmarks/confirm.sh WORK_FOLDER DATA RECIPE …
set -euo pipefail
work=$1 data=$2
here=$(cd "$(dirname "$0")" && pwd)
name=confirm$([[ $data == cub ]] || echo "-$data")
recipes=(finetune "${@:3}")
mkdir -p "$work/$name" "$here/results/$name"
[[ -e $work/$name/results ]] || ln -s "$here/results/$name" "$work/$name/results"
fieldmark compare "$data" --root "$FIELDMARK_DATA" --recipes "$(IFS=,; echo "${recipes[*]}")" --seeds 3 --split test \
  --out "$work/$name" --backbone mobilenetv2_100 --weights "$FIELDMARK_WEIGHTS/mobilenetv2_100.imagenet1k.safetensors" \
  --set train.precision=fp32 --set protocol=refit --set images.size=160 --set train.epochs=20
