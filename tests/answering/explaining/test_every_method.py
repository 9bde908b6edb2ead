"""Every registered method can be explained. Methods are found in the registry, so a new file is tested unlisted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from fieldmark.answering.explaining.evidence import Contrast
from fieldmark.answering.explaining.explanation import explain_view
from fieldmark.answering.explaining.taps import tap
from fieldmark.model.method import METHODS, Method
from support.known import known_noise

Make = Callable[..., Method]


@pytest.mark.parametrize("name", sorted(METHODS))
@pytest.mark.parametrize("backbone", ["resnet10t", "vit_tiny_patch16_224"])
def test_every_method_is_explained(name: str, backbone: str, make: Make, image: Tensor) -> None:
    method = make(backbone, name)
    place = tap(method, image.shape[-1])
    known = [known_noise(method, place, label, 2) for label in "ab"]
    with torch.no_grad():
        first, second = (int(k) for k in method(image).logits[0].topk(2).indices)
    evidence, found, whole = explain_view(method, image, Contrast(first, second), (known[0], known[1]))
    assert np.isfinite(evidence.cells).all()
    assert np.abs(evidence.cells).max() > 0
    if evidence.cells.max() > 0 and evidence.parts is None:
        assert found
    if found:
        assert whole is not None
        assert np.isfinite(whole.exchange.margin)
        assert found[0].region.cells.shape == evidence.cells.shape
        assert (found[0].region.part is None) is (evidence.parts is None)
