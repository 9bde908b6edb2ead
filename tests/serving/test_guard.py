"""Whose address is the own machine's, and by which names a service may be asked for."""

from __future__ import annotations

import pytest

from fieldmark.serving.guard import LOOPBACK, hosts_of, is_loopback
from fieldmark.serving.guard import _name as name_of


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("localhost", "localhost"),
        ("LocalHost:8000", "localhost"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[::1]:8000", "[::1]"),
        ("[::1]", "[::1]"),
        ("localhost:", "localhost"),
        ("localhost:evil", "localhost:evil"),
        ("evil.example:80@localhost", "evil.example:80@localhost"),
        ("", ""),
    ],
)
def test_a_host_without_its_port(host: str, name: str) -> None:
    assert name_of(host) == name


def test_what_is_the_loopback() -> None:
    assert all(is_loopback(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not any(
        is_loopback(host) for host in ("0.0.0.0", "::", "192.168.0.2", "birds.example.org", "", "127.evil.example")
    )


def test_names() -> None:
    assert hosts_of((), loopback=True) == LOOPBACK
    assert hosts_of((), loopback=False) is None
    assert hosts_of(["Birds.example.org"], loopback=False) == LOOPBACK | {"birds.example.org"}
