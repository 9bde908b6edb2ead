"""A batch that does not fit into memory: the same answers from pieces of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fieldmark.answering.engine import PartEngine, PartVectorEngine, TorchEngine
from fieldmark.core.errors import DeviceError
from fieldmark.data.task import Task
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.model.build import build_model
from fieldmark.model.model import Model

SIZE = 64


def model_of(method: str) -> Model:
    torch.manual_seed(0)
    settings = [f"images.size={SIZE}", "backbone.name=resnet10t", "backbone.weights=none"]
    return build_model(resolve_recipe(method, overrides=settings), Task(3)).eval()


def gpu_is_full() -> None:
    raise torch.OutOfMemoryError("CUDA out of memory")


def cpu_is_full() -> None:
    """Really: there are not so many addresses."""
    torch.empty(2**58)


def full_above(most: int, model: Model, full: Callable[[], None] = gpu_is_full) -> list[int]:
    """Let the backbone run out of memory with more images than so many; the sizes of the batches that were tried."""
    tried: list[int] = []

    def look(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        tried.append(len(given[0]))
        if len(given[0]) > most:
            full()

    model.backbone.register_forward_pre_hook(look)
    return tried


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(256, size=(9, 3, SIZE, SIZE), dtype=np.uint8)


@pytest.mark.parametrize("full", [gpu_is_full, cpu_is_full])
def test_answers_in_pieces_are_those_of_the_whole(images: NDArray[np.uint8], full: Callable[[], None]) -> None:
    whole = TorchEngine(model_of("finetune"))(images)
    model = model_of("finetune")
    tried = full_above(3, model, full)
    engine = TorchEngine(model)
    pieces = engine(images)
    np.testing.assert_allclose(pieces.logits, whole.logits, atol=1e-4)
    np.testing.assert_allclose(pieces.embedding, whole.embedding, atol=1e-4)
    assert tried[:3] == [9, 4, 2]
    assert max(tried[3:]) == 2
    assert engine(images[:0]).logits.shape == (0, 3)
    tried.clear()
    engine(images[:4])
    assert set(tried) == {2}  # what did not fit is not tried again


def test_parts_in_pieces_are_those_of_the_whole(images: NDArray[np.uint8]) -> None:
    found, described = (
        PartEngine(model_of("part_discovery"))(images),
        PartVectorEngine(model_of("part_discovery"))(images),
    )
    model = model_of("part_discovery")
    full_above(2, model)
    again, vectors = PartEngine(model)(images), PartVectorEngine(model)(images)
    assert found is not None
    assert again is not None
    np.testing.assert_allclose(again.centres, found.centres, atol=1e-4)
    np.testing.assert_allclose(again.maps, found.maps, atol=1e-4)
    np.testing.assert_allclose(vectors, described, atol=1e-4)
    plain = model_of("finetune")
    full_above(2, plain)
    assert PartEngine(plain)(images) is None


def test_memory_that_does_not_suffice_for_one_picture(images: NDArray[np.uint8]) -> None:
    model = model_of("finetune")
    full_above(0, model)
    with pytest.raises(DeviceError, match=r"does not suffice for one picture.*--device cpu"):
        TorchEngine(model)(images)
