"""What a service meets on any network: it refuses with the right status and one line, and goes on."""

from __future__ import annotations

import io
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from support.services import Visitor, served


@pytest.fixture(autouse=True)
def _goes_on(visitor: Visitor, photograph: Path) -> Iterator[None]:
    """Whatever a test does, the next picture is answered, and nothing is held or waiting."""
    yield
    assert visitor.ask("/v1/predict", photograph.read_bytes()).status == 200
    assert visitor.ask("/health").json["waiting"] == 0


def png(width: int, height: int, pixels: bytes = b"") -> bytes:
    """A PNG whose header says this size, with compressed `pixels`; by default there are none."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", pixels or zlib.compress(b""))
        + chunk(b"IEND", b"")
    )


def saved(kind: str, **options: object) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (64, 64), (40, 160, 110)).save(data, kind, **options)
    return data.getvalue()


SCRIPT = b"<script>alert(1)</script>"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"GIF89a", 415),
        (SCRIPT, 415),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", 415),
        (b"%PDF-1.7", 415),
        (b"PK\x03\x04" + bytes(100), 415),
        (b"\0\0\0\x0cjP  \r\n\x87\n", 415),
        (png(3000, 1001), 413),
        (png(60_000, 60_000), 413),
        (png(2**31 - 1, 2**31 - 1), 413),
        (saved("PNG")[:80], 422),
        (saved("JPEG")[:400], 422),
        (saved("TIFF")[:100], 422),
        (bytes(2**20 + 1), 413),
    ],
    ids=lambda value: f"{value[:12]!r} {len(value)}" if isinstance(value, bytes) else None,
)
def test_no_pictures(visitor: Visitor, body: bytes, status: int) -> None:
    for path in ("/v1/predict", "/v1/explain", "/v1/search", "/v1/wrong?label=plum"):
        reply = visitor.ask(path, body)
        assert reply.status == status, reply.body
        assert reply.complaint


def test_polyglots_are_pictures_and_nothing_else(visitor: Visitor) -> None:
    """What is shown is drawn anew, so nothing that hides beside the pixels comes back."""
    exif = Image.Exif()
    exif[0x010E] = SCRIPT.decode()
    for body in (saved("PNG") + SCRIPT, saved("JPEG", exif=exif, comment=SCRIPT), saved("GIF") + b"PK\x03\x04"):
        for path in ("/v1/predict", "/v1/explain", "/v1/search"):
            reply = visitor.ask(path, body, content_type="image/png")
            assert reply.status == 200
            assert reply.headers["content-type"] == "application/json"
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert b"script" not in reply.body


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_are_one_frame(visitor: Visitor, kind: str) -> None:
    """Of 300 frames, and also where those after the first are damaged."""
    frames = [Image.new("RGB", (64, 64), (n % 256, 100, 0)) for n in range(300)]
    one, data = io.BytesIO(), io.BytesIO()
    exact = {"TIFF": {"compression": "tiff_lzw"}, "WEBP": {"lossless": True}}.get(kind, {})
    frames[0].save(one, kind, **exact)
    frames[0].save(data, kind, save_all=True, append_images=frames[1:], **exact)
    alone = visitor.ask("/v1/predict", one.getvalue())
    whole = visitor.ask("/v1/predict", data.getvalue())
    assert (alone.status, whole.status) == (200, 200)
    assert [candidate["label"] for candidate in whole.json["candidates"]] == [
        candidate["label"] for candidate in alone.json["candidates"]
    ]
    damaged = bytearray(data.getvalue())
    damaged[len(damaged) // 2 :] = bytes(len(damaged) - len(damaged) // 2)
    assert visitor.ask("/v1/predict", bytes(damaged)).status in (200, 422)


def test_a_flood_of_hostile_pictures_leaves_room_for_others(visitor: Visitor, photograph: Path) -> None:
    """They are refused beside pictures that are answered, in the same batches, each with the status of its own."""
    large = zlib.compress(bytes(3000 * 999 * 3))
    hostile = [(png(60_000, 60_000), 413), (saved("PNG")[:80], 422), (SCRIPT, 415), (png(2000, 1000), 422)]
    hostile += [(png(3000, 999, large), 422)]
    mixed = [pair for bad in hostile * 6 for pair in (bad, (photograph.read_bytes(), 200))]
    with ThreadPoolExecutor(12) as many:
        found = list(many.map(lambda pair: visitor.ask("/v1/predict", pair[0]), mixed))
    assert [reply.status for reply in found] == [status for _, status in mixed]
    expected = visitor.ask("/v1/predict", photograph.read_bytes()).json["said"]
    assert {reply.json["said"] for reply in found if reply.status == 200} == {expected}


@pytest.mark.parametrize("kind", ["text/html", "application/json", "multipart/form-data; boundary=x", "x" * 500])
def test_bodies_of_other_types(visitor: Visitor, photograph: Path, kind: str) -> None:
    reply = visitor.ask("/v1/predict", photograph.read_bytes(), content_type=kind)
    assert reply.status == 415
    assert len(reply.complaint) < 200
    assert visitor.ask("/v1/predict", photograph.read_bytes(), content_encoding="gzip").status == 415


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/v1/classes/../../etc/passwd/pictures",
        "/v1/classes/%2e%2e%2f%2e%2e%2fetc%2fpasswd/pictures",
        "/v1/classes/-1/pictures",
        "/v1/classes/99999999999999999999999/pictures",
        "/v1/classes/1e3/pictures",
        "/v1/classes/\\..\\..\\x/pictures",
        "/v1/predict/%00",
        "//evil.example/v1/classes",
        "/docs",
        "/redoc",
        "/corrections/corrections.csv",
    ],
)
def test_no_path_leads_to_a_file(visitor: Visitor, path: str) -> None:
    reply = visitor.ask(path)
    assert reply.status in (404, 405, 422)
    assert reply.complaint
    assert b"root:" not in reply.body


def test_a_name_is_never_a_path(visitor: Visitor, photograph: Path) -> None:
    for name in ("../../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "http://evil.example/x.jpg"):
        for path in (f"/v1/explain?versus={name}", f"/v1/predict?among={name}", f"/v1/predict?path={name}&among=x"):
            reply = visitor.ask(path, photograph.read_bytes())
            assert reply.status == 422
            assert b"root:" not in reply.body
    kept = visitor.ask("/v1/wrong?label=../../../x", photograph.read_bytes())
    folder = visitor.service.corrections.folder  # type: ignore[union-attr]  # this one keeps them
    assert kept.json["label"] == "../../../x"
    assert {path.suffix for path in (folder / "pictures").iterdir()} == {".png"}


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
        ({"host": ""}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"host": "LOCALHOST:1"}, 200),
    ],
)
def test_pages_of_other_sites(visitor: Visitor, photograph: Path, headers: dict[str, str], status: int) -> None:
    reply = visitor.ask("/v1/predict", photograph.read_bytes(), **headers)
    assert reply.status == status
    assert "access-control-allow-origin" not in reply.headers
    assert visitor.ask("/v1/predict", method="OPTIONS", origin="http://evil.example").status in (403, 405)


def test_a_probe_need_not_know_a_name(visitor: Visitor) -> None:
    for path in ("/health", "/v2/health/live", "/v2/health/ready"):
        assert visitor.ask(path, host="10.1.2.3:8000").status == 200
    for path in ("/", "/api", "/metrics", "/v1/classes", "/v2", "/health/"):
        assert visitor.ask(path, host="10.1.2.3:8000").status == 421


def test_the_own_page_may_ask(visitor: Visitor, photograph: Path) -> None:
    own = visitor.address.rstrip("/")
    assert visitor.ask("/v1/predict", photograph.read_bytes(), origin=own).status == 200


def test_a_token_opens_what_is_about_the_run(birds: Path, photograph: Path) -> None:
    with served(birds, token="correct horse battery") as visitor:
        for path in ("/v1/classes", "/metrics", "/v1/classes/0/pictures", "/unknown"):
            for wrong in ({}, {"authorization": "Bearer wrong"}, {"authorization": "Basic correct horse battery"}):
                reply = visitor.ask(path, **wrong)
                assert reply.status == 401
                assert reply.headers["www-authenticate"] == "Bearer"
                assert reply.complaint
        assert visitor.ask("/v1/predict", photograph.read_bytes()).status == 401
        assert visitor.ask("/v1/predict", photograph.read_bytes(), authorization="Bearer ü").status == 401
        good = {"authorization": "bearer correct horse battery"}
        assert visitor.ask("/v1/predict", photograph.read_bytes(), **good).status == 200
        assert visitor.ask("/health").status == 200
        assert b"amber" not in visitor.ask("/").body
        assert b"amber" not in visitor.ask("/openapi.json").body


# ---- on the wire


def talk(visitor: Visitor, *parts: bytes, pause: float = 0.0, seconds: float = 10.0) -> bytes:
    """Send parts with pauses, and read until the service has no more to say."""
    with socket.create_connection(("127.0.0.1", visitor.port), timeout=seconds) as wire:
        told = b""
        try:
            for part in parts:
                wire.sendall(part)
                time.sleep(pause)
            if not pause:
                wire.shutdown(socket.SHUT_WR)
            while part := wire.recv(65536):
                told += part
        except (ConnectionError, TimeoutError):
            pass
        return told


def head(*lines: str) -> bytes:
    return "\r\n".join(("POST /v1/predict HTTP/1.1", "Host: localhost", *lines, "", "")).encode()


def test_a_body_of_300_mb_is_refused_and_not_read(visitor: Visitor) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(300):
            yield bytes(2**20)

    begun = time.monotonic()
    said = visitor.ask("/v1/predict", endless(), content_length=str(300 * 2**20))
    chunked = visitor.ask("/v1/predict", endless())
    assert (said.status, chunked.status) == (413, 413)
    assert said.complaint == "The picture is larger than 1 MB"
    assert time.monotonic() - begun < 20


def test_slow_bodies_end(visitor: Visitor) -> None:
    begun = time.monotonic()
    told = talk(visitor, head("Content-Length: 1000"), b"x", b"x", b"x", pause=0.3)
    assert told.startswith(b"HTTP/1.1 408")
    assert time.monotonic() - begun < 5


def test_slow_headers_end(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fieldmark.serving.server._SILENCE", 0.5)
    begun = time.monotonic()
    assert talk(visitor, b"POST /v1/pre", b"d", b"i", b"c", b"t", b" ", b"H", pause=0.15) == b""
    assert 0.4 < time.monotonic() - begun < 5


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\r\n\r\n",
        head("Content-Length: -1"),
        head("Content-Length: 5", "Transfer-Encoding: chunked") + b"zzz\r\n",
        head("Transfer-Encoding: chunked") + b"ffffffffffffffffffff\r\n",
        head("X: " + "y" * 100_000),
        head("Upgrade: websocket", "Connection: Upgrade"),
    ],
)
def test_what_is_no_http(visitor: Visitor, request_: bytes) -> None:
    told = talk(visitor, request_)
    assert told == b"" or told.split()[1][:1] == b"4", told[:100]


def test_uploads_that_are_given_up(visitor: Visitor) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", visitor.port)) as wire:
            wire.sendall(head("Content-Length: 100000") + bytes(50_000))
    until = time.monotonic() + 5
    while b"fieldmark_held_bytes 0.0" not in visitor.ask("/metrics").body:
        assert time.monotonic() < until
        time.sleep(0.02)
