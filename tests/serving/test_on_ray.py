"""The service as a Ray Serve application, on a cluster of this machine.

FIELDMARK_RAY names a Python that has ray[serve], and all that Fieldmark needs.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

import fieldmark
from fieldmark.answering.predictor import Predictor

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
words = {"run": str(run), "replicas": "1", "cpus": "0.5", "queued": "2", "device": "cpu"}
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
}
with ThreadPoolExecutor(48) as many:
    found["crowd"] = list(many.map(lambda _: ask("/v1/predict", picture), range(240)))
found["afterwards"] = ask("/v1/predict", picture)
Path(sys.argv[4]).write_text(json.dumps(found))
serve.shutdown()
"""


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
    crowd = found["crowd"]
    assert {status for status, *_ in crowd} <= {200, 429, 503}
    assert all(json.loads(body)["said"] == expected.said for status, _, body in crowd if status == 200)
    by_ray = [after for status, after, body in crowd if status == 503 and not body.startswith("{")]
    assert by_ray
    assert set(by_ray) == {"1"}
