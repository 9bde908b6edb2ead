"""The service as a Ray Serve application, on a cluster of this machine.

FIELDMARK_RAY names a Python that has ray[serve], and all that Fieldmark needs.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlopen

import pytest

import fieldmark
from fieldmark.answering.predictor import Predictor
from fieldmark.core.errors import RunError
from fieldmark.serving.guard import Guard
from fieldmark.serving.limits import Limits
from support.services import listening

_DRIVER = """
import http.client, json, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ray
from ray import serve

from fieldmark.serving.on_ray import application

run, picture, port = Path(sys.argv[1]), Path(sys.argv[2]).read_bytes(), int(sys.argv[3])
ray.init(address="local", num_cpus=3, include_dashboard=False, log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": port})
words = {"run": str(run), "replicas": "1", "cpus": "0.5", "queued": "2", "device": "cpu", "open": "true"}
serve.run(application(words | {"limits": {"most_waiting": 2}}))


def ask(path, body=None, host="localhost"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST" if body else "GET", path, body, {"Host": host})
    reply = connection.getresponse()
    return reply.status, reply.getheader("Retry-After"), reply.read().decode()


found = {
    "health": ask("/v2/health/ready"),
    "predict": ask("/v1/predict", picture),
    "page": ask("/")[0],
    "elsewhere": ask("/v1/classes", host="example.org")[0],
    "no picture": ask("/v1/predict", b"nothing")[0],
    "probe": ask("/health", host="10.1.2.3")[0],
    "metrics": ask("/metrics")[0],
}
with ThreadPoolExecutor(48) as many:
    found["crowd"] = list(many.map(lambda _: ask("/v1/predict", picture), range(240)))
found["afterwards"] = ask("/v1/predict", picture)
Path(sys.argv[4]).write_text(json.dumps(found))
serve.shutdown()
"""


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """What is used of Ray Serve; `options` are those of the deployment, and `app` makes what a replica runs."""
    one = SimpleNamespace()

    def ingress(app: Callable[[], Guard]) -> Callable[[], Any]:
        one.app = app
        return lambda: SimpleNamespace(bind=lambda: None)

    def deployment(**options: Any) -> Callable[[Any], Any]:
        one.options = options
        return lambda replica: replica

    one.serve = SimpleNamespace(Application=object, ingress=ingress, deployment=deployment)
    monkeypatch.setitem(sys.modules, "ray", one)
    yield one
    sys.modules.pop("fieldmark.serving.on_ray", None)


def test_a_cluster_is_open_only_if_somebody_says_so(birds: Path, ray: SimpleNamespace, tmp_path: Path) -> None:
    from fieldmark.serving.on_ray import application

    with pytest.raises(
        RunError, match=r"answers whoever reaches its address\. Give it one with token_file=FILE, or open="
    ):
        application({"run": str(birds)})
    (tmp_path / "token").write_text("a-long-enough-token")
    for more in ({"open": "true"}, {"token_file": str(tmp_path / "token")}):
        application({"run": str(birds)} | more)


def test_what_a_replica_does_not_show(birds: Path, ray: SimpleNamespace, tmp_path: Path) -> None:
    from fieldmark.serving.on_ray import application

    (tmp_path / "shared").symlink_to(birds)
    application({"run": str(tmp_path / "shared"), "open": "true", "examples": "false", "device": "cpu"})
    assert ray.options["graceful_shutdown_timeout_s"] >= Limits().explaining_seconds
    with listening(ray.app()) as port:

        def told(path: str) -> Any:
            with urlopen(f"http://localhost:{port}{path}") as reply:
                return json.load(reply)

        assert (told("/v1/classes")["model"], told("/v1/classes")["examples"]) == ("shared", False)
        assert told("/v1/classes/0/pictures")["pictures"] == []
        assert "/health" in told("/openapi.json")["paths"]
        assert "/metrics" not in told("/openapi.json")["paths"]


@pytest.mark.slow
def test_a_service_on_a_cluster(birds: Path, photograph: Path, tmp_path: Path) -> None:
    python = os.environ.get("FIELDMARK_RAY")
    if not python:
        pytest.skip("FIELDMARK_RAY names no Python with ray[serve]")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    environment |= {"PYTHONPATH": str(Path(fieldmark.__file__).parent.parent), "PYTHONWARNINGS": "ignore"}
    command = [python, "-c", _DRIVER, str(birds), str(photograph), port, str(tmp_path / "found.json")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads((tmp_path / "found.json").read_text())
    (expected,) = Predictor.load(birds, device="cpu").predict(photograph)
    assert found["health"][0] == 200
    for status, _, body in (found["predict"], found["afterwards"]):
        assert status == 200
        assert json.loads(body)["said"] == expected.said
    assert (found["page"], found["elsewhere"], found["no picture"]) == (200, 421, 415)
    assert (found["probe"], found["metrics"]) == (200, 404)
    crowd = found["crowd"]
    assert {status for status, *_ in crowd} <= {200, 429, 503}
    assert all(json.loads(body)["said"] == expected.said for status, _, body in crowd if status == 200)
    by_ray = [after for status, after, body in crowd if status == 503 and not body.startswith("{")]
    assert by_ray
    assert set(by_ray) == {"1"}
