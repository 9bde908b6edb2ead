"""From results to a leaderboard and its page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fieldmark.comparison import Leaderboard, Result, compose, rank
from fieldmark.comparison.composition import chance_in_words

MadeUp = Callable[..., Result]


def ranked(results: list[Result], *, recipes: list[str], seeds: int = 2, units: Any = None, **rest: Any) -> Leaderboard:
    units = np.arange(len(results[0].correct)) if units is None else units
    return rank(
        {(one.recipe, one.seed): one for one in results},
        recipes=recipes, seeds=range(seeds), baseline="finetune", units=units, data="birds", split="val", **rest,
    )  # fmt: skip


@pytest.fixture
def board(made_up: MadeUp) -> Leaderboard:
    """One better, one worse, one the same, one half done, one not begun, one that failed."""
    shares = {"finetune": 0.6, "better": 0.9, "worse": 0.3}
    results = [made_up(name, seed, right=share) for name, share in shares.items() for seed in (0, 1)]
    results += [made_up("same", seed, right=made_up("finetune", seed, right=0.6).correct) for seed in (0, 1)]
    results += [made_up("half", 0, right=0.7, learning_speed=None, curve=())]
    recipes = ["finetune", "better", "worse", "same", "half", "<none>", "broken"]
    return ranked(results, recipes=recipes, failures={"broken-0": "no", "broken-1": "no"}, notices=["So it is."])


def test_figures_are_means_over_seeds_and_images(made_up: MadeUp) -> None:
    results = [made_up(name, seed) for name in ("finetune", "other") for seed in (0, 1)]
    board = ranked(results, recipes=["finetune", "other"])
    base, other = results[:2], results[2:]
    standing = board["other"]
    assert standing.accuracy is not None
    assert standing.gain is not None
    assert standing.nll_change is not None
    assert standing.accuracy.value == pytest.approx(np.mean([one.correct.mean() for one in other]))
    assert standing.spread == pytest.approx(np.std([one.correct.mean() for one in other], ddof=1))
    by_seed = [a.correct.mean() - b.correct.mean() for a, b in zip(other, base, strict=True)]
    assert standing.gain.by_seed == pytest.approx(tuple(by_seed))
    assert standing.gain.value == pytest.approx(np.mean(by_seed))
    nlls = [a.nll.mean() - b.nll.mean() for a, b in zip(other, base, strict=True)]
    assert standing.nll_change.value == pytest.approx(np.mean(nlls))
    # of the differences of single images, averaged over seeds first
    single = np.mean([a.correct.astype(float) - b.correct for a, b in zip(other, base, strict=True)], axis=0)
    half = 1.96 * single.std() / np.sqrt(len(single))
    assert standing.gain.high - standing.gain.low == pytest.approx(2 * half, rel=0.1)


def test_three_images_prove_nothing(made_up: Any) -> None:
    right, wrong = made_up("a", right=np.ones(3, bool)), made_up(right=np.zeros(3, bool))
    board = ranked([right, wrong], recipes=["a", "finetune"], seeds=1)
    gain = board["a"].gain
    assert gain is not None
    assert gain.value == gain.high == 1
    assert gain.low < 0
    assert board["a"].verdict == "no clear difference"
    assert any("narrower than they should be" in notice for notice in board.notices)


def test_order_and_verdicts(board: Leaderboard) -> None:
    assert [one.recipe for one in board.standings] == [
        "better", "half", "finetune", "same", "worse", "<none>", "broken"
    ]  # fmt: skip
    assert [board[name].verdict for name in ("better", "worse", "same", "finetune")] == [
        "better", "worse", "no clear difference", ""
    ]  # fmt: skip
    assert board["same"].gain is not None
    assert board["same"].gain.value == 0
    assert -0.02 < board["same"].gain.low < 0 < board["same"].gain.high < 0.02  # differences may be unseen
    assert board.missing == ["half-1", "<none>-0", "<none>-1"]
    assert (board.clear, len(board.compared)) == (3, 4)
    assert chance_in_words(board) == (
        "3 of 4 intervals exclude zero. If every recipe were as good as finetune, about 0.2 would do so by chance."
    )
    assert repr(board).startswith("Leaderboard('birds', validation split: better 89.7 %")
    assert repr(board).endswith("3 runs to go, 2 runs failed)")


def test_a_difference_takes_the_seeds_that_both_have(made_up: MadeUp) -> None:
    results = [made_up("finetune", 1), made_up("other", 0), made_up("other", 1), made_up("third", 0)]
    board = ranked(results, recipes=["finetune", "other", "third"])
    assert board["other"].gain is not None
    assert board["other"].gain.value == pytest.approx(results[2].accuracy - results[0].accuracy)
    assert board["third"].gain is None
    assert board["other"].by_seed == pytest.approx((results[1].accuracy, results[2].accuracy))


def test_a_gain_that_seeds_disagree_on(made_up: MadeUp) -> None:
    base = np.arange(300) < 150
    results = [made_up("finetune", seed, right=base) for seed in (0, 1)]
    results += [made_up("other", 0, right=np.arange(300) < 250), made_up("other", 1, right=np.arange(300) < 149)]
    assert ranked(results, recipes=["finetune", "other"])["other"].verdict == "better, but not for every seed"


def test_all_right_is_not_certain(made_up: MadeUp) -> None:
    board = ranked([made_up(right=np.ones(10, bool))], recipes=["finetune"], units=np.repeat(np.arange(5), 2))
    accuracy = board["finetune"].accuracy
    assert accuracy is not None
    assert (accuracy.value, accuracy.high) == (1, 1)
    assert accuracy.low == pytest.approx(5 / (5 + 1.96**2), abs=1e-3)  # Wilson, of five witnesses
    assert (board.num_images, board.num_units) == (10, 5)


def test_it_is_written_as_it_is(board: Leaderboard) -> None:
    written = json.loads(json.dumps(board.as_dict(), allow_nan=False))
    assert [one["recipe"] for one in written["standings"]] == [one.recipe for one in board.standings]
    assert written["standings"][0]["gain"]["value"] == board.standings[0].gain.value
    assert written["failures"] == {"broken-0": "no", "broken-1": "no"}
    header, rows = board.sheet()
    assert header[:4] == ["recipe", "seeds", "accuracy", "accuracy_low"]
    assert all(len(row) == len(header) for row in rows)
    assert [row[1] for row in rows] == [2, 1, 2, 2, 2, 0, 0]


def test_the_page(board: Leaderboard) -> None:
    page = compose(board)
    assert page == compose(board)
    text = " ".join(re.sub(r"<[^>]+>", " ", page).split())
    assert (
        "3 runs not finished (half-1, &lt;none&gt;-0, &lt;none&gt;-1). Run the same command again to continue." in text
    )
    assert "broken-0 failed: no" in text
    assert "So it is." in text
    assert "3 of 4 intervals exclude zero" in text
    assert "fieldmark compare … --split test" in text
    assert page.count("<svg") == 4
    assert "<none>" not in page
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)|@import|<script", page)


def test_the_page_before_anything_is_done() -> None:
    board = rank({}, recipes=["a", "b"], seeds=range(3), baseline="a", units=np.arange(9), data="birds", split="test")
    page = compose(board)
    assert "0 of 6" in page
    assert "<svg" not in page
    assert "If you choose a recipe by them, no test split is left." in page
    assert board.notices == (), "there are no intervals that could be too narrow"
