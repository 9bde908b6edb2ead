"""Fixtures of every folder: the command line as its user meets it, run in this process, and a run that is trained once.

A pytest plug-in that `tests/conftest.py` loads.
"""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from fieldmark.cli import main
from fieldmark.commands.train import train
from fieldmark.runs.run import Run

__all__ = ["TINY", "Answer", "Cli", "settings"]

TINY = {"backbone.name": "test_resnet", "backbone.weights": "none", "images.size": "32", "train.epochs": "1"}


def settings(**changes: str) -> list[str]:
    """A recipe of a second; `changes` are keys with __ for the dot."""
    return [f"{key}={value}" for key, value in (TINY | {k.replace("__", "."): v for k, v in changes.items()}).items()]


@dataclass(frozen=True)
class Answer:
    """What a command answered."""

    status: int
    out: str
    err: str

    @property
    def complaint(self) -> str:
        """The one line that a refusal ends with."""
        assert self.status == 2, (self.status, self.err)
        assert not self.out
        assert "Traceback" not in self.err
        assert self.err.count("fieldmark: ") == 1
        line = self.err.splitlines()[-1]
        assert line.startswith("fieldmark: ")
        return line.removeprefix("fieldmark: ")


Cli = Callable[..., Answer]


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Cli:
    """`cli("train", data, …)`: the command with these arguments and, with `typed`, this standard input."""

    def run(*arguments: object, typed: str | bytes = "", columns: int = 80) -> Answer:
        monkeypatch.setattr(sys, "argv", ["fieldmark", *map(str, arguments)])
        monkeypatch.setattr(
            sys, "stdin", io.TextIOWrapper(io.BytesIO(typed if isinstance(typed, bytes) else typed.encode()))
        )
        monkeypatch.setenv("COLUMNS", str(columns))
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Answer(int(ended.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def tiny() -> Callable[..., list[str]]:
    """Arguments of `train` that make it short: `tiny(train__epochs=2)`."""
    return lambda **changes: ["--recipe", "walkthrough", *(f"--set={setting}" for setting in settings(**changes))]


@pytest.fixture(scope="session")
def _trained(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIELDMARK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        out = tmp_path_factory.mktemp("trained") / "run"
        return train(pictures, "walkthrough", out=out, overrides=settings(train__epochs="2")).folder


@pytest.fixture
def trained(_trained: Path, tmp_path: Path) -> Run:
    """A finished run on `pictures`; a copy, to be done with as one likes."""
    return Run(shutil.copytree(_trained, tmp_path / "trained"))


@pytest.fixture
def parted(pictures: Path, tmp_path: Path) -> Path:
    """`pictures` in the splits train and test."""
    root = tmp_path / "parted"
    for file in sorted(pictures.rglob("*.png")):
        split = "train" if int(file.stem) < 10 else "test"
        (root / split / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, root / split / file.parent.name)
    return root
