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

from fieldmark.model.hub import asked_once


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
