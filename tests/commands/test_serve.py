"""`fieldmark serve` as a process: it says where it is, keeps going under load, and stops when it is told to."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from fieldmark.commands.export import export
from support.commands import Cli


class Process:
    """A service of its own."""

    def __init__(self, run: Path, *options: str) -> None:
        command = [sys.executable, "-m", "fieldmark", "serve", str(run), "--port", "0", *options]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self.child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
        assert self.child.stderr is not None
        self.said = ""
        while "Stop with" not in self.said:
            line = self.child.stderr.readline()
            assert line, self.said
            self.said += line
        (port,) = re.findall(r"http://.*:(\d+)/", self.said)
        self.port = int(port)

    def ask(self, path: str, body: bytes | None = None, **headers: str) -> tuple[int, dict[str, str]]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET" if body is None else "POST", path, body, headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status, dict(response.getheaders())

    def stop(self) -> tuple[int, str]:
        """As Ctrl-C does: the exit status, and what was said since the start."""
        self.child.send_signal(signal.SIGINT)
        _, rest = self.child.communicate(timeout=30)
        return self.child.returncode, rest


@contextmanager
def serving(run: Path, *options: str) -> Iterator[Process]:
    process = Process(run, *options)
    try:
        yield process
    finally:
        process.child.kill()
        process.child.communicate()


@pytest.fixture(scope="module")
def birds(_trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that answers without torch, which takes seconds to load."""
    run = shutil.copytree(_trained, tmp_path_factory.mktemp("served") / "run")
    export(run)
    return run


@pytest.fixture
def photograph(pictures: Path) -> bytes:
    return (pictures / "plum" / "02.png").read_bytes()


def test_overload_is_refused_and_passes(birds: Path, photograph: bytes) -> None:
    with serving(birds, "--queue", "2") as process:
        with ThreadPoolExecutor(40) as many:
            answers = list(many.map(lambda _: process.ask("/v1/predict", photograph), range(400)))
        counts = Counter(status for status, _ in answers)
        assert set(counts) <= {200, 429, 503}
        assert counts[200] >= 10
        assert counts[429] >= 10
        assert all(int(headers["retry-after"]) >= 1 for status, headers in answers if status != 200)
        assert process.ask("/v1/predict", photograph)[0] == 200
        assert process.stop() == (0, "")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@pytest.mark.skipif(sys.platform == "win32", reason="a signal ends a process there")
def test_what_was_begun_is_answered_before_the_end(birds: Path, photograph: bytes) -> None:
    with (
        serving(birds) as process,
        closing(http.client.HTTPConnection("127.0.0.1", process.port, timeout=30)) as begun,
    ):
        begun.putrequest("POST", "/v1/predict")
        begun.putheader("Content-Length", str(len(photograph)))
        begun.endheaders(photograph[:100])
        assert process.ask("/health")[0] == 200
        process.child.send_signal(signal.SIGTERM)
        until = time.monotonic() + 10
        while _listens(process.port):  # until nobody new is let in
            assert time.monotonic() < until
            time.sleep(0.02)
        begun.send(photograph[100:])
        with begun.getresponse() as response:
            assert response.status == 200
        _, rest = process.child.communicate(timeout=30)
        assert (process.child.returncode, rest) == (0, "")


def test_a_service_that_is_opened_has_a_token(birds: Path, photograph: bytes) -> None:
    with serving(birds, "--host", "0.0.0.0") as process:
        (token,) = re.findall(r"#token=(\S+)", process.said)
        assert len(token) >= 32
        assert process.ask("/v1/predict", photograph)[0] == 401
        assert process.ask("/v1/predict", photograph, Authorization=f"Bearer {token}")[0] == 200
        assert process.ask("/")[0] == 200


def test_answering_takes_no_torch(birds: Path, pictures: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import fieldmark.serving.app
        from fieldmark.answering.predictor import Predictor
        from fieldmark.serving.service import Service
        service = Service(Predictor.load(sys.argv[1]))
        service.verdict(service.outputs(Path(sys.argv[2]).read_bytes()).result(10))
        assert service.examples_of("plum").result(10)
        service.close()
        print(*{"torch", "sklearn"} & set(sys.modules))
    """
    command = [sys.executable, "-c", code, str(birds), str(pictures / "plum" / "02.png")]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert (done.stdout.split(), done.stderr) == ([], "")


def test_files_without_a_token(cli: Cli, birds: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    for text in ("short", "with blanks in it, which is no good", ""):
        file.write_text(text)
        complaint = cli("serve", birds, "--token-file", file).complaint
        assert complaint.startswith(f"The token in {file} is none. It must have at least 16")
    assert "cannot be read" in cli("serve", birds, "--token-file", tmp_path / "absent").complaint


def test_what_cannot_be_served(cli: Cli, birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "neither a finished run nor a bundle" in cli("serve", tmp_path).complaint
    alone = shutil.copytree(birds / "bundle", tmp_path / "alone")
    assert cli("serve", alone, "--keep-pictures").complaint.endswith("Say where with --keep.")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        complaint = cli("serve", birds, "--port", port).complaint
        assert complaint.startswith(f"Nothing can listen at 127.0.0.1, port {port}: ")
    assert "--port" in cli("serve", birds, "--host", "no.such.host.invalid").complaint
    assert "cannot be promised" in cli("serve", birds, "--port", 0, "--accuracy", "0.999").complaint
    gone = cli("serve", birds, "--port", 0, "--gallery", tmp_path / "none").complaint
    assert "none" in gone
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "fastapi" else object())
    assert cli("serve", birds).complaint == (
        "Serving needs fastapi, which is not installed. Install it with: pip install 'fieldmark[serve]'."
    )
