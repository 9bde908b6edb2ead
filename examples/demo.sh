#!/usr/bin/env bash
# `make demo`: draw a field guide, train, evaluate, predict; everything lands in one folder.
set -euo pipefail
bin=$1 out=$2
rm -rf "$out"
say() { printf '\n\033[1m%s\033[0m\n' "$*"; }

say "1. Draw twelve species of invented birds, 60 pictures each"
"$bin/fieldmark" draw "$out/birds"

say "2. Train on them"
"$bin/fieldmark" train "$out/birds" --recipe demo --out "$out/run"

say "3. Score the test split, which training has not touched"
"$bin/fieldmark" evaluate "$out/run"

say "4. Answer for a few pictures of the test split"
awk -F, -v folder="$out/birds/" '$3 == "test" && n++ % 9 == 0 { print folder $1 }' "$out/birds/catalog.csv" |
  "$bin/fieldmark" predict "$out/run" -

say "5. Explain one of them: why this species and not the next likely one"
"$bin/fieldmark" explain "$out/run" "$out/birds/$(awk -F, '$3 == "test" { print $1; exit }' "$out/birds/catalog.csv")"

say "6. Write a page about all of it"
"$bin/fieldmark" report "$out/run"

say "Where things are"
cat <<END
  $out/birds/guide.html     the page of the field guide: open it (guide.png: every species on one picture)
  $out/birds/catalog.csv    the pictures as a table, with boxes, key points and taxonomy
  $out/run/explanations/    why it is one species and not another, as a picture
  $out/run/report/          index.html: scores, look-alikes, mistakes; open it in a browser
  $out/run/recipe.toml      every option that decided the result
  $out/run/bundle/          the model: what one ships
  $out/run/evaluation/test/ scores.json and predictions.csv
With your own photographs, sorted into folders by class:  $bin/fieldmark train PHOTOGRAPHS
END
