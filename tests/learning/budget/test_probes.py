"""Which backbones are probed beside the recipe's own."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.core.recipe import Backbone
from fieldmark.learning.budget import probes
from fieldmark.model.at_hand import WeightsHere
from fieldmark.model.license import weights_license


def test_weights_that_forbid_commercial_use_are_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["test_vit.r160_in1k", "convnextv2_atto.fcmae_ft_in1k", "test_resnet.r160_in1k"]
    here = [WeightsHere(name, "hub", Path("model.safetensors")) for name in names]
    monkeypatch.setattr(probes, "weights_at_hand", lambda: iter(here))
    assert weights_license(Backbone(name=names[1], weights="hub")) == "cc-by-nc-4.0"
    found = probes._at_hand(Backbone(name="test_resnet.r160_in1k", weights="hub"))
    assert [one.name for one in found] == ["test_vit.r160_in1k"]
