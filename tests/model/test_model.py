"""What is composed with a method: mirror images, heads for attributes, and which weights are kept."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from fieldmark.core.recipe import Backbone, Choice, Images, Labels, Recipe
from fieldmark.data.task import Attribute, Task
from fieldmark.model.batch import Batch
from fieldmark.model.build import build_model
from fieldmark.model.model import Model

ATTRIBUTES = (Attribute("beak", ("red", "yellow"), (8, 2)), Attribute("ring", ("no", "some", "yes"), (4, 3, 3)))


def make(
    *, mirror: bool = False, attributes: tuple[Attribute, ...] = ATTRIBUTES, seed: int = 0, **pieces: str
) -> Model:
    torch.manual_seed(seed)
    recipe = Recipe(
        images=Images(size=32, mirror=mirror),
        backbone=Backbone(name="test_resnet", weights="none"),
        labels=Labels(attribute_weight=0.5),
        **{section: Choice(name=name) for section, name in pieces.items()},
    )
    return build_model(recipe, Task(3, attributes=attributes)).eval()


def images() -> Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def batch(*, attributes: Tensor | None = None) -> Batch:
    labels = torch.tensor([[0, 1], [1, 2], [2, 0], [0, 0]])
    weights = torch.tensor([[0.7, 0.3]]).expand(4, 2)
    return Batch(images(), labels, weights, torch.arange(4), attributes=attributes)


def test_an_answer_is_that_of_the_method_and_of_its_attributes() -> None:
    model = make()
    answer, plain = model(images()), model.method(images())
    assert torch.equal(answer.logits, plain.logits)
    assert torch.equal(answer.embedding, plain.embedding)
    assert plain.attributes == ()
    assert model.attributes is not None
    pooled = model.backbone(images()).pooled
    for found, expected in zip(answer.attributes, model.attributes(pooled), strict=True):
        torch.testing.assert_close(found, expected)
    assert [tuple(one.shape) for one in answer.attributes] == [(4, 2), (4, 3)]


def test_without_attributes_there_are_none() -> None:
    model = make(attributes=())
    assert model.attributes is None
    assert model(images()).attributes == ()


@pytest.mark.parametrize("method", ["transfer", "bilinear_attention"])
def test_a_mirrored_answer_is_the_mean_of_two(method: str) -> None:
    model, twice = make(method=method), make(method=method, mirror=True)
    twice.load_weights(model.weights())
    assert (model.mirrored, twice.mirrored) == (False, True)
    with torch.no_grad():
        one, other, both = model(images()), model(images().flip(-1)), twice(images())
    assert not torch.allclose(one.logits, other.logits)
    torch.testing.assert_close(both.logits, (one.logits + other.logits) / 2)
    torch.testing.assert_close(both.embedding, (one.embedding + other.embedding) / 2)
    for mean, a, b in zip(both.attributes, one.attributes, other.attributes, strict=True):
        torch.testing.assert_close(mean, (a + b) / 2)
    assert (both.parts is None) == (method == "transfer")
    assert both.parts is None or torch.equal(both.parts, one.parts)  # of the images as they are


def test_attributes_are_learnt_by_the_share_of_an_image_that_is_its_own() -> None:
    model = make()
    known = torch.tensor([[0, 2], [1, -1], [-1, -1], [0, 1]])
    terms = model.losses(batch(attributes=known), 0)
    own, pooled = model.method.losses(batch(attributes=known), 0)
    assert terms.keys() == own.keys() | {"attributes"}
    assert all(torch.equal(terms[name], value) for name, value in own.items())
    assert model.attributes is not None
    assert pooled is not None
    torch.testing.assert_close(terms["attributes"], model.attributes.loss(pooled, known, torch.full((4,), 0.7)))
    assert "attributes" not in model.losses(batch(), 0)  # a batch that knows none


def test_they_are_learnt_in_the_one_step_that_looks_at_whole_images() -> None:
    model = make(method="progressive_jigsaw")
    known = torch.zeros(4, 2, dtype=torch.int64)
    steps = [model.losses(batch(attributes=known), step) for step in range(model.method.steps_per_batch)]
    assert len(steps) > 1
    assert sum("attributes" in terms for terms in steps) == 1


def test_weights_come_back_without_what_is_there_in_training_only() -> None:
    model = make(auxiliary="supcon")
    kept = model.weights()
    auxiliary = {key for key in model.method.state_dict() if ".auxiliaries." in key}
    assert auxiliary
    assert kept.keys() == (model.method.state_dict().keys() - auxiliary) | {
        f"attributes.{key}" for key in ("linear.0.weight", "linear.0.bias", "linear.1.weight", "linear.1.bias")
    }
    other = make(seed=9)
    assert not torch.equal(other(images()).logits, model(images()).logits)
    other.load_weights(kept)
    for one, two in zip(other(images()).attributes, model(images()).attributes, strict=True):
        assert torch.equal(one, two)
    assert torch.equal(other(images()).logits, model(images()).logits)


def test_weights_of_another_model_are_refused() -> None:
    with pytest.raises(RuntimeError, match=r"weights for attributes that the model does not have: linear"):
        make(attributes=()).load_weights(make().weights())
    with pytest.raises(RuntimeError, match="Missing key"):
        make().load_weights(make(attributes=()).weights())
    with pytest.raises(RuntimeError, match="size mismatch"):
        make().load_weights(make(attributes=ATTRIBUTES[::-1]).weights())
