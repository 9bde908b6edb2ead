"""Whether a graph answers as the network does: every output that somebody uses is compared."""

from __future__ import annotations

import numpy as np
import pytest

from fieldmark.answering.trial import TOLERANCE
from fieldmark.evaluation.outputs import Outputs
from fieldmark.exporting.checking import compared


def answered(*, scale: float = 1.0) -> Outputs:
    random = np.random.default_rng(0)
    logits, embedding, attribute = (random.uniform(-1, 1, (8, k)).astype(np.float32) for k in (3, 16, 4))
    embedding[0, 0] = 1
    return Outputs(logits, embedding * np.float32(scale), (attribute, attribute[:, :2]))


@pytest.mark.parametrize(
    ("output", "said"), [("logits", "logits"), ("embedding", "embeddings"), ("attributes", "attributes")]
)
def test_each_output_must_be_the_same(output: str, said: str) -> None:
    before = answered()
    assert compared(before, answered(), "noise").is_same
    for off, same in ((0.5 * TOLERANCE, True), (3 * TOLERANCE, False)):
        values = getattr(before, output)
        moved = (values[0], values[1] + off) if output == "attributes" else values + np.float32(off)
        checked = compared(before, before._replace(**{output: moved}), "noise")
        assert checked.is_same == same
        assert (f"its {said} differ by up to 0.0003, where 0.0001 is rounding" in checked.said) == (
            not same and output != "logits"
        )


def test_rounding_grows_with_the_values() -> None:
    large = answered(scale=100)
    for off, same in ((50 * TOLERANCE, True), (300 * TOLERANCE, False)):
        assert compared(large, large._replace(embedding=large.embedding + np.float32(off)), "noise").is_same == same


def test_what_is_no_number_is_not_the_same() -> None:
    before = answered()
    for output in ("logits", "embedding"):
        lost = getattr(before, output).copy()
        lost[0, 0] = np.nan
        assert not compared(before, before._replace(**{output: lost}), "noise").is_same


def test_a_bundle_without_attributes() -> None:
    plain = answered()._replace(attributes=())
    checked = compared(plain, plain, "noise")
    assert checked.is_same
    assert set(checked.as_dict()["off"]) == {"logits", "embeddings"}
