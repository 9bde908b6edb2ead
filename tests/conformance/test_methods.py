"""What every method promises. Methods are found in the registry, so a new file is tested without being listed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import fieldmark.methods
from fieldmark.auxiliaries.auxiliary import AUXILIARIES, Auxiliary
from fieldmark.bundle import Bundle, build_method
from fieldmark.heads.classifier import CLASSIFIERS
from fieldmark.losses.loss import LOSSES, Attribute, Task
from fieldmark.model.method import METHODS, Batch, LossModule, Method, Prediction
from fieldmark.necks.neck import NECKS
from fieldmark.recipe import NONE, Backbone, Choice, Images, Recipe

BACKBONES = {
    "mobilenetv3_small_050": {},
    "resnet10t": {},
    "vit_tiny_patch16_224": {"depth": 2, "embed_dim": 48, "num_heads": 3},
}
CLASSES = 3
# all that a piece may need to know: a loss refuses labels that lack what it is about
TASK = Task(CLASSES, (2, 2, 2), {"genus": ("one", "one", "other")}, grades=(0, 1, 2))


def recipe_of(
    method: str,
    backbone: str,
    size: int,
    *,
    neck: str = NONE,
    head: str = "linear",
    loss: str = "cross_entropy",
    auxiliary: str = NONE,
) -> Recipe:
    return Recipe(
        images=Images(size=size),
        backbone=Backbone(name=backbone, weights="none", options=BACKBONES[backbone]),
        neck=Choice(name=neck),
        method=Choice(name=method),
        head=Choice(name=head),
        loss=Choice(name=loss),
        auxiliary=Choice(name=auxiliary),
    )


def make(method: str, backbone: str, size: int, **pieces: str) -> Method:
    torch.manual_seed(0)
    return build_method(recipe_of(method, backbone, size, **pieces), TASK)


def batch_of(size: int, count: int = 6) -> Batch:
    """Random pictures, one class a brightness, so that there is something to learn."""
    labels = torch.arange(count) % CLASSES
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 0.3
    images += labels.view(-1, 1, 1, 1) - 1.0
    return Batch(images, labels.unsqueeze(1), torch.ones(count, 1), torch.arange(count), 0.0)


def total(method: Method, batch: Batch, step: int = 0) -> torch.Tensor:
    return torch.stack(list(method.losses(batch, step).values())).sum()


def left_out(method: Method) -> list[str]:
    """Parameters that the last losses gave no gradient; those of a pooling that a neck replaces may lack one."""
    model = method.backbone.model
    named = {f"backbone.model.{key}": p for key, p in model.named_parameters()} if method.backbone.neck else {}
    output = model.forward_features(batch_of(64).images).sum()
    reached = torch.autograd.grad(output, list(named.values()), allow_unused=True) if named else ()
    replaced = {key for key, grad in zip(named, reached, strict=True) if grad is None}
    grads = {key: p.grad for key, p in method.named_parameters() if key not in replaced}
    return [key for key, grad in grads.items() if grad is None or not torch.isfinite(grad).all()]


@pytest.fixture(params=sorted(METHODS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=sorted(BACKBONES))
def backbone(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("size", [64, 96])
def test_shapes(name: str, backbone: str, size: int) -> None:
    method = make(name, backbone, size).eval()
    with torch.no_grad():
        prediction = method(batch_of(size).images)
    assert isinstance(prediction, Prediction)
    assert prediction.logits.shape == (6, CLASSES)
    assert prediction.embedding.ndim == 2
    assert len(prediction.embedding) == 6
    assert prediction.parts is None or prediction.parts.ndim == 4


def test_every_parameter_gets_a_gradient(name: str, backbone: str) -> None:
    method = make(name, backbone, 64).train()
    for step in range(method.steps_per_batch):
        total(method, batch_of(64), step).backward()
    assert [key for key, p in method.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@pytest.mark.parametrize("neck", [NONE, *NECKS])
@pytest.mark.parametrize("head", list(CLASSIFIERS))
@pytest.mark.parametrize("loss", list(LOSSES))
def test_pieces_combine(neck: str, head: str, loss: str, backbone: str) -> None:
    method = make("transfer", backbone, 64, neck=neck, head=head, loss=loss).train()
    total(method, batch_of(64)).backward()
    assert left_out(method) == []
    assert method(batch_of(64).images).embedding.shape == (6, method.backbone.width)


@pytest.mark.parametrize(
    ("name", "neck"),
    [(name, neck) for name in METHODS for neck in (NONE, *NECKS) if neck == NONE or not METHODS.get(name).pools],
)
def test_every_method_takes_every_head_and_loss_and_mixed_images(name: str, neck: str) -> None:
    mixed = replace(
        batch_of(64),
        labels=torch.stack([torch.arange(6) % CLASSES, (torch.arange(6) + 1) % CLASSES], dim=1),
        weights=torch.tensor([[0.75, 0.25]] * 6),
    )
    for head in CLASSIFIERS:
        for loss in LOSSES:
            method = make(name, "mobilenetv3_small_050", 64, neck=neck, head=head, loss=loss).train()
            for step in range(method.steps_per_batch):
                total(method, mixed, step).backward()
            assert left_out(method) == [], (head, loss)


@pytest.mark.parametrize("neck", list(NECKS))
def test_a_neck_that_says_so_starts_as_the_mean(neck: str) -> None:
    features = torch.randn(2, 8, 3, 5)
    pooled = NECKS.get(neck)(8, **NECKS.complete(neck, {}))(features)
    means = features.mean((2, 3))
    assert (pooled.shape == means.shape and torch.allclose(pooled, means, atol=1e-6)) == NECKS.get(neck).starts_as_mean


@pytest.mark.parametrize("auxiliary", list(AUXILIARIES))
def test_an_auxiliary_joins_any_method_in_training(name: str, auxiliary: str, tmp_path: Path) -> None:
    method = make(name, "resnet10t", 64, auxiliary=auxiliary).train()
    found = [method.losses(batch_of(64), step) for step in range(method.steps_per_batch)]
    assert any(auxiliary in key for losses in found for key in losses)
    torch.stack([value for losses in found for value in losses.values()]).sum().backward()
    (own, *_) = (module for module in method.modules() if isinstance(module, Auxiliary))
    assert all(p.grad is not None and p.grad.any() for p in own.parameters())
    Bundle(method.eval(), ("a", "b", "c"), recipe_of(name, "resnet10t", 64, auxiliary=auxiliary)).save(tmp_path)
    answering = Bundle.load(tmp_path).method
    assert not any(isinstance(module, Auxiliary) for module in answering.modules())
    with torch.no_grad():
        np.testing.assert_allclose(answering(batch_of(64).images).logits, method(batch_of(64).images).logits, atol=1e-5)


@pytest.mark.parametrize(
    "backbone", [pytest.param(name, marks=pytest.mark.slow) if name == "resnet10t" else name for name in BACKBONES]
)
def test_overfits_one_batch(name: str, backbone: str) -> None:
    method = make(name, backbone, 64).train()
    optimizer = torch.optim.AdamW(method.parameters(), lr=2e-3)
    batch = batch_of(64)
    for _ in range(40 // method.steps_per_batch):  # as many optimiser steps for each method
        for step in range(method.steps_per_batch):
            optimizer.zero_grad()
            total(method, batch, step).backward()
            optimizer.step()
    method.train()  # a batch's own statistics: forty steps do not settle the running ones
    assert (method(batch.images).logits.argmax(1) == batch.labels[:, 0]).all()


def test_attributes_are_learnt_beside_any_method(name: str, backbone: str) -> None:
    """The method does not know of them: its own losses stay as they are, and the heads' reach the backbone."""
    torch.manual_seed(0)
    told = (Attribute("beak", ("red", "yellow"), (3, 3)), Attribute("crown", ("a", "b", "c"), (2, 2, 2)))
    method = build_method(recipe_of(name, backbone, 64), replace(TASK, attributes=told)).train()
    batch = replace(batch_of(64), attributes=torch.tensor([[0, 2], [1, -1], [-1, 0]] * 2))
    losses = [LossModule(method)(batch, step) for step in range(method.steps_per_batch)]
    (attributes,) = [found["attributes"] for found in losses if "attributes" in found]  # in one step of a batch
    attributes.backward()
    assert method.attributes is not None
    assert [key for key, p in method.attributes.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert any(p.grad is not None and p.grad.any() for p in method.backbone.parameters())
    with torch.no_grad():
        prediction = method.eval().answer(batch.images)
    assert [tuple(logits.shape) for logits in prediction.attributes] == [(6, 2), (6, 3)]


def test_saves_loads_and_answers_the_same(name: str, backbone: str, tmp_path: Path) -> None:
    method = make(name, backbone, 64).eval()
    Bundle(method, ("a", "b", "c"), recipe_of(name, backbone, 64)).save(tmp_path)
    loaded = Bundle.load(tmp_path)
    images = batch_of(64).images
    with torch.no_grad():
        before, after = method(images), loaded.method(images)
    np.testing.assert_allclose(before.logits, after.logits, atol=1e-5)
    np.testing.assert_allclose(before.embedding, after.embedding, atol=1e-5)
    assert loaded.classes == ("a", "b", "c")
    Image.effect_noise((64, 64), 64).convert("RGB").save(tmp_path / "a.png")
    (embedding,) = loaded.embed([tmp_path / "a.png"])
    np.testing.assert_allclose(np.linalg.norm(embedding), 1.0, atol=1e-5)


def test_class_maps_are_as_they_answer(name: str, backbone: str) -> None:
    method = make(name, backbone, 64).eval()
    batch = batch_of(64)
    maps = method.class_maps(batch.images, batch.labels[:, 0])
    if maps is None:
        return
    assert maps.ndim == 3
    assert len(maps) == 6
    assert torch.isfinite(maps).all()
    assert not maps.requires_grad
    assert all(p.grad is None for p in method.parameters())


def test_every_method_module_is_imported() -> None:
    files = {path.stem for path in Path(fieldmark.methods.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == {METHODS.get(name).__module__.rsplit(".", 1)[1] for name in METHODS}
