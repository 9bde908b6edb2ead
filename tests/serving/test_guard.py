"""Whose address is the own machine's, by which names a service may be asked for, and which pages may use it."""

from __future__ import annotations

import asyncio
from urllib.parse import urlsplit

import pytest
from starlette.responses import PlainTextResponse
from starlette.types import Message

from fieldmark.serving.guard import LOOPBACK, Guard, hosts_of, is_loopback
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


def status(host: str, origin: str, *, names: tuple[str, ...], listens: str = "127.0.0.1") -> int:
    """What a page gets that sends a picture."""
    guard = Guard(PlainTextResponse(), token=None, hosts=hosts_of(names, host=listens), most_requests=1)
    told = list[Message]()

    async def send(message: Message) -> None:
        told.append(message)

    async def receive() -> Message:
        raise AssertionError

    headers = [(b"host", host.encode()), (b"origin", origin.encode())]
    asyncio.run(guard({"type": "http", "method": "POST", "path": "/v1/predict", "headers": headers}, receive, send))
    return int(told[0]["status"])


@pytest.mark.parametrize("host", ["127.0.0.1:8000", "localhost:8000", "birds.example.org", "birds.example.org:8443"])
@pytest.mark.parametrize("port", ["", ":8443"])
def test_a_page_of_the_services_own_name_may_ask_through_a_web_server(host: str, port: str) -> None:
    """Which says `Host` as it likes."""
    assert status(host, f"https://Birds.example.org{port}", names=("birds.example.org",)) == 200


@pytest.mark.parametrize("names", [(), ("birds.example.org",), ("localhost",)])
@pytest.mark.parametrize(
    "origin",
    [
        "http://localhost:9000",
        "http://127.0.0.1:9000",
        "http://127.0.0.2:8000",
        "http://[::1]:8000",
        "http://evil.example",
        "https://birds.example.org.evil.example",
        "https://evil.example/birds.example.org",
        "null",
        "",
    ],
)
def test_pages_of_others_may_not(names: tuple[str, ...], origin: str) -> None:
    assert status("127.0.0.1:8000", origin, names=names, listens="127.0.0.2") == 403


def test_a_name_that_nobody_gave_is_no_site() -> None:
    assert status("127.0.0.1:8000", "https://birds.example.org", names=()) == 403
