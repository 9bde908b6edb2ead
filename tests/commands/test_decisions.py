"""Decisions in training: a run remembers them, and whatever opens it again sees the same data."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fieldmark.core.errors import RunError
from fieldmark.runs.run import Run
from support.commands import Cli

Tiny = Callable[..., list[str]]


@pytest.fixture
def decisions(tmp_path: Path, pictures: Path) -> Path:
    new = shutil.copy(pictures / "jade" / "03.png", tmp_path / "new.png")
    rows = [["amber/00.png", "relabel", "jade"], ["amber/01.png", "drop", ""], [str(new), "label", "jade"]]
    file = tmp_path / "decisions.csv"
    with file.open("w", newline="", encoding="utf-8") as table:
        csv.writer(table).writerows([["path", "decision", "label"], *rows])
    return file


def labels(run: Run) -> dict[str, tuple[str, str]]:
    return {row["path"]: (row["label"], row["split"]) for row in run.images()}


def test_a_run_remembers_its_decisions(pictures: Path, decisions: Path, tiny: Tiny, cli: Cli, tmp_path: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in pictures.rglob("*"))
    out = tmp_path / "run"
    answer = cli("train", pictures, *tiny(), "--decisions", decisions, "--out", out)
    assert answer.status == 0, answer.err
    assert "Carried out 3 decisions: 1 relabelled, 1 dropped, 1 added" in answer.err
    assert sorted((path, path.stat().st_mtime_ns) for path in pictures.rglob("*")) == before
    run = Run(out)
    found = labels(run)
    assert len(found) == 42
    assert found["amber/00.png"][0] == "jade"
    assert "amber/01.png" not in found
    assert run.data()["decisions"]["number"] == 3
    for command in (["evaluate", out], ["report", out]):
        answer = cli(*command)
        assert answer.status == 0, answer.err
        assert "without a split" not in answer.err
    assert cli("train", pictures, *tiny(), "--out", out, "--resume").status == 0
    (out / "decisions.csv").write_text("path,decision,label\n")
    assert "decisions.csv is not what training wrote" in cli("evaluate", out).complaint


def test_a_run_stands_for_its_data(pictures: Path, decisions: Path, tiny: Tiny, cli: Cli, tmp_path: Path) -> None:
    """New photographs are learnt from, and nothing moves between the splits."""
    first, second = tmp_path / "run", tmp_path / "run-2"
    assert cli("train", pictures, *tiny(), "--out", first).status == 0
    answer = cli("train", first, "--decisions", decisions)
    assert answer.status == 0, answer.err
    before, after = labels(Run(first)), labels(Run(second))
    assert after.pop(str(tmp_path / "new.png")) == ("jade", "train")
    assert {path: split for path, (_, split) in after.items()} == {
        path: split for path, (_, split) in before.items() if path != "amber/01.png"
    }
    assert Run(second).recipe() == Run(first).recipe()
    third = cli("train", second, "--out", tmp_path / "third")
    assert third.status == 0, third.err
    assert labels(Run(tmp_path / "third")) == labels(Run(second))
    assert cli("evaluate", tmp_path / "third").status == 0


def test_a_resume_begins_with_the_same_decisions(
    pictures: Path, decisions: Path, tiny: Tiny, cli: Cli, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    assert cli("train", pictures, *tiny(), "--decisions", decisions, "--out", out).status == 0
    shutil.rmtree(out / "bundle")
    decisions.write_text("path,decision,label\namber/00.png,drop,\n")
    again = ["train", pictures, "--out", out, "--resume"]
    assert "began with other decisions: 3 decisions, not 1" in cli(*again, "--decisions", decisions).complaint
    assert cli(*again).status == 0
    assert len(labels(Run(out))) == 42


def test_decisions_that_are_gone_leave_no_run(pictures: Path, tiny: Tiny, cli: Cli, tmp_path: Path) -> None:
    table = tmp_path / "decisions.csv"
    table.write_text("path,decision,label\nnowhere.png,label,jade\n")
    answer = cli("train", pictures, *tiny(), "--decisions", table, "--out", tmp_path / "run")
    assert "names a file that is gone: nowhere.png" in answer.complaint
    assert not (tmp_path / "run").exists()


def test_a_run_without_data_cannot_stand_for_it(tmp_path: Path, trained: Run, cli: Cli) -> None:
    (trained.folder / "data.json").unlink()
    assert "does not say what data" in cli("train", trained.folder, "--out", tmp_path / "x").complaint
    with pytest.raises(RunError):
        Run.open(tmp_path / "x")
