#!/usr/bin/env bash
# What verdicts are worth: three seeds of finetune by crossfit on CUB-50 at 160 px (species-SEED), and three on its other
# forty species, so that ten are unknown whose genera are known (forty-SEED), both with MobileNetV2; and the default as it
# comes (default-SEED). Each test split is scored once. A run whose figures are kept in results/verdicts/ is left alone,
# and one that was stopped goes on.
# usage: FIELDMARK_DATA=… FIELDMARK_WEIGHTS=… benchmarks/verdicts.sh WORK_FOLDER NAME …
#   NAME: species-0, species-1, species-2, forty-0, forty-1, forty-2, default-0
set -euo pipefail
work=$1
here=$(cd "$(dirname "$0")" && pwd)
cub=$FIELDMARK_DATA/CUB_200_2011_first50
mkdir -p "$work" "$here/results/verdicts"
[[ -e $work/forty.csv ]] || python "$here/verdicts.py" hold-out "$cub" "$work/forty.csv"

for name in "${@:2}"; do
  [[ -e $here/results/verdicts/$name.json ]] && continue
  data=$cub
  unknown=("backgrounds=backgrounds:$cub" "flowers=$FIELDMARK_DATA/flowers-102/jpg")
  how=(--backbone mobilenetv2_100 --weights "$FIELDMARK_WEIGHTS/mobilenetv2_100.imagenet1k.safetensors" --set train.epochs=16)
  [[ $name == default-* ]] && how=()
  [[ $name == forty-* ]] && data=$work/forty.csv unknown=("species=unknown:$cub")
  fieldmark train "$data" --recipe finetune "${how[@]}" --out "$work/$name" --resume \
    --set protocol=crossfit --set folds=3 --set images.size=160 \
    --set train.precision=fp32 --set train.validate_epochs=false --set seed="${name##*-}"
  [[ -e $work/$name.npz ]] || python "$here/verdicts.py" answers "$work/$name" "$work/$name.npz" "${unknown[@]}"
  python "$here/verdicts.py" figures "$work/$name" "$work/$name.npz"
done
