"""What is known about data that is ready for training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from fieldmark.data.catalog import Catalog
from fieldmark.learning.fitting.prepare import Prepared


def test_units_are_found_once() -> None:
    """For a hundred thousand images that takes a second, and training asks often."""
    groups = np.array(["", "", "burst", "burst"])
    catalog = Catalog("birds", Path("/birds"), tuple("abcd"), np.zeros(4, np.int64), ("wren",), np.full(4, ""), groups)
    prepared = Prepared(catalog, cast(Any, None), np.array([0, 1, 0, 2]))
    assert prepared.units.tolist() == [0, 1, 0, 0]
    assert prepared.units is prepared.units
    assert replace(prepared, clusters=np.arange(4)).units.tolist() == [0, 1, 2, 2]
