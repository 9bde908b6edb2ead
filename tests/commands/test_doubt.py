"""`fieldmark doubt`: planted mistakes come first, what was decided is not asked again, and nothing is changed."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.data.decisions import Decision, read_decisions
from fieldmark.runs.run import Run
from support.browser import Browser
from support.commands import Cli

Tiny = Callable[..., list[str]]
COLOURS = {"amber": (220, 160, 40), "jade": (40, 160, 110), "plum": (120, 50, 120)}


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Pictures whose class is their colour, two of them in wrong folders."""
    random = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / "plain" / name).mkdir(parents=True)
        for i in range(14):
            noise = random.integers(-25, 26, (32, 32, 3))
            pixels = (np.array(colour) + noise).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / "plain" / name / f"{i:02}.png")
    folder = tmp_path / "plain"
    (folder / "amber" / "03.png").rename(folder / "jade" / "wrong.png")
    (folder / "plum" / "05.png").rename(folder / "amber" / "wrong.png")
    return folder


@pytest.fixture
def run(plain: Path, tmp_path: Path, cli: Cli) -> Run:
    probe = ["--recipe", "probe", "--backbone", "test_resnet", "--weights", "none", "--set", "images.size=32"]
    answer = cli("train", plain, *probe, "--out", tmp_path / "run")
    assert answer.status == 0, answer.err
    return Run(tmp_path / "run")


def learnt(run: Run, *paths: str) -> set[str]:
    return {path for path in paths if run.splits()[path] != "test"}


def test_planted_mistakes_come_first(run: Run, cli: Cli) -> None:
    before = {path: path.stat().st_mtime_ns for path in Path(run.data()["root"]).rglob("*")}
    wrong = learnt(run, "jade/wrong.png", "amber/wrong.png")
    answer = cli("doubt", run.folder)
    assert answer.status == 0, answer.err
    assert "To decide, open" in answer.err
    with (run.folder / "doubts" / "doubts.csv").open(encoding="utf-8") as table:
        rows = list(csv.DictReader(table))
    assert {row["path"] for row in rows[: len(wrong)]} == wrong
    suggested = {row["path"]: row["suggested"] for row in rows}
    assert all(suggested[path] == {"jade/wrong.png": "amber", "amber/wrong.png": "plum"}[path] for path in wrong)
    assert {path: path.stat().st_mtime_ns for path in Path(run.data()["root"]).rglob("*")} == before


def test_from_the_page_to_the_next_run(run: Run, cli: Cli, browser: Browser, tmp_path: Path) -> None:
    found = fieldmark.doubt(run.folder, evidence=1)
    browser.open(run.folder / "doubts" / "index.html")
    browser.press("1", "s")
    table = browser.downloaded("decisions.csv")
    assert list(read_decisions([table])) == [Decision(found[0].path, "relabel", found[0].suggested)]
    answer = cli("train", run.folder, "--decisions", table, "--out", tmp_path / "again")
    assert answer.status == 0, answer.err
    assert "1 relabelled" in answer.err
    assert found[0].path not in [one.path for one in fieldmark.doubt(tmp_path / "again")]


def test_copies_and_leaks_are_doubted(plain: Path, tmp_path: Path, cli: Cli, tiny: Tiny) -> None:
    """A picture under two labels, and one that is in train and in test."""
    random = np.random.default_rng(1)
    for name in ("copy", "leak"):
        pixels = random.integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((48, 48)).save(tmp_path / f"{name}.png")
    parted = tmp_path / "parted"
    for file in sorted(plain.rglob("*.png")):
        split = {"09": "val", "10": "val", "11": "test", "12": "test"}.get(file.stem, "train")
        (parted / split / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, parted / split / file.parent.name)
    shutil.copy(tmp_path / "copy.png", parted / "train" / "amber" / "copy.png")
    shutil.copy(tmp_path / "copy.png", parted / "train" / "plum" / "copy.png")
    shutil.copy(tmp_path / "leak.png", parted / "train" / "jade" / "leak.png")
    shutil.copy(tmp_path / "leak.png", parted / "test" / "jade" / "leak.png")
    assert cli("train", parted, *tiny(), "--out", tmp_path / "run").status == 0
    found = {one.path: one for one in fieldmark.doubt(tmp_path / "run")}
    copy = found["train/amber/copy.png"]
    assert (copy.kind, copy.suggested, copy.other) == ("copy", "plum", "train/plum/copy.png")
    leak = found["train/jade/leak.png"]
    assert (leak.kind, leak.suggested, leak.other, leak.other_split) == ("leak", "", "test/jade/leak.png", "test")
    assert not any(path.startswith("test/") for path in found)


def test_a_cross_fit_is_asked_for_its_own_answers(plain: Path, tmp_path: Path, cli: Cli) -> None:
    probe = ["--recipe", "probe", "--backbone", "test_resnet", "--weights", "none", "--set", "images.size=32"]
    out = tmp_path / "run"
    assert cli("train", plain, *probe, "--set", "protocol=crossfit", "--out", out).status == 0
    answer = cli("doubt", out)
    assert answer.status == 0, answer.err
    assert "Cross-fitting" not in answer.err
    wrong = learnt(Run(out), "jade/wrong.png", "amber/wrong.png")
    with (out / "doubts" / "doubts.csv").open(encoding="utf-8") as table:
        assert {row["path"] for row in list(csv.DictReader(table))[: len(wrong)]} == wrong


def test_a_bundle_alone_cannot_doubt(run: Run, cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(run.bundle, tmp_path / "bundle")
    assert "does not know its training images" in cli("doubt", tmp_path / "bundle").complaint


def test_a_folder_of_the_users_is_left_alone(run: Run, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").touch()
    assert "is not empty" in cli("doubt", run.folder, "--out", tmp_path / "mine").complaint
