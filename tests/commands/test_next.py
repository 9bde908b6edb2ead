"""`fieldmark next`: what is asked, what is not asked again, and the loop of labelling and training."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.core.errors import DataError
from fieldmark.data.decisions import read_decisions
from fieldmark.runs.run import Run
from support.browser import Browser
from support.commands import Cli


@pytest.fixture
def pool(pictures: Path, tmp_path: Path) -> Path:
    """New photographs without labels: three are frames of a burst, and one is a copy of a labelled one."""
    folder = tmp_path / "pool"
    folder.mkdir()
    random = np.random.default_rng(3)
    for i in range(12):
        pixels = random.integers(0, 256, (6, 6, 3), np.uint8)
        exif = Image.Exif()
        if i < 3:
            exif.get_ifd(0x8769)[0x9003] = f"2026:05:01 06:30:0{i}"
        Image.fromarray(pixels).resize((40, 40)).save(folder / f"{i:02}.jpg", exif=exif)
    shutil.copy(pictures / "jade" / "00.png", folder / "copy.png")
    return folder


def listed(run: Path) -> list[str]:
    with (run / "next" / "next.csv").open(encoding="utf-8") as table:
        return [row["path"] for row in csv.DictReader(table)]


def test_a_burst_is_asked_once_and_a_copy_never(trained: Run, pool: Path, cli: Cli) -> None:
    answer = cli("next", trained.folder, pool, "--most", "100")
    assert answer.status == 0, answer.err
    assert "1 photograph left out, because the same picture is in the data" in answer.err
    assert "10 photographs to label" in answer.out
    names = {Path(path).name for path in listed(trained.folder)}
    assert len(names & {"00.jpg", "01.jpg", "02.jpg"}) == 1
    assert "copy.png" not in names
    assert len(names) == 10


@pytest.mark.parametrize("balanced", [False, True])
def test_no_more_than_asked(trained: Run, pool: Path, balanced: bool) -> None:
    found = fieldmark.next(trained.folder, pool, most=4, balanced=balanced)
    assert len({one.path for one in found}) == 4
    assert all(one.hints and one.fact.startswith("The model says: ") for one in found)


def test_the_loop(trained: Run, pool: Path, cli: Cli, browser: Browser, tmp_path: Path) -> None:
    """Label, train, and ask again: no path is typed twice, and nothing is asked twice."""
    assert cli("next", trained.folder, pool, "--most", "3").status == 0
    first = listed(trained.folder)
    browser.open(trained.folder / "next" / "index.html")
    browser.press("1", "Enter", "2", "Enter", "d", "s")
    table = browser.downloaded("labels.csv")
    assert [(one.path, one.decision) for one in read_decisions([table])] == list(
        zip(first, ("label", "label", "drop"), strict=True)
    )
    again = cli("next", trained.folder, "--decisions", table, "--most", "100")
    assert again.status == 0, again.err
    assert not set(first) & set(listed(trained.folder))
    answer = cli("train", trained.folder, "--decisions", table, "--out", tmp_path / "second")
    assert answer.status == 0, answer.err
    assert "2 added" in answer.err
    second = Run(tmp_path / "second")
    assert {second.splits()[path] for path in first[:2]} == {"train"}
    assert cli("next", second.folder, "--most", "100").status == 0
    asked = listed(second.folder)
    assert asked
    assert not set(first) & set(asked)


def test_a_list_filled_in_elsewhere_will_do(trained: Run, pool: Path, cli: Cli, tmp_path: Path) -> None:
    fieldmark.next(trained.folder, pool, most=3)
    table = trained.folder / "next" / "next.csv"
    lines = table.read_text(encoding="utf-8").splitlines()
    path, rest = lines[1].split(",,", 1)
    (tmp_path / "mine.csv").write_text("\n".join([lines[0], f"{path},jade,{rest}", *lines[2:]]), encoding="utf-8")
    answer = cli("train", trained.folder, "--decisions", tmp_path / "mine.csv", "--out", tmp_path / "second")
    assert answer.status == 0, answer.err
    assert "Carried out 1 decision: 1 added" in answer.err


def test_labels_that_somebody_wrote_are_never_replaced(trained: Run, pool: Path, cli: Cli) -> None:
    fieldmark.next(trained.folder, pool, most=3)
    table = trained.folder / "next" / "next.csv"
    filled = table.read_text(encoding="utf-8").replace(",,", ",jade,", 1)
    table.write_text(filled, encoding="utf-8")
    answer = cli("next", trained.folder, "--decisions", table, "--most", "3")
    assert answer.status == 0, answer.err
    assert (table.parent / "next-1.csv").read_text(encoding="utf-8") == filled
    assert "give both to --decisions" in " ".join(answer.err.split())
    assert len(listed(trained.folder)) == 3
    fieldmark.next(trained.folder, most=2)  # there are no labels in this one
    assert not (table.parent / "next-2.csv").exists()


def test_when_nothing_is_left(trained: Run, pool: Path, cli: Cli, tmp_path: Path) -> None:
    rows = [f"{file},drop," for file in pool.iterdir()]
    (tmp_path / "all.csv").write_text("\n".join(["path,decision,label", *rows]), encoding="utf-8")
    answer = cli("next", trained.folder, pool, "--decisions", tmp_path / "all.csv")
    assert answer.status == 0
    assert "Nothing is left to label" in answer.err
    assert listed(trained.folder) == []


def test_what_is_not_known_is_asked_for(trained: Run, cli: Cli, tmp_path: Path) -> None:
    assert "does not know which photographs to choose from" in cli("next", trained.folder).complaint
    assert "contains no images" in cli("next", trained.folder, trained.folder / "checkpoints").complaint
    with pytest.raises(DataError, match="must lie in files"):
        fieldmark.next(trained.folder, [Image.new("RGB", (8, 8))])  # type: ignore[list-item]  # what it refuses
    shutil.copytree(trained.bundle, tmp_path / "bundle")
    assert "does not know its training images" in cli("next", tmp_path / "bundle", tmp_path).complaint


def test_damaged_photographs_are_passed_over(trained: Run, pool: Path, cli: Cli) -> None:
    (pool / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    answer = cli("next", trained.folder, pool, "--most", "100")
    assert answer.status == 0, answer.err
    assert "could not be read" in answer.err
    assert "broken.jpg" not in {Path(path).name for path in listed(trained.folder)}
