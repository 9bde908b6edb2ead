"""Results that were not trained for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fieldmark.comparison import Result


def _result(recipe: str = "finetune", seed: int = 0, *, right: Any = 0.7, num: int = 300, **changes: Any) -> Result:
    """A result with this share of right answers, or these answers."""
    rng = np.random.default_rng([seed, len(recipe)])
    correct = rng.random(num) < right if np.ndim(right) == 0 else np.asarray(right, bool)
    values: dict[str, Any] = {
        "recipe": recipe,
        "seed": seed,
        "split": "val",
        "data": "0123456789abcdef",
        "weights": "none",
        "settings": {"protocol": "holdout"},
        "correct": correct,
        "nll": np.where(correct, 0.25, 2.0).astype(np.float32),
        "curve": (0.5, 0.6),
        "seconds": 60.0,
        "learning_speed": 50.0,
        "answering_speed": None,
        "memory": {"process": 10**9},
        "num_parameters": 2_000_000,
        "machine": {"device": "cpu", "threads": 2},
        "looks": None,
    }
    return Result(**(values | changes))


@pytest.fixture(scope="session", name="made_up")
def _made_up() -> Any:
    return _result
