"""What changed from one run to the next."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from fieldmark.evaluation.changed import Changed, ClassChange

LABELS = ["auk"] * 4 + ["wren"] * 4 + ["owl"] * 2
PATHS = [f"{n}.jpg" for n in range(10)]
OLD = dict.fromkeys(PATHS[:4], "auk") | dict.fromkeys(PATHS[4:8], "auk")
NEW = ["auk", "auk", "owl", "owl", "wren", "wren", "wren", "auk", "owl", "auk"]


def changed(**other: Any) -> Changed | None:
    asked: dict[str, Any] = {"old_answers": OLD, "pictures": PATHS, "labels": LABELS, "answers": NEW}
    return Changed.of("runs/a", **asked | other, units=np.arange(10), known=["auk", "wren"], seed=0)


def test_only_images_that_both_held_out_are_compared() -> None:
    found = changed()
    assert found is not None
    assert (found.images, found.before, found.after) == (8, 0.5, 5 / 8)
    assert found.gain == pytest.approx(1 / 8)
    assert found.low < 0 < found.high
    assert found.better == [ClassChange("wren", 4, 0, 3)]
    assert found.worse == [ClassChange("auk", 4, 4, 2)]
    assert found.classes == (*found.better, *found.worse)  # the greatest change first
    assert (found.taken, found.new_images, found.new_right) == (2, 2, 1)
    first, moved, taken, new = found.sentences()
    assert "8 images that both runs held out, runs/a has 50.0 % right and this run 62.5 %" in first
    assert first.endswith("no clear difference")
    assert moved == "Better: wren (0 → 3 of 4); Worse: auk (4 → 2 of 4)"
    assert taken == "2 of these are now taken for a new class"
    assert new == "Of 2 new held-out images, 50.0 % are right"


def test_it_survives_json() -> None:
    found = changed()
    assert found is not None
    assert Changed.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_the_label_of_today_counts_for_both() -> None:
    found = changed(labels=["wren"] * 8 + ["owl"] * 2)
    assert found is not None
    assert (found.before, found.after) == (0.0, 3 / 8)


def test_a_clear_difference_is_called_one() -> None:
    found = changed(answers=LABELS)
    assert found is not None
    assert found.sentences()[0].endswith(": better")
    assert found.worse == []


def test_nothing_in_common_says_nothing() -> None:
    assert changed(old_answers={"other.jpg": "auk"}) is None
