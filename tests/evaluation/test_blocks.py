"""Large arrays by blocks: the same as at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.data.taxonomy import Taxonomy
from fieldmark.evaluation import blocks as module
from fieldmark.evaluation.blocks import blocks, by_blocks
from fieldmark.evaluation.calibration import Calibration, Held
from fieldmark.evaluation.metrics import scores
from fieldmark.evaluation.scaling import calibrate
from fieldmark.evaluation.thresholds import Thresholds
from fieldmark.evaluation.unknown import nearness
from fieldmark.evaluation.verdict_scores import score_verdicts


@given(st.integers(0, 40), st.integers(0, 12), st.integers(1, 60))
def test_blocks_cover_all_rows_once(num_rows: int, width: int, most: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST", most)
        found = list(blocks(num_rows, width))
        assert [row for rows in found for row in range(num_rows)[rows]] == list(range(num_rows))
        assert all((rows.stop - rows.start) * width <= most or rows.stop - rows.start == 1 for rows in found)
        values = np.arange(num_rows * width, dtype=np.float64).reshape(num_rows, width)
        added = by_blocks(lambda some, other: some.sum(axis=1) + other, values, np.arange(num_rows))
        assert (added == values.sum(axis=1) + np.arange(num_rows)).all()


def test_a_calibration_and_its_scores_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 12, 700)
    logits = rng.normal(size=(700, 12)).astype(np.float32)
    logits[np.arange(700), labels] += 2
    units = rng.integers(0, 620, 700)
    labels = labels[np.unique(units, return_index=True)[1]][np.unique(units, return_inverse=True)[1]]
    means = rng.normal(size=(12, 5))
    taxonomy = Taxonomy.of([f"species {k}" for k in range(12)], {"genus": [str(k % 3) for k in range(12)]})

    def everything() -> list[object]:
        near = nearness(rng_embedding, means)
        held = Held(logits, near, labels, units)
        fitted = calibrate(logits, labels, units)
        made = Calibration.fit(held, means, taxonomy, source="validation", calibrated=fitted)
        judged = score_verdicts(Thresholds.of(made, taxonomy), logits, near, labels, units)
        figures = scores(fitted.held_out, labels, units)
        return [*made.arrays().values(), *(score.value for score in figures.values()), judged.nll, judged.set_size,
                judged.covered, judged.area]  # fmt: skip

    rng_embedding = rng.normal(size=(700, 5))
    whole = everything()
    monkeypatch.setattr(module, "_MOST", 12 * 50)
    for one, other in zip(everything(), whole, strict=True):
        np.testing.assert_allclose(np.asarray(one, float), np.asarray(other, float), rtol=1e-5, atol=1e-7)


def test_so_many_logits_are_scaled_by_some_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    logits = 3 * rng.normal(size=(6000, 4))
    labels = (logits / 3 + rng.gumbel(size=logits.shape)).argmax(axis=1)  # drawn by softmax at a temperature of 3
    whole = calibrate(logits, labels)
    monkeypatch.setattr("fieldmark.evaluation.scaling._MOST", 4 * 2000)
    some = calibrate(logits, labels)
    assert some.held_out.shape == whole.held_out.shape
    assert some.scaling.temperature == pytest.approx(3, rel=0.1)
    assert some.scaling.temperature != whole.scaling.temperature
