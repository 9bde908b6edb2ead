"""`torchrun -m fieldmark train`: several processes, one run, one voice."""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import fieldmark
from fieldmark.cli import main
from fieldmark.core.errors import DataError
from fieldmark.core.listener import Listener
from fieldmark.core.recipe import recipe_names
from fieldmark.core.storage import read_tensors
from fieldmark.data.cache import build_store
from fieldmark.data.sets import read
from fieldmark.fieldguide import draw
from fieldmark.learning.fitting import lesson
from fieldmark.runs.run import Run
from support.commands import settings
from support.ranks import forks, in_processes

Tiny = Callable[..., list[str]]


class Said(NamedTuple):
    """What one of several processes said, and how it ended."""

    status: int
    err: str


def commands(count: int, *arguments: object, before: Callable[[], None] = lambda: None) -> list[Said]:
    """The command in so many processes, as torchrun starts it."""

    def act() -> Said:
        before()
        sys.argv = ["fieldmark", *map(str, arguments)]
        with contextlib.redirect_stderr(io.StringIO()) as err, contextlib.redirect_stdout(err):
            try:
                main()
            except SystemExit as ended:
                return Said(int(ended.code or 0), err.getvalue())
        raise AssertionError

    return in_processes(count, act)


def torchrun(count: int, *arguments: object, restarts: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count)]
    command += ["--max-restarts", str(restarts), "-m", "fieldmark", *map(str, arguments)]
    source = Path(fieldmark.__file__).parents[1]
    path = os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stderr=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True
    )


def losses(run: Path) -> list[tuple[str, int, float]]:
    return [(line["fit"], line["step"], line["loss"]) for line in Run(run).history()]


@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs a POSIX system here")
def test_torchrun_trains_as_one_process_does(pictures: Path, tmp_path: Path, tiny: Tiny) -> None:
    """A batch of 7 for two processes, on a network that looks at no other image."""
    recipe = tiny(backbone__name="test_vit", train__epochs="2", train__batch_size="7", train__precision="fp32")
    child = torchrun(2, "train", pictures, *recipe, "--out", tmp_path / "two")
    fieldmark.train(pictures, "walkthrough", out=tmp_path / "one", overrides=[one[6:] for one in recipe[2:]])
    _, said = child.communicate(timeout=240)
    assert child.returncode == 0, said
    assert said.count("epoch 2/2") == said.count("Saved ") == 1
    assert "2 processes train together" in said
    assert [steps for *steps, _ in losses(tmp_path / "two")] == [steps for *steps, _ in losses(tmp_path / "one")]
    np.testing.assert_allclose(
        [loss for *_, loss in losses(tmp_path / "two")], [loss for *_, loss in losses(tmp_path / "one")], atol=2e-4
    )
    one, two = (json.loads((tmp_path / name / "data.json").read_text()) for name in ("one", "two"))
    assert one == two


@forks
def test_every_process_of_a_script_gets_the_run(pictures: Path, tmp_path: Path) -> None:
    def act() -> Path:
        return fieldmark.train(
            pictures, "walkthrough", out=tmp_path / "run", overrides=settings(), listener=Listener()
        ).folder

    assert in_processes(2, act) == [tmp_path / "run"] * 2


@forks
@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["train", "PICTURES", "--recipe", "finetun"], "There is no recipe 'finetun'"),
        (["train", "PICTURES", "--set=loss.name=taxonomy"], "The loss 'taxonomy' needs a taxonomy of the classes"),
        (["train", "PICTURES", "--set=train.batch_size=2"], "A batch of 2 images cannot be shared by 3 processes"),
        (["train", "nowhere"], "nowhere"),
        (["recipes"], "Only `fieldmark train` can be started by torchrun"),
    ],
)
def test_what_is_wrong_is_said_once(
    arguments: Sequence[str], complaint: str, pictures: Path, tmp_path: Path, tiny: Tiny
) -> None:
    given = [str(pictures) if one == "PICTURES" else one for one in arguments]
    small = [*tiny()[2:], "--out", str(tmp_path / "run")] if given[0] == "train" else []
    leader, *followers = commands(3, *given[:2], *small, *given[2:])
    assert leader.status == 2
    assert complaint in leader.err.splitlines()[-1]
    assert leader.err.count("fieldmark: ") == 1
    assert not (tmp_path / "run" / "recipe.toml").exists()
    assert followers == [Said(0, "")] * 2


@forks
@pytest.mark.parametrize("moment", [2, 6])
def test_a_run_is_taken_up_by_another_number_of_processes(
    pictures: Path, tmp_path: Path, tiny: Tiny, moment: int
) -> None:
    class Stop(Listener):
        asked = 0

        @contextlib.contextmanager
        def stoppable(self) -> Any:
            def stop() -> bool:
                self.asked += 1
                return self.asked == moment

            yield stop

    def stopped() -> str:
        overrides = settings(train__epochs="2", train__batch_size="8")
        try:
            fieldmark.train(pictures, "walkthrough", out=tmp_path / "run", overrides=overrides, listener=Stop())
        except Exception as error:  # whatever ends it crosses to the parent as text
            return str(error)
        return "not stopped"

    first, other = in_processes(3, stopped)[:2]
    assert first == f"stopped after step {moment} of 6"
    assert "The first process of this training has failed" in other
    leader, *_ = commands(2, "train", pictures, "--out", tmp_path / "run", "--resume")
    assert leader.status == 0
    assert ("Resuming after step 2 of 6" in leader.err) == (moment == 2)
    assert [step for _, step, _ in losses(tmp_path / "run")] == [3, 6]
    assert Run(tmp_path / "run").is_finished


@pytest.mark.skipif(sys.platform != "linux", reason="a path must lead elsewhere for each process")
@pytest.mark.parametrize("exchanged", [0, 2])
def test_another_process_has_other_pictures(exchanged: int, pictures: Path, tmp_path: Path, tiny: Tiny) -> None:
    """As on another machine, each process has folders of its own behind the same paths, with its own cache."""
    here = Path("/proc/self/cwd")
    for rank in ("0", "1"):
        shutil.copytree(pictures, tmp_path / rank / "photographs")
    first, *others = sorted((tmp_path / "1").rglob("*.png"))
    for other in others[:exchanged]:
        shutil.copyfile(first, other)

    def before() -> None:
        os.chdir(tmp_path / os.environ["RANK"])
        os.environ["FIELDMARK_CACHE"] = str(here / "cache")

    leader, follower = commands(2, "train", here / "photographs", *tiny(), "--out", tmp_path / "run", before=before)
    assert follower == Said(0, "")
    assert (tmp_path / "1" / "cache" / "pixels").is_dir()
    if not exchanged:
        assert leader.status == 0, leader.err
        return
    assert leader.status == 2
    complaint = leader.err.splitlines()[-1]
    assert f"fieldmark: {exchanged} pictures of 42 cannot be read on " in complaint
    assert complaint.endswith(f"Put the same data in {here / 'photographs'} on every machine.")
    assert leader.err.count("fieldmark: ") == 1


def test_pictures_of_another_machine_are_compared(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = build_store(read(pictures), side=32, folder=tmp_path / "cache")
    digests = store.fingerprints.digests
    assert lesson._pixels_here(store, digests, "afar", 8.0) is store  # its cache can be seen from here
    own = lesson._pixels_here(store.__class__(**{**vars(store), "file": tmp_path / "gone"}), digests, "afar", 8.0)
    assert own.file is not None
    assert own.file.is_file()
    np.testing.assert_array_equal(own[3].pixels, store[3].pixels)
    changed = digests.copy()
    changed[[2, 5]] += 1
    monkeypatch.setattr(socket, "gethostname", lambda: "here")
    with pytest.raises(DataError) as raised:
        lesson._pixels_here(store.__class__(**{**vars(store), "file": tmp_path / "gone"}), changed, "afar", 8.0)
    assert "2 pictures of 42 cannot be read on here or are not what they are on afar: " in raised.value.problem


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that a recipe may ask of data."""
    return draw(tmp_path_factory.mktemp("guide") / "birds", species=4, images_per_species=14, size=64)


@pytest.mark.slow
@forks
@pytest.mark.parametrize("recipe", recipe_names())
def test_every_recipe_trains_in_two_processes(
    recipe: str, guide: Path, pictures: Path, tmp_path: Path, tiny: Tiny
) -> None:
    further = {
        "ordinal": [f"--set=labels.order={json.dumps(sorted(read(guide).classes))}"],
        "pseudo_labels": ["--unlabelled", str(pictures)],
    }
    small = ["--recipe", recipe, *tiny(train__epochs="1", images__size="64")[2:], *further.get(recipe, [])]
    leader, follower = commands(2, "train", guide, *small, "--out", tmp_path / "run")
    assert leader.status == 0, leader.err
    assert follower == Said(0, "")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs a POSIX system here")
def test_killed_processes_are_replaced(pictures: Path, tmp_path: Path, tiny: Tiny) -> None:
    """One at a time, at random moments of the training; nobody says --resume."""
    recipe = tiny(train__epochs="150", train__batch_size="7", train__checkpoint_steps="5")
    child = torchrun(2, "train", pictures, *recipe, "--out", tmp_path / "run", restarts=20)
    rng = random.Random(0)
    for _ in range(4):
        _wait_for_checkpoint(child, tmp_path / "run", after=time.time())
        time.sleep(rng.uniform(0, 1))
        ranks = _ranks_of(child.pid)
        os.kill(rng.choice(ranks), signal.SIGKILL)
        while set(ranks) & set(_ranks_of(child.pid)):  # the others are given time to end
            time.sleep(0.1)
    _, said = child.communicate(timeout=900)
    assert child.returncode == 0, said
    assert said.count("Resuming after step") == 4, said
    steps = [step for _, step, _ in losses(tmp_path / "run")]
    assert steps == list(range(4, 601, 4))
    assert Run(tmp_path / "run").is_finished


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="it is looked up which process is the first")
def test_a_leader_that_is_killed_is_told_of(pictures: Path, tmp_path: Path, tiny: Tiny) -> None:
    """By one of the others, since torchrun alone would say that a process has ended, and not what to do."""
    child = torchrun(3, "train", pictures, *tiny(train__epochs="9999"), "--out", tmp_path / "run")
    _wait_for_checkpoint(child, tmp_path / "run")
    (leader,) = [pid for pid in _ranks_of(child.pid) if b"\0RANK=0\0" in Path(f"/proc/{pid}/environ").read_bytes()]
    os.kill(leader, signal.SIGKILL)
    _, said = child.communicate(timeout=120)
    assert len(re.findall("fieldmark: in process [12]: Another process of this training has ended", said)) == 1, said
    assert "The last checkpoint is intact: continue with --resume." in said


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs a POSIX system here")
@pytest.mark.parametrize("how", ["SIGTERM", "SIGINT", "launcher killed"])
def test_all_stop_after_the_same_step(how: str, pictures: Path, tmp_path: Path, tiny: Tiny) -> None:
    child = torchrun(2, "train", pictures, *tiny(train__epochs="9999"), "--out", tmp_path / "run")
    _wait_for_checkpoint(child, tmp_path / "run")
    child.send_signal(signal.SIGKILL if how == "launcher killed" else getattr(signal, how))
    _, said = child.communicate(timeout=120)  # until the last of them has closed its end
    assert "Stopping after this step." in said
    (step,) = re.findall(r"stopped after step (\d+) of ", said)
    about = read_tensors(Run(tmp_path / "run").checkpoint("model"))[1]
    assert json.loads(about["state"])["step"] == int(step)


def _wait_for_checkpoint(child: subprocess.Popen[str], run: Path, *, after: float = 0.0) -> None:
    file = Run(run).checkpoint("model")
    deadline = time.monotonic() + 180
    while not (file.is_file() and file.stat().st_mtime > after):
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _ranks_of(parent: int) -> list[int]:
    """The processes that torchrun has started and that live."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]
