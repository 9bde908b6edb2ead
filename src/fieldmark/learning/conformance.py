"""What every method, neck, head, loss and auxiliary must do, whether it comes with Fieldmark or from a plug-in.

    python -m pytest --pyargs fieldmark.learning.conformance                  # everything that is registered
    python -m pytest --pyargs fieldmark.learning.conformance -k my_method     # one piece

Pieces are found in their registries, so a new one is tested without being listed. The suite needs pytest and takes
some minutes.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from fieldmark.answering.predictor import Predictor
from fieldmark.core.ranks import joined, rank, share
from fieldmark.core.recipe import NONE, Backbone, Choice, Images, Recipe
from fieldmark.data.task import Attribute, Task
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.learning.training.sharing import add_gradients, whole_statistics
from fieldmark.learning.training.start import Start
from fieldmark.model.auxiliaries.auxiliary import AUXILIARIES, Auxiliary
from fieldmark.model.batch import Batch
from fieldmark.model.build import build_model
from fieldmark.model.enrolled import Enrolled
from fieldmark.model.head import Head
from fieldmark.model.heads.classifier import CLASSIFIERS
from fieldmark.model.losses.loss import LOSSES
from fieldmark.model.method import METHODS, Method, Prediction
from fieldmark.model.model import Model
from fieldmark.model.necks.neck import NECKS
from fieldmark.runs.bundle import Bundle

BACKBONES: dict[str, dict[str, int]] = {
    "mobilenetv3_small_050": {},
    "resnet10t": {},
    "resnet10t+tf_efficientnet_lite0": {},
    "vit_tiny_patch16_224": {"depth": 2, "embed_dim": 48, "num_heads": 3},
}
CLASSES = 3
# all that a piece may need to know: a loss refuses labels that lack what it is about
NAMES = ("a", "b", "c")
TASK = Task(CLASSES, (2, 2, 2), Taxonomy.of(NAMES, {"genus": ("one", "one", "other")}), grades=(0, 1, 2))


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
    return build_model(recipe_of(method, backbone, size, **pieces), TASK).method


def saved(method: Method, recipe: Recipe, folder: Path) -> Predictor:
    """The method as a bundle, read again."""
    Predictor(Bundle(NAMES, recipe, method.backbone.normalization.interpolation), Model(method)).save(folder)
    return Predictor.load(folder, device="cpu")


def batch_of(size: int, count: int = 6) -> Batch:
    """Random pictures, one class a brightness, so that there is something to learn."""
    labels = torch.arange(count) % CLASSES
    images = torch.randn(count, 3, size, size, generator=torch.Generator().manual_seed(1)) * 0.3
    images += labels.view(-1, 1, 1, 1) - 1.0
    return Batch(images, labels.unsqueeze(1), torch.ones(count, 1), torch.arange(count))


def two_enrolled(embedding: torch.Tensor) -> Enrolled:
    """Two more classes, each where one of these embeddings (B, D) lies."""
    width = embedding.shape[1]
    expected = torch.nn.functional.normalize(embedding, dim=1)[: CLASSES + 2]
    return Enrolled(
        torch.zeros(width),
        torch.eye(width),
        expected,
        torch.ones_like(expected),
        num_new=2,
        temperature=4.0,
        offset=0.0,
    )


def total(method: Method, batch: Batch, step: int = 0) -> torch.Tensor:
    return torch.stack(list(method.losses(batch, step).terms.values())).sum()


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


def test_the_head_is_part_of_the_contract(name: str) -> None:
    assert isinstance(make(name, "mobilenetv3_small_050", 64).head, Head)


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


def test_a_class_without_training_images_leaves_the_loss_as_it_is(name: str) -> None:
    """Its logit is far below all others, whatever a loss makes of logits."""
    torch.manual_seed(0)
    recipe = recipe_of(name, "mobilenetv3_small_050", 64)
    task = replace(TASK, counts=(3, 3, 0), grades=(), unlearnt=(2,))
    method = build_model(recipe, task).method.train()
    images = batch_of(64)
    learnt = replace(images, labels=images.labels % 2)
    for step in range(method.steps_per_batch):
        assert total(method, learnt, step).item() < 100


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
    found = [method.losses(batch_of(64), step).terms for step in range(method.steps_per_batch)]
    assert any(auxiliary in key for losses in found for key in losses)
    torch.stack([value for losses in found for value in losses.values()]).sum().backward()
    (own, *_) = (module for module in method.modules() if isinstance(module, Auxiliary))
    assert all(p.grad is not None and p.grad.any() for p in own.parameters())
    answering = saved(method.eval(), recipe_of(name, "resnet10t", 64, auxiliary=auxiliary), tmp_path).model.method
    assert not any(isinstance(module, Auxiliary) for module in answering.modules())
    with torch.no_grad():
        np.testing.assert_allclose(answering(batch_of(64).images).logits, method(batch_of(64).images).logits, atol=1e-5)


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
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
    model = build_model(recipe_of(name, backbone, 64), replace(TASK, attributes=told)).train()
    batch = replace(batch_of(64), attributes=torch.tensor([[0, 2], [1, -1], [-1, 0]] * 2))
    losses = [model.losses(batch, step) for step in range(model.method.steps_per_batch)]
    (attributes,) = [found["attributes"] for found in losses if "attributes" in found]  # in one step of a batch
    attributes.backward()
    assert model.attributes is not None
    assert [key for key, p in model.attributes.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert any(p.grad is not None and p.grad.any() for p in model.backbone.parameters())
    with torch.no_grad():
        prediction = model.eval()(batch.images)
    assert [tuple(logits.shape) for logits in prediction.attributes] == [(6, 2), (6, 3)]


def test_enrolled_classes_join_any_method(name: str, backbone: str) -> None:
    """The method does not know of them: the classes that it learnt keep their logits."""
    model = Model(make(name, backbone, 64).eval(), mirrored=True).eval()
    images = batch_of(64).images
    with torch.no_grad():
        before = model(images)
        model.enrolled = two_enrolled(before.embedding)
        after = model(images)
    assert after.logits.shape == (6, CLASSES + 2)
    assert torch.isfinite(after.logits).all()
    np.testing.assert_array_equal(after.logits[:, :CLASSES], before.logits)
    assert model.weights().keys() == Model(model.method).weights().keys()


def test_saves_loads_and_answers_the_same(name: str, backbone: str, tmp_path: Path) -> None:
    method = make(name, backbone, 64).eval()
    loaded = saved(method, recipe_of(name, backbone, 64), tmp_path)
    images = batch_of(64).images
    with torch.no_grad():
        before, after = method(images), loaded.model.method(images)
    np.testing.assert_allclose(before.logits, after.logits, atol=1e-5)
    np.testing.assert_allclose(before.embedding, after.embedding, atol=1e-5)
    assert loaded.classes == NAMES
    Image.effect_noise((64, 64), 64).convert("RGB").save(tmp_path / "a.png")
    (embedding,) = loaded.embed([tmp_path / "a.png"])
    np.testing.assert_allclose(np.linalg.norm(embedding), 1.0, atol=1e-5)


@pytest.mark.parametrize("head", list(CLASSIFIERS))
def test_what_was_learnt_is_a_start_for_more_classes(name: str, head: str, tmp_path: Path) -> None:
    """`train --from`: known classes keep their logits, and further ones have rows behind theirs."""
    backbone = "mobilenetv3_small_050"
    recipe = recipe_of(name, backbone, 64, head=head)
    begun = saved(make(name, backbone, 64, head=head).eval(), recipe, tmp_path)
    task = Task(CLASSES + 2, unlearnt=(CLASSES, CLASSES + 1))  # silent: cells may be selected by all classes' logits
    more = build_model(recipe, task)
    Start(begun.bundle).give(more, task)
    images = batch_of(64).images
    with torch.no_grad():
        before, after = begun.model(images), more.eval()(images)
    assert after.logits.shape == (6, CLASSES + 2)
    np.testing.assert_allclose(after.logits[:, :CLASSES], before.logits, rtol=1e-4, atol=1e-5)


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


# ---- several processes


forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot be forked here")
_PATIENCE = 120
"""Seconds."""
Arrays = dict[str, NDArray[Any]]


def in_two_processes(act: Callable[[], Arrays]) -> list[Arrays]:
    """What `act` gives in each of two processes that train together. They are forked, so they know all pieces."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    pipes = [context.Pipe(duplex=False) for _ in range(2)]
    children = [context.Process(target=_child, args=(number, port, act, end)) for number, (_, end) in enumerate(pipes)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that there are threads
        for child in children:
            child.start()
    try:
        found: list[Any] = [end.recv() if end.poll(_PATIENCE) else "no answer" for end, _ in pipes]
    finally:
        for child in children:
            child.kill()
            child.join()
    for one in found:
        assert not isinstance(one, str), one
    return found


def _child(number: int, port: int, act: Callable[[], Arrays], end: Any) -> None:
    told = {"RANK": number, "WORLD_SIZE": 2, "LOCAL_RANK": number, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ |= {key: str(value) for key, value in told.items()}
    torch.set_num_threads(1)
    try:
        with joined():
            end.send(act())
    except BaseException:  # the parent raises it
        end.send(traceback.format_exc())


def after_steps(model: Model, num_steps: int, seed: int = 0) -> Arrays:
    """Weights and statistics after steps in which each process has its share of seven images, and its own draws."""
    batch = batch_of(64, 7)
    own = share(7)
    weight = (own.stop - own.start) / 7
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.manual_seed(seed + rank())
    for index in range(num_steps):
        optimizer.zero_grad()
        with whole_statistics(model):
            terms = model.losses(batch.piece(own), index % model.method.steps_per_batch)
        (weight * torch.stack(list(terms.values())).sum()).backward()
        add_gradients(model)
        optimizer.step()
    return {key: value.numpy() for key, value in model.state_dict().items()}


@forks
def test_two_processes_have_one_model(name: str) -> None:
    """Weights, statistics, centres, prototypes: whatever moves, moves by the whole batch, everywhere alike."""

    def act() -> Arrays:
        model = Model(make(name, "resnet10t", 64)).train()
        return after_steps(model, 2 * model.method.steps_per_batch)

    one, other = in_two_processes(act)
    assert all(np.isfinite(values).all() for values in one.values())
    assert [key for key, values in one.items() if not np.array_equal(values, other[key])] == []


@forks
@pytest.mark.parametrize(
    "piece",
    [
        *({"head": head} for head in CLASSIFIERS),
        *({"loss": loss} for loss in LOSSES),
        *({"auxiliary": auxiliary} for auxiliary in AUXILIARIES),
    ],
    ids=lambda piece: next(iter(piece.values())),
)
def test_two_processes_take_the_step_of_one(piece: dict[str, str]) -> None:
    """A loss is a mean over images, or else compares all of them: `fieldmark.core.ranks.gathered` gives it those of
    other processes. One that draws is only required to move both alike."""

    def act(seed: int = 0) -> Arrays:
        return after_steps(Model(make("transfer", "vit_tiny_patch16_224", 64, **piece)).train(), 1, seed)

    alone, again = act(), act(seed=1)
    one, other = in_two_processes(act)
    for key, values in one.items():
        np.testing.assert_array_equal(values, other[key], err_msg=key)
        if np.array_equal(alone[key], again[key]):
            np.testing.assert_allclose(values, alone[key], rtol=1e-4, atol=1e-5, err_msg=key)


# What a recipe asks for beyond the names of its pieces, where that changes the graph.
_CHANGED: list[tuple[str, dict[str, object]]] = [
    ("bilinear_attention", {"refine": True}),
    ("progressive_jigsaw", {"combined": True}),
]
SOME: list[tuple[str, dict[str, object], str, str]] = [
    *((method, {}, NONE, "linear") for method in METHODS),
    *((method, options, NONE, "linear") for method, options in _CHANGED),
    *(("transfer", {}, neck, "linear") for neck in NECKS),
    *(("transfer", {}, NONE, head) for head in CLASSIFIERS if head != "linear"),
]


@pytest.mark.parametrize("backbone", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
@pytest.mark.parametrize(("name", "options", "neck", "head"), SOME)
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # torch's own, on the way
def test_exports_with_any_number_of_images(
    name: str, options: dict[str, object], neck: str, head: str, backbone: str
) -> None:
    check_export(name, options, neck, head, backbone)


def check_export(name: str, options: dict[str, object], neck: str, head: str, backbone: str) -> None:
    """Exported with a dynamic batch, the pieces give the same answers."""
    torch.manual_seed(0)
    recipe = recipe_of(name, backbone, 64, neck=neck, head=head)
    recipe = recipe.model_copy(update={"method": Choice.model_validate({"name": name, **options})})
    told = (Attribute("beak", ("red", "yellow"), (3, 3)),)
    model = build_model(recipe, replace(TASK, attributes=told)).eval()
    with torch.no_grad():
        model.enrolled = two_enrolled(model(batch_of(64).images).embedding)
    batch = torch.export.Dim("batch", min=1, max=64)
    with torch.no_grad():
        exported = torch.export.export(model, (torch.randn(2, 3, 64, 64),), dynamic_shapes=({0: batch},)).module()
        for count in (1, 5):
            images = torch.randn(count, 3, 64, 64)
            own, theirs = model(images), exported(images)
            for field in ("logits", "embedding", "pooled", "parts"):
                if getattr(own, field) is not None:
                    np.testing.assert_allclose(getattr(theirs, field), getattr(own, field), atol=1e-5)
            np.testing.assert_allclose(theirs.attributes[0], own.attributes[0], atol=1e-5)
