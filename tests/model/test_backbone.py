"""Any timm model as a backbone, with weights of its own or none."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torchvision.transforms.v2 import functional as TF

from fieldmark.core.errors import FieldmarkError, RecipeError, WeightsError
from fieldmark.core.recipe import Backbone as Choice
from fieldmark.core.recipe import Images, Recipe
from fieldmark.data.task import Task
from fieldmark.learning.training.optimizer import early_stages, set_learning
from fieldmark.model.backbone import Backbone, Normalization, build_backbone
from fieldmark.model.build import build_model
from fieldmark.model.choosing import check_backbone
from fieldmark.model.feature_map import FeatureMap
from support.models import predictor_of

VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}
SWIN = {"embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2)}


def build(name: str, size: int = 64, weights: Path | str = "none", **options: Any) -> Backbone:
    return build_backbone(Choice(name=name, weights=str(weights), options=options), size=size).eval()


def saved(path: Path, name: str, change: Callable[[Tensor], Tensor] = torch.clone, **options: Any) -> dict[str, Tensor]:
    """Random weights of a timm model with its classifier, as a file; also returned."""
    weights = {key: change(value) for key, value in timm.create_model(name, **options).state_dict().items()}
    save_file(weights, path)
    return weights


def message(kind: type[FieldmarkError], call: Callable[[], object]) -> str:
    """The error's text, one line."""
    with pytest.raises(kind) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What it answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "size", "options", "shape", "width"),
    [
        ("test_resnet", 64, {}, (96, 2, 2), 96),
        ("test_resnet", 96, {}, (96, 3, 3), 96),
        ("mobilenetv3_small_050", 64, {}, (288, 2, 2), 1024),  # its head widens what is pooled
        ("vit_tiny_patch16_224", 64, VIT, (48, 4, 4), 48),
        ("vit_tiny_patch16_224", 96, VIT, (48, 6, 6), 48),
        ("swin_tiny_patch4_window7_224", 64, SWIN, (48, 8, 8), 48),  # timm answers (B, h, w, C)
    ],
)
def test_shapes(name: str, size: int, options: dict[str, Any], shape: tuple[int, ...], width: int) -> None:
    backbone = build(name, size, **options)
    features = backbone(torch.randn(2, 3, size, size))
    assert features.map.shape == (2, *shape)
    assert features.pooled.shape == (2, width)
    assert backbone.width == width
    assert repr(backbone).startswith(f"Backbone(\n  {name}, width={width}")


@pytest.mark.parametrize(
    ("name", "options"),
    [("test_resnet", {}), ("vit_tiny_patch16_224", VIT | {"global_pool": "avg"}), ("test_byobnet", {})],
)
def test_the_map_lies_as_the_picture_does(name: str, options: dict[str, Any]) -> None:
    """What is changed in one corner of the picture changes that corner of the map most."""
    backbone = build(name, 128, **options)
    images = torch.zeros(1, 3, 128, 128)
    images[:, :, 96:, :32] = 5.0  # lower left
    change = (backbone(images).map - backbone(torch.zeros_like(images)).map).abs().sum(1)[0]
    row, column = divmod(int(change.argmax()), change.shape[1])
    assert row >= change.shape[0] // 2
    assert column < change.shape[1] // 2


@pytest.mark.parametrize(
    ("name", "options", "pooled"),
    [
        ("test_resnet", {}, lambda features: features.mean((2, 3))),
        ("vit_tiny_patch16_224", VIT, lambda features: features[:, 0]),
        ("swin_tiny_patch4_window7_224", SWIN, lambda features: features.mean((1, 2))),
    ],
)
def test_the_pooled_embedding_is_timms(name: str, options: dict[str, Any], pooled: Callable[[Tensor], Tensor]) -> None:
    backbone = build(name, **options)
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(backbone(images).pooled, pooled(backbone.model.forward_features(images)))
    torch.testing.assert_close(backbone(images).pooled, backbone.model(images))


def test_some_models_are_bound_to_their_size() -> None:
    assert build("test_resnet").fixed_size is None
    assert build("vit_tiny_patch16_224", **VIT).fixed_size is None
    assert build("swin_tiny_patch4_window7_224", 96, **SWIN).fixed_size == 96
    vit = build("vit_tiny_patch16_224", 64, **VIT)
    assert vit(torch.zeros(1, 3, 96, 96)).map.shape == (1, 48, 6, 6)  # others take any


@pytest.mark.parametrize("mean", [None, (0.1, 0.2, 0.3)])
def test_normalization_is_torchvisions(mean: tuple[float, float, float] | None) -> None:
    choice = Choice(name="test_resnet", weights="none", mean=mean, std=(0.2, 0.3, 0.4))
    normalization = build_backbone(choice, size=64).normalization
    assert normalization.mean == (mean or timm.get_pretrained_cfg("test_resnet").mean)
    images = torch.randint(0, 256, (2, 3, 8, 9), dtype=torch.uint8)
    reference = TF.normalize(TF.to_dtype(images, torch.float32, scale=True), normalization.mean, [0.2, 0.3, 0.4])
    answer = normalization(images)
    torch.testing.assert_close(answer, reference)
    assert answer.is_contiguous(memory_format=torch.channels_last)


def test_normalization_by_example() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 3, 1, 1)
    answer = Normalization((0.0, 0.5, 0.5), (1.0, 0.1, 0.25))(images)
    torch.testing.assert_close(answer.flatten(), torch.tensor([0.0, -3.0, 2.0]))


# Weights from a file --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "options"), [("test_resnet", {}), ("vit_tiny_patch16_224", VIT)])
@pytest.mark.parametrize("num_classes", [1000, 7, 0])
def test_weights_with_any_classifier_or_none(
    tmp_path: Path, name: str, options: dict[str, Any], num_classes: int
) -> None:
    path = tmp_path / "w.safetensors"
    size = {"img_size": 64} if "vit" in name else {}
    weights = saved(path, name, num_classes=num_classes, **size, **options)
    own = build(name, 64, path, **options).model.state_dict()
    assert len(own) == len(weights) - (2 if num_classes else 0)
    assert all(torch.equal(value, weights[key]) for key, value in own.items())


def test_weights_of_half_precision(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    weights = saved(path, "test_resnet", lambda t: t.half() if t.is_floating_point() else t)
    own = build("test_resnet", 64, path).model.state_dict()
    assert {value.dtype for value in own.values()} == {torch.float32, torch.int64}
    assert all(torch.equal(value, weights[key].to(value.dtype)) for key, value in own.items())


@pytest.mark.filterwarnings("ignore::UserWarning:timm")  # of its interpolation
@pytest.mark.parametrize(
    ("name", "options", "at"),
    [("vit_tiny_patch16_224", VIT, {}), ("swin_tiny_patch4_window7_224", SWIN, {"img_size": 32})],
)
def test_a_transformers_weights_serve_at_other_sizes(
    tmp_path: Path, name: str, options: dict[str, Any], at: dict[str, int]
) -> None:
    weights = saved(tmp_path / "w.safetensors", name, **at, **options)
    backbone = build(name, 96, tmp_path / "w.safetensors", **options)
    other = [key for key, value in backbone.model.state_dict().items() if value.shape != weights[key].shape]
    assert other
    assert all("pos" in key for key in other)
    assert all(torch.equal(v, weights[k]) for k, v in backbone.model.state_dict().items() if k not in other)
    assert torch.isfinite(backbone(torch.randn(1, 3, 96, 96)).pooled).all()


def test_the_grid_of_positions_is_resampled_not_drawn_anew(tmp_path: Path) -> None:
    weights = saved(tmp_path / "w.safetensors", "vit_tiny_patch16_224", **VIT)
    flat = {key: torch.full_like(value, 0.7) if key == "pos_embed" else value for key, value in weights.items()}
    save_file(flat, tmp_path / "w.safetensors")
    positions = build("vit_tiny_patch16_224", 96, tmp_path / "w.safetensors", **VIT).model.pos_embed
    assert positions.shape == (1, 1 + 6 * 6, 48)
    torch.testing.assert_close(positions, torch.full_like(positions, 0.7))


@pytest.mark.parametrize(("name", "options"), [("test_resnet", {}), ("vit_tiny_patch16_224", VIT)])
def test_the_weights_of_a_bundle(tmp_path: Path, name: str, options: dict[str, Any]) -> None:
    choice = Choice(name=name, weights="none", options=options)
    recipe = Recipe(images=Images(size=64), backbone=choice)
    model = build_model(recipe, Task(5))
    predictor_of(model, tuple("abcde"), recipe).save(tmp_path)
    own = build(name, 96, tmp_path / "model.safetensors", **options).model.state_dict()
    trained = model.backbone.model.state_dict()
    assert own.keys() == trained.keys()
    assert all(torch.equal(own[key], value) for key, value in trained.items() if key != "pos_embed")


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [
        ("test_byobnet", "test_resnet", r"of 90 tensors, \d+ missing \(such as bn1\.bias\), \d+ unknown \(such as "),
        ("test_resnet", "vit_tiny_patch16_224", r" missing \(such as .*, \d+ unknown \(such as bn1\.bias\)"),
    ],
)
def test_weights_of_another_architecture(tmp_path: Path, there: str, asked: str, found: str) -> None:
    path = tmp_path / "w.safetensors"
    saved(path, there)
    with pytest.raises(WeightsError, match=rf"^{path} does not hold the weights of '{asked}': .*{found}") as caught:
        build(asked, 64, path)
    assert caught.value.hint == "Name the architecture of these weights with --backbone NAME."
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("options", [{"embed_dim": 96}, {"depth": 3}, {"patch_size": 8}])
def test_weights_of_another_width_depth_or_patch(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "w.safetensors"
    saved(path, "vit_tiny_patch16_224", **VIT)
    text = message(WeightsError, lambda: build("vit_tiny_patch16_224", 224, path, **VIT | options))
    assert f"{path} does not hold the weights of 'vit_tiny_patch16_224'" in text


def test_a_file_that_is_not_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"a": torch.ones(1)}, path)
    text = message(WeightsError, lambda: build("test_resnet", 64, path))
    assert text.startswith(f"{path} is not a safetensors file (")
    assert text.endswith("convert it with safetensors.torch.save_file.")


def test_a_file_that_is_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    saved(path, "test_resnet")
    path.write_bytes(path.read_bytes()[:1000])
    assert f"{path} is not a safetensors file" in message(WeightsError, lambda: build("test_resnet", 64, path))


@pytest.mark.parametrize("call", [check_backbone, lambda choice: build_backbone(choice, size=64)])
def test_names_that_do_not_exist(tmp_path: Path, call: Callable[[Choice], object]) -> None:
    absent = tmp_path / "absent.safetensors"
    assert message(WeightsError, lambda: call(Choice(name="test_resnet", weights=str(absent)))) == (
        f"The weights file {absent} does not exist. Give a .safetensors file, 'auto' for installed or else "
        "downloaded weights, or 'none' for random ones."
    )
    assert message(WeightsError, lambda: call(Choice(name="test_resnet", weights=str(tmp_path)))).startswith(
        f"The weights file {tmp_path} does not exist."
    )
    assert message(RecipeError, lambda: call(Choice(name="mobilnetv3_small_050", weights="none"))) == (
        "There is no backbone 'mobilnetv3_small_050' in timm. Did you mean 'mobilenetv3_small_050'?"
    )


@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"])
def test_an_option_that_the_model_does_not_have(name: str) -> None:
    lacking = "depths" if name.startswith("vit") else "depth"
    text = message(RecipeError, lambda: build(name, **{lacking: (2,) if lacking == "depths" else 2}))
    assert text.startswith(f"'{name}' does not accept backbone.options {{'{lacking}': ")
    assert f"'{lacking}'" in text.partition(": ")[2]


def test_a_bundle_names_no_weights_and_needs_none(tmp_path: Path) -> None:
    choice = Choice(name="test_resnet", weights="none")
    loaded = build_backbone(choice, size=64, load_weights=False)
    assert loaded.width == 96


def test_the_weights_that_come_along() -> None:
    backbone = build("test_resnet", 64, "fieldguide")
    random = build("test_resnet", 64)
    own, other = backbone.model.state_dict(), random.model.state_dict()
    assert not torch.equal(own["conv1.0.weight"], other["conv1.0.weight"])
    text = message(WeightsError, lambda: build("mobilenetv3_small_050", 64, "fieldguide"))
    assert "does not hold the weights of 'mobilenetv3_small_050'" in text


# Weights from the hub -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [OSError("offline"), ConnectionError("refused"), RuntimeError("Invalid\nhash")])
@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny_patch16_224"])
def test_a_download_that_fails(monkeypatch: pytest.MonkeyPatch, name: str, error: Exception) -> None:
    def offline(*arguments: object, pretrained: bool, **options: object) -> None:
        assert pretrained
        raise error

    monkeypatch.setattr(timm, "create_model", offline)
    text = message(WeightsError, lambda: build(name, 64, "hub"))
    assert text.startswith(
        f"The weights of {name!r} could not be downloaded ({type(error).__name__}). Check the network"
    )
    repository = timm.get_pretrained_cfg(name).hf_hub_id
    assert f"get https://huggingface.co/{repository}/resolve/main/model.safetensors elsewhere" in text
    assert f"the folder models--{repository.replace('/', '--')} from another machine's cache into " in text


def test_attempts_that_fail_are_not_reported_one_by_one(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the hub's client, which tries again and again."""
    logger, level = logging.getLogger("huggingface_hub.utils._http"), logging.getLogger("huggingface_hub").level

    def offline(*arguments: object, **options: object) -> None:
        logger.warning("Retrying in 8s [Retry 4/5].")
        raise ConnectionError

    monkeypatch.setattr(timm, "create_model", offline)
    message(WeightsError, lambda: build("test_resnet", 64, "hub"))
    assert capfd.readouterr().err == ""
    assert logging.getLogger("huggingface_hub").level == level


def test_the_hub_is_asked_for_the_named_model(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, bool]] = []
    create = timm.create_model

    def spy(name: str, *, pretrained: bool, **options: Any) -> object:
        asked.append((name, pretrained))
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", spy)
    build("test_resnet.r160_in1k", 64, "hub")
    build("test_resnet", 64, "none")
    build_backbone(Choice(name="test_resnet", weights="hub"), size=64, load_weights=False)
    assert asked == [("test_resnet.r160_in1k", True), ("test_resnet", False), ("test_resnet", False)]


def test_real_weights(imagenet_weights: Path) -> None:
    backbone = build("mobilenetv2_100", 64, imagenet_weights)
    weights = load_file(imagenet_weights)
    assert torch.equal(backbone.model.conv_stem.weight, weights["conv_stem.weight"].float())
    assert backbone(torch.zeros(1, 3, 64, 64)).pooled.shape == (1, 1280)


# The families ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "size"),
    [
        ("resnet18", {}, 64),
        ("efficientnet_b0", {}, 64),
        ("convnext_atto", {}, 64),
        ("vit_small_patch14_dinov2", {"depth": 3, "embed_dim": 48, "num_heads": 3}, 56),
    ],
)
def test_each_family_has_maps_and_stages_that_freeze(name: str, options: dict[str, Any], size: int) -> None:
    recipe = Recipe(images=Images(size=size), backbone=Choice(name=name, weights="none", options=options))
    model = build_model(recipe, Task(3))
    to_map = FeatureMap(model.backbone, stride=16)
    features = model.backbone(torch.randn(2, 3, size, size), to_map.levels)
    assert to_map(features).shape == (2, to_map.channels, 4, 4)
    assert features.pooled.shape == (2, model.backbone.width)
    early = early_stages(model.backbone, 2)
    set_learning(model, early=early, head_only=False)
    model(torch.randn(2, 3, size, size)).logits.sum().backward()
    with_gradient = {key for key, p in model.backbone.model.named_parameters() if p.grad is not None}
    kept = {key for key, p in model.backbone.model.named_parameters() if any(p is one for one in early)}
    assert kept
    assert not with_gradient & kept
    assert with_gradient | kept == {key for key, _ in model.backbone.model.named_parameters()}
