"""Whose address is the own machine's, and by which names a service may be asked for."""

from __future__ import annotations

from urllib.parse import urlsplit

import pytest

from fieldmark.serving.guard import LOOPBACK, hosts_of, is_loopback
from fieldmark.serving.guard import _name as name_of
from fieldmark.serving.server import address_of, bound


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
    assert hosts_of((), host="localhost") == LOOPBACK
    assert hosts_of((), host="0.0.0.0") is None
    assert hosts_of(["Birds.example.org"], host="0.0.0.0") == LOOPBACK | {"birds.example.org"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.0.0.2", "::1", "0.0.0.0", "::", "192.168.0.2"])
@pytest.mark.parametrize("names", [(), ("Birds.example.org", "birds.lan")])
def test_a_service_answers_at_the_address_that_it_prints(host: str, names: tuple[str, ...]) -> None:
    with bound("127.0.0.1", 0) as listening:
        address = address_of(listening, host, names)
    allowed = hosts_of(names, host=host)
    assert allowed is None or name_of(urlsplit(address).netloc) in allowed
