"""Official layouts to read, and nothing outside: no network, a cache and a working folder of its own."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from support.official import MAKERS, OTHERS, publish


@pytest.fixture
def lay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`lay("flowers102")`: its official files below `tmp_path / "root"`; their folder."""

    def made(name: str) -> Path:
        (tmp_path / "root").mkdir(exist_ok=True)
        folder = (MAKERS | OTHERS)[name](tmp_path / "root")
        if name == "cifar10":
            publish(monkeypatch, folder)
        return folder

    return made


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No network, a cache and a working folder of its own."""

    def refuse(*args: object, **options: object) -> None:
        raise OSError("no network in tests")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
