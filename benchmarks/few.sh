#!/usr/bin/env bash
# What few images are worth: 3, 5 or 10 training images of each class, the rest of the official training split (of
# Flowers-102, its validation split as well) to score; no test split. The default backbone at 160 px. Runs that are
# finished are kept in results/few/.
# usage: FIELDMARK_DATA=… benchmarks/few.sh WORK_FOLDER DATA NUMBER SEEDS probe [RECIPE …]
#   DATA: cub, flowers102 or cars60
set -euo pipefail
work=$1 data=$2 number=$3 seeds=$4
here=$(cd "$(dirname "$0")" && pwd)
declare -A places=([cub]=CUB_200_2011_first50 [flowers102]=flowers-102 [cars60]=cars-60/cars.csv)
name=$data-$number
source "$here/keep.sh"
keep "$work/$name" "$here/results/few/$name"
python "$here/divide.py" "$FIELDMARK_DATA/${places[$data]}" "$work/$name.csv" learn "$number"
fieldmark compare "$work/$name.csv" --recipes "$(IFS=,; echo "${*:5}")" --seeds "$seeds" --out "$work/$name" --baseline probe \
  --set images.size=160 --set train.precision=fp32 --set train.validate_epochs=false
