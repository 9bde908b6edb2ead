#!/usr/bin/env bash
# The screen: CUB-50 with ten training images of each class, scored on the rest of the official training split. Every
# recipe at 160 px, 16 epochs and three seeds against finetune. Without names: finetune, probe and every shipped recipe
# that builds on finetune. A run that is finished is kept in results/screen/, so that the table goes on in a fresh clone.
# Longer runs, kept in results/screen-48/: EPOCHS=48 SEEDS=1 benchmarks/screen.sh …
# usage: FIELDMARK_DATA=… FIELDMARK_WEIGHTS=… benchmarks/screen.sh WORK_FOLDER [RECIPE …]
set -euo pipefail
work=$1
here=$(cd "$(dirname "$0")" && pwd)
epochs=${EPOCHS:-16}
name=screen$([[ $epochs -eq 16 ]] || echo "-$epochs")
recipes=("${@:2}")
if [[ ${#recipes[@]} -eq 0 ]]; then
  recipes=(finetune probe)
  # ordinal is for grades, and birds have none
  for file in $(grep -lE '^base *= *"finetune"' "$here"/../src/fieldmark/core/recipes/*.toml | grep -v /ordinal.toml); do
    recipes+=("$(basename "$file" .toml)")
  done
fi
source "$here/keep.sh"
keep "$work/$name" "$here/results/$name"
python "$here/divide.py" "$FIELDMARK_DATA/CUB_200_2011_first50" "$work/cub50-ten.csv" learn 10
fieldmark compare "$work/cub50-ten.csv" --recipes "$(IFS=,; echo "${recipes[*]}")" --seeds "${SEEDS:-3}" --out "$work/$name" \
  --backbone mobilenetv2_100 --weights "$FIELDMARK_WEIGHTS/mobilenetv2_100.imagenet1k.safetensors" --set images.size=160 --set "train.epochs=$epochs" \
  --set train.precision=fp32 --set train.validate_epochs=false  # there are twice as many images to answer for as to learn from
