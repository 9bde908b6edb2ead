"""A Ray cluster answers as one machine does, each picture once, also when workers die.

FIELDMARK_RAY names a Python that has Ray, and all that Fieldmark needs: Ray is no part of what tests install.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.answering.answers import Picture
from fieldmark.answering.cluster import Cluster, _answered, _died, _Job, _meant
from fieldmark.answering.record import read_answers
from fieldmark.answering.things import Thing
from fieldmark.commands.predict_into import predict_into
from fieldmark.core.errors import RunError
from fieldmark.core.version import version
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run
from support.commands import Cli
from support.hearing import Heard

_ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers are found in /proc")

_DRIVER = """
import os, signal, sys, threading, time
from pathlib import Path

import ray

from fieldmark.answering import cluster
from fieldmark.commands.predict_into import predict_into

run, folder, out = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
kills, count = int(sys.argv[4]), int(sys.argv[5])
record = out.with_name("out.answers.jsonl")
cluster._AT_ONCE = min(cluster._AT_ONCE, count // 15)
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)


def workers():
    "The processes below this one that answer."
    parents, titles = {}, {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(place.name)] = (place / "cmdline").read_bytes()
        except OSError:
            continue
    for one, title in titles.items():
        above = parents.get(one)
        while above and above != os.getpid():
            above = parents.get(above)
        if above and title.startswith(b"ray::_answered"):
            yield one


def kill():
    "One as it begins, and others when so many pictures are answered."
    for number in range(kills):
        while number and (not record.exists() or record.read_bytes().count(b"path") < count * number // (kills + 1)):
            time.sleep(0.005)
        while not (found := list(workers())):
            time.sleep(0.005)
        os.kill(found[0], signal.SIGKILL)
        print("killed", flush=True)


threading.Thread(target=kill, daemon=True).start()
done = predict_into(run, [folder], out, engine="ray", device="cpu")
print(done.num_pictures, len(done.skipped))
"""


def ray_python() -> str:
    python = os.environ.get("FIELDMARK_RAY")
    if not python:
        pytest.skip("FIELDMARK_RAY names no Python with ray")
    return python


def environment(**more: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    return kept | {"PYTHONPATH": str(Path(fieldmark.__file__).parent.parent), "PYTHONWARNINGS": "ignore"} | more


def planted(count: int) -> list[str]:
    """Pictures in folders, named from where the test works; the paths of those that are cut short, one in 20."""
    noise, bad = np.random.default_rng(0), []
    for number in range(count):
        path = Path("season") / str(number % 7) / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise.integers(0, 256, (30, 40, 3), dtype=np.uint8)).save(path)
        if number % 20 == 3:
            path.write_bytes(path.read_bytes()[:100])
            bad.append(str(path))
    return bad


@pytest.fixture
def photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """120 pictures in season/; the paths of the bad ones."""
    monkeypatch.chdir(tmp_path)
    return planted(120)


@_ON_LINUX
@pytest.mark.slow
@pytest.mark.parametrize(("count", "kills"), [(120, 0), (120, 3), (10_000, 10)], ids=["quiet", "killed", "10,000"])
def test_a_cluster_answers_as_one_machine_does(trained: Run, photographs: list[str], count: int, kills: int) -> None:
    if count > 120:
        photographs = planted(count)
    command = [ray_python(), "-c", _DRIVER, str(trained.folder), "season", "out.csv", str(kills), str(count)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()  # Ray also says there that a worker died
    assert told.count("killed") == kills
    assert f"{count} {len(photographs)}" in told
    predict_into(trained.folder, ["season"], "alone.csv", device="cpu")
    records = [Path("out.answers.jsonl"), Path("alone.answers.jsonl")]
    assert [record.read_bytes().count(b'{"path"') for record in records] == [count, count]
    there, here = (read_answers([record], Bundle.load(trained.folder)) for record in records)
    assert there.header == here.header
    assert there.skipped == here.skipped
    assert sorted(there.skipped) == sorted(photographs)
    for one, other in zip(there, here, strict=True):
        assert (one.path, one.size, one.taken) == (other.path, other.size, other.taken)
        for look, same in zip(one.looks, other.looks, strict=True):
            assert look.seen is not None
            assert same.seen is not None
            np.testing.assert_allclose(look.seen.logits, same.seen.logits, atol=1e-4)
    one, other = (Path(name).read_text().splitlines() for name in ("out.csv", "alone.csv"))
    assert [line.split(",")[:2] for line in one] == [line.split(",")[:2] for line in other]


def by_command(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [ray_python(), "-m", "fieldmark", "predict", *arguments, "--engine", "ray"]
    return subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=240)


@_ON_LINUX
@pytest.mark.slow
def test_the_command_on_a_cluster(trained: Run, photographs: list[str]) -> None:
    done = by_command(str(trained.folder), "season", "--out", "out.csv", RAY_ADDRESS="local")
    assert done.returncode == 1, done.stderr  # some were skipped
    assert done.stdout == "Wrote out.csv: answers for 114 pictures\n"
    assert done.stderr.count("skipped: ") == 6
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_cluster_that_is_not_there(trained: Run, photographs: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    for more, said in (
        ({}, "There is no Ray cluster on this machine."),
        ({"RAY_ADDRESS": f"127.0.0.1:{port}"}, f"There is no Ray cluster at 127.0.0.1:{port}: connection refused."),
    ):
        done = by_command(str(trained.folder), "season", "--out", "out.csv", **more)
        assert done.stderr.splitlines()[-1].startswith(f"fieldmark: {said} Start one with: ray start --head."), (
            done.stderr
        )
        assert done.returncode == 2
    assert not list(Path().glob("out*"))


_WRONG = """
import os, sys
import ray

from fieldmark.answering.answers import Picture
from fieldmark.answering.cluster import Cluster
from fieldmark.answering.things import Thing
from fieldmark.core.errors import RunError
from fieldmark.runs.bundle import Bundle

ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
bundle = Bundle.load(sys.argv[1])
pictures = [Picture(Thing(path, path)) for path in sys.argv[2:]]

def said(change):
    "What is wrong after a change of what only the driver sees."
    change()
    try:
        list(Cluster(bundle, "cpu").answers(pictures))
    except RunError as error:
        print(error)

old = os.path.lexists
said(lambda: setattr(os.path, "lexists", lambda path: True))
os.path.lexists = old
said(lambda: setattr(os, "getcwd", lambda: "/nowhere"))
"""


@pytest.mark.slow
def test_a_machine_that_does_not_see_the_pictures(trained: Run, photographs: list[str]) -> None:
    command = [ray_python(), "-c", _WRONG, str(trained.folder), "season/gone.jpg"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=240)
    first, second = done.stdout.splitlines()
    assert "does not see season/gone.jpg, which is here. All machines of the cluster need" in first, done.stderr
    assert "cannot work in /nowhere: No such file or directory." in second


def test_a_cluster_answers_into_a_file(trained: Run, cli: Cli, photographs: list[str]) -> None:
    said = cli("predict", trained.folder, "season", "--engine=ray").complaint
    assert "--engine ray needs a file to write to" in said


class StandIn:
    """What is used of Ray, with a worker in this process. No piece of work is done the first times it is waited for."""

    exceptions = SimpleNamespace(RayTaskError=ZeroDivisionError, RayError=ZeroDivisionError)

    def __init__(self, resources: dict[str, float], quiet: int = 0) -> None:
        self.resources, self.quiet = resources, quiet
        self.options: dict[str, Any] = {}
        self.jobs: list[_Job] = []

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, **options: Any) -> Any:
        self.options = options

        def begun(job: _Job, pictures: list[Picture]) -> Any:
            self.jobs.append(job)
            return partial(_answered, job, pictures)

        return lambda function: SimpleNamespace(remote=begun)

    def wait(self, waiting: list[Any], *, num_returns: int, timeout: float) -> Any:
        self.quiet -= 1
        return ([], waiting) if self.quiet >= 0 else (waiting[:1], waiting[1:])

    def get(self, one: Any) -> Any:
        return one()

    def cancel(self, one: Any) -> None:
        pass


Cast = Callable[..., StandIn]


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Cast:
    def cast(quiet: int = 0, **resources: float) -> StandIn:
        one = StandIn({"CPU": 2.0} | resources, quiet)
        monkeypatch.setitem(sys.modules, "ray", one)
        return one

    monkeypatch.setattr("fieldmark.answering.cluster._join", lambda: None)
    return cast


def pictures_at(*paths: str) -> list[Picture]:
    return [Picture(Thing(path, Path(path))) for path in paths]


def test_a_cluster_without_what_is_asked_for(trained: Run, stand_in: Cast) -> None:
    bundle = Bundle.load(trained.folder)
    stand_in()
    with pytest.raises(
        RunError, match=r"--device cuda: no machine of the Ray cluster has a GPU\. Answer with --device cpu"
    ):
        Cluster(bundle, "cuda")
    for device, gpus, needed in (("auto", 0, 0), ("auto", 2, 1), ("cpu", 2, 0), ("cuda", 2, 1)):
        ray = stand_in(GPU=gpus)
        list(Cluster(bundle, device).answers([]))
        assert ray.options["num_gpus"] == needed
    stand_in(CPU=0)
    with pytest.raises(RunError, match=r"no cores to answer with\. Give it some: ray start --num-cpus"):
        Cluster(bundle)


def test_a_cluster_that_is_busy_can_be_left(trained: Run, photographs: list[str], stand_in: Cast) -> None:
    stand_in(quiet=3)
    heard = Heard()
    found = list(Cluster(Bundle.load(trained.folder), "cpu", heard).answers(pictures_at("season/0/0.jpg")))
    assert [len(some) for some in found] == [0, 0, 0, 1]
    assert heard.notes == ["No machine has answered for 30 s: all of the cluster may be busy with other work"]


def test_a_worker_needs_no_folder_but_those_of_the_files(
    trained: Run, photographs: list[str], stand_in: Cast, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "shared").symlink_to(trained.folder)
    ray = stand_in()
    cluster = Cluster(Bundle.load(tmp_path / "shared"), "cpu")
    whole = str(Path("season/0/0.jpg").absolute())
    monkeypatch.setattr(os, "getcwd", lambda: "/nowhere")
    assert [answer.skipped for some in cluster.answers(pictures_at(whole)) for answer in some] == [""]
    assert ray.jobs[0].bundle == tmp_path / "shared" / "bundle"
    with pytest.raises(RunError, match=r"cannot work in /nowhere: No such file or directory\. All machines"):
        list(cluster.answers(pictures_at(whole, "season/0/0.jpg")))


def test_a_machine_with_another_version_is_named(trained: Run, stand_in: Cast, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in()
    here = version()
    answers = Cluster(Bundle.load(trained.folder), "cpu").answers(pictures_at("/a.jpg"))
    told = iter([here])
    monkeypatch.setattr("fieldmark.answering.cluster.version", lambda: next(told, "0.0.1"))
    expected = f"{platform.node()} has Fieldmark 0.0.1, and {here} is asking. Install the same version"
    with pytest.raises(RunError, match=re.escape(expected)):
        list(answers)


def test_what_it_means_that_workers_die() -> None:
    error = RuntimeError("Task was killed due to the node running low on memory.\nMemory on the node: …")
    assert str(_died(error, pictures_at("a.jpg", "b.jpg", "c.jpg"))) == (
        "Workers die again and again at pictures from a.jpg to c.jpg: Task was killed due to the node running low on "
        "memory. If their machines lack memory, start Ray with fewer cores: ray start --num-cpus 8. Then go on with "
        "--resume."
    )
    assert "to a.jpg: KeyError. If" in str(_died(KeyError(), pictures_at("a.jpg")))


def test_what_errors_of_workers_mean() -> None:
    lacking = _meant(RuntimeError("System error: No module named 'fieldmark'\ntraceback: Traceback (most recent …"))
    assert str(lacking) == (
        "A machine of the cluster cannot answer: No module named 'fieldmark'. Install Fieldmark on all of them."
    )
    for error in (RunError("No module named 'x'"), ZeroDivisionError()):
        assert _meant(error) is error


def test_ray_is_an_extra(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"Ray is not installed\. Install it with: pip install 'fieldmark\[ray\]'"):
        Cluster(Bundle.load(trained.folder))
