#!/usr/bin/env bash
# The main job on real photographs: CUB-50 and Flowers-102 with MobileNetV2 from ImageNet. Options were fixed on
# validation splits beforehand (benchmarks/README.md); the test split is scored once per run. A run that is finished is
# left alone and one that was stopped goes on, so the table can be filled in several sittings.
# usage: FIELDMARK_DATA=… FIELDMARK_WEIGHTS=… benchmarks/main_path.sh WORK_FOLDER NAME …
#   NAME: cub50-probe, cub50-finetune-0, cub50-finetune-1, cub50-finetune-2, flowers-finetune-0
set -euo pipefail
work=$1
here=$(cd "$(dirname "$0")" && pwd)
weights=$FIELDMARK_WEIGHTS/mobilenetv2_100.imagenet1k.safetensors
mkdir -p "$work"

for name in "${@:2}"; do
  data=cub
  [[ $name == flowers-* ]] && data=flowers102
  recipe=$(cut -d- -f2 <<< "$name") seed=$(cut -d- -f3 <<< "$name-0")
  fieldmark train "$data" --root "$FIELDMARK_DATA" --recipe "$recipe" --backbone mobilenetv2_100 --weights "$weights" --out "$work/$name" --resume \
    --set protocol=refit --set seed="$seed"
  [[ -f $work/$name/evaluation/test/scores.json ]] || fieldmark evaluate "$work/$name"
  python "$here/collect.py" "$work/$name"
done
