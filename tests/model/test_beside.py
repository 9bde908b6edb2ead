"""Networks beside each other: what they give is what each gives alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from timm.models import group_parameters

from fieldmark.core.errors import RecipeError, WeightsError
from fieldmark.core.recipe import Backbone as Choice
from fieldmark.core.recipe import Recipe, Train
from fieldmark.data.task import Task
from fieldmark.learning.training.optimizer import build_optimizer, early_stages
from fieldmark.model.backbone import Normalization, build_backbone
from fieldmark.model.beside import Beside
from fieldmark.model.build import build_model, has_usual_size
from fieldmark.model.choosing import check_backbone, each_of, knows_nothing, settled_weights, sources_of, weights_name
from fieldmark.model.installed import PACKAGES
from fieldmark.model.license import is_noncommercial, weights_license

BOTH = "resnet10t+mobilenetv3_small_050"


def choice(name: str = BOTH, **more: object) -> Choice:
    return Choice.model_validate({"name": name, "weights": "none"} | more)


def test_each_sees_what_it_would_see_alone() -> None:
    """Pixels are normalised as each network expects them, and its own layers pool its map."""
    torch.manual_seed(0)
    both = build_backbone(choice("resnet10t+tf_efficientnet_lite0"), size=64).eval()
    assert isinstance(both.model, Beside)
    pixels = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    seen = both(both.normalization(pixels))
    alone = []
    for name, own in zip(both.name.split("+"), both.model.models, strict=True):
        one = build_backbone(choice(name), size=64).eval()
        one.model.load_state_dict(own.state_dict())
        alone.append(one(one.normalization(pixels)))
    torch.testing.assert_close(seen.map, torch.cat([one.map for one in alone], 1), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(seen.pooled, torch.cat([one.pooled for one in alone], 1), atol=1e-4, rtol=1e-4)
    assert (both.channels, both.width) == (seen.map.shape[1], seen.pooled.shape[1])


def test_a_bundle_keeps_how_each_sees(tmp_path: Path) -> None:
    """The first network's mean and deviation, which a bundle keeps, are not those of the second."""
    torch.manual_seed(0)
    recipe = Recipe(backbone=choice("resnet10t+tf_efficientnet_lite0"))
    model = build_model(recipe, Task(2)).eval()
    own = model.backbone.normalization
    kept = recipe.model_copy(update={"backbone": recipe.backbone.model_copy(update={"mean": own.mean, "std": own.std})})
    again = build_model(kept, Task(2), load_weights=False).eval()
    again.load_weights(model.weights())
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(again(images).logits, model(images).logits)
    save_file(model.backbone.model.state_dict(), tmp_path / "both.safetensors")
    filled = build_backbone(choice(recipe.backbone.name, weights=str(tmp_path / "both.safetensors")), size=64).eval()
    torch.testing.assert_close(filled(images).pooled, model.backbone(images).pooled)
    with pytest.raises(WeightsError, match="same networks side by side"):
        build_backbone(choice("resnet10t+resnet10t", weights=str(tmp_path / "both.safetensors")), size=64)


def test_a_pooling_with_layers_behind_it() -> None:
    both = build_backbone(choice(), size=64).eval()
    assert both.width == 512 + 1024
    assert both.channels == 512 + 288
    assert both(torch.rand(1, 3, 64, 64)).pooled.shape == (1, both.width)
    assert {name for name, _ in both.without_pooling().named_parameters() if "conv_head" in name} == set()


def test_levels_of_one_stride_are_joined() -> None:
    both = build_backbone(choice(), size=64).eval()
    assert [level.stride for level in both.levels] == [2, 4, 8, 16, 32]
    images = torch.rand(2, 3, 64, 64)
    features = both(images, (2, 3))
    assert [one.shape[1:] for one in features.levels] == [(level.channels, 64 // level.stride, 64 // level.stride)
                                                         for level in both.levels[2:4]]  # fmt: skip
    torch.testing.assert_close(both.level(images, 2), features.levels[0])


def test_stages_and_layers_are_those_of_each() -> None:
    model = build_model(Recipe(backbone=choice()), Task(3))
    frozen = {id(parameter) for parameter in early_stages(model.backbone, 2)}
    for number, one in enumerate(model.backbone.model.models):
        own = group_parameters(one, one.group_matcher(coarse=True), reverse=True)
        held = {name for name, parameter in one.named_parameters() if id(parameter) in frozen}
        assert held == {name for name, stage in own.items() if stage < 2}, number
    peaks = [group["peak"] for group in build_optimizer(model, Train(lr=1e-3, layer_decay=0.5)).param_groups]
    assert max(peaks[:-2]) == pytest.approx(1e-3)
    assert len(set(peaks[:-2])) > 4


def test_what_cannot_stand_beside_each_other() -> None:
    with pytest.raises(RecipeError, match="not convolutional"):
        build_backbone(choice("resnet10t+vit_tiny_patch16_224"), size=64)
    coarse, fine = (timm.create_model("resnet10t", num_classes=0, output_stride=stride) for stride in (32, 16))
    both = Beside([coarse, fine], [Normalization((0.5,) * 3, (0.5,) * 3)] * 2, name="coarse+fine")
    assert not both.feature_info
    with pytest.raises(RecipeError, match="'coarse\\+fine' see different grids: 2 × 2 and 4 × 4 cells"):
        both.forward_features(torch.rand(1, 3, 64, 64))
    with pytest.raises(RecipeError, match="no backbone 'resnet10x'"):
        check_backbone(choice("resnet10t+resnet10x"))


def test_weights_of_several() -> None:
    several = choice("tf_efficientnet_lite0+tf_efficientnet_lite1", weights="auto")
    settled = settled_weights(several)
    assert settled.weights == "installed"
    assert weights_license(settled) == "apache-2.0"
    for name in settled.name.split("+"):
        assert PACKAGES[name].requirement in weights_name(settled)
    mixed = settled_weights(choice("tf_efficientnet_lite0+resnet18", weights="auto"))
    assert [one.weights for one in each_of(mixed)] == ["installed", "hub"]
    assert sources_of(mixed) == {"installed", "hub"}
    assert weights_name(mixed).endswith(", hub")
    each = settled_weights(choice("tf_efficientnet_lite0+resnet18+resnet10t", weights="auto+auto+none"))
    assert each.weights == "installed+hub+none"
    with pytest.raises(WeightsError, match="No package has the weights of 'resnet18'"):
        check_backbone(choice("tf_efficientnet_lite0+resnet18", weights="installed"))
    with pytest.raises(RecipeError, match="says it of 3 networks"):
        each_of(choice("resnet10t+resnet18", weights="none+none+none"))
    both = Recipe(backbone=choice("resnet10t+resnet18"))
    assert not has_usual_size(both), "the size of many large networks is counted before they are made"


def test_the_strictest_licence_counts() -> None:
    found = weights_license(choice("resnet18.a1_in1k+convnextv2_atto.fcmae", weights="hub"))
    assert found == "apache-2.0 and cc-by-nc-4.0"
    assert is_noncommercial(found)
    assert is_noncommercial("unknown and cc-by-nc-4.0")
    assert not is_noncommercial("unknown and apache-2.0")
    assert weights_license(choice("resnet18.a1_in1k+resnet10t", weights="hub+none")) == "apache-2.0"
    assert weights_license(choice("resnet18+resnet10t", weights="none+none")) == "none"


@pytest.mark.parametrize(
    ("weights", "nothing"), [("none", True), ("none+none", True), ("none+installed", False), ("auto", False)]
)
def test_which_start_knows_nothing(weights: str, nothing: bool) -> None:
    assert knows_nothing(choice("tf_efficientnet_lite0+tf_efficientnet_lite1", weights=weights)) is nothing
