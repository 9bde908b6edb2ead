"""Compare: train several recipes with several seeds on the same data, and rank them on a leaderboard.

comparisons/birds/
  data/*.csv              the data as it was split, if it came without the splits that the protocol needs
  runs/NAME-SEED/         ordinary runs; NAME-SEED.txt beside each holds the output of its training
  results/NAME-SEED.json  what the leaderboard needs of a run; once it is kept, the run is no longer needed
  leaderboard.json leaderboard.csv index.html    written again after each run

The test split is scored only on request; its results and leaderboard have "-test" in their names.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from fieldmark.comparison import Leaderboard
from fieldmark.comparison.conduct import Comparison, alone, check_weights, find_data, split_of
from fieldmark.comparison.contestants import choose_baseline, contestants
from fieldmark.core.errors import RecipeError
from fieldmark.core.listener import Done, Listener, relayed_warnings
from fieldmark.core.machine import AUTO, choose_device
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.columns import Columns
from fieldmark.data.sets import find, read
from fieldmark.learning.fitting.weights import tell_license

__all__ = ["compare"]


def compare(
    data: Path | str | Catalog,
    recipes: Sequence[str],
    *,
    out: Path | str,
    seeds: int = 3,
    baseline: str | None = None,
    root: Path | str | None = None,
    columns: Columns | None = None,
    backbone: str | None = None,
    weights: str | None = None,
    overrides: Sequence[str] = (),
    split: Literal["val", "test"] = "val",
    device: str = AUTO,
    listener: Listener | None = None,
) -> Leaderboard:
    """Train each recipe (a name or a TOML file) with the seeds 0, 1, … on the same data, and rank them.

    `backbone`, `weights` and `overrides` apply to all recipes. Scores are those of the validation split, or of the
    out-of-fold answers of a cross-fit; the test split is scored, once per run, only with `split="test"`. Each recipe is
    compared with `baseline`: finetune if it is among the recipes, otherwise the first of them. Everything is written to
    `out`, and the same call continues where an earlier one stopped: finished runs are kept if they are of the same data
    and recipe. A run that fails is reported, and the others go on. Raises FieldmarkError.

    If the listener asks to stop, the leaderboard so far is returned; its `missing` names the unfinished runs.
    """
    listener = listener or Listener()
    field = contestants(recipes, backbone=backbone, weights=weights, overrides=overrides)
    chosen, scored = choose_baseline(baseline, field), split_of(split, field[0].recipe)
    choose_device(device)  # before any work
    if seeds < 1:
        raise RecipeError(f"A comparison needs at least one seed, but got {seeds}", "Give a number such as 3.")
    check_weights(folder := Path(out), field, range(seeds), scored)
    for asked in {(one.recipe.backbone.name, one.recipe.backbone.weights): one.recipe for one in field}.values():
        tell_license(asked, listener)
    options = [f"--set={text}" for text in overrides] + ([] if device == AUTO else [f"--device={device}"])
    for name, value in (("backbone", backbone), ("weights", weights)):
        options += [] if value is None else [f"--{name}={value}"]
    if not isinstance(data, Catalog):
        with relayed_warnings(listener):
            data = find(data, root, tell=listener.note)
            if columns:  # the trainings read a table of the comparison's own
                data = read(data, columns=columns, tell=listener.note)
    with alone(folder):
        found = find_data(data, field, scored, folder, listener)
        board = Comparison(folder, field, range(seeds), chosen, scored, options, listener, device, found).carry_out()
    listener.hear(Done("compare", folder))
    return board
