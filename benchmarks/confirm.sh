#!/usr/bin/env bash
# What validation data chose, confirmed on test images: official split, each run scored once. The first recipe is
# finetune, which the others are compared with. A run that is finished is kept in results/, so that the table goes on in
# a fresh clone.
# usage: FIELDMARK_DATA=… benchmarks/confirm.sh WORK_FOLDER DATA SIZE SEEDS RECIPE …
#   DATA: cub, flowers102 or cars60; kept in results/confirm/DATA-SIZE
set -euo pipefail
work=$1 data=$2 size=$3 seeds=$4
here=$(cd "$(dirname "$0")" && pwd)
declare -A places=([cub]=CUB_200_2011_first50 [flowers102]=flowers-102 [cars60]=cars-60/cars.csv)
name=$data-$size
source "$here/keep.sh"
keep "$work/$name" "$here/results/confirm/$name"
fieldmark compare "$FIELDMARK_DATA/${places[$data]}" --recipes "$(IFS=,; echo "${*:5}")" --seeds "$seeds" --split test \
  --out "$work/$name" --set protocol=refit --set "images.size=$size" --set train.precision=fp32
