"""What of the shipped suite takes too long for every day."""

from __future__ import annotations

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.name.startswith("test_overfits_one_batch[") and "resnet10t" in item.name:
            item.add_marker(pytest.mark.slow)
