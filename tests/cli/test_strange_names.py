"""Names that would move the cursor, colour a line, break it or turn it round are shown, not obeyed."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from fieldmark.cli.terminal import literal, say
from fieldmark.core.errors import DataWarning
from fieldmark.core.listener import DataRead, Listener, Note, PlainLog
from fieldmark.core.storage import as_json
from fieldmark.core.wording import OBEYED, brief, shown
from fieldmark.data.names import normal
from support.commands import Cli

NAME = "\x1b[2J[bold]x[/bold]:bird:\nok\u202e"
SHOWN = r"\x1b[2J[bold]x[/bold]:bird:\nok\u202e"


def test_shown() -> None:
    assert shown(NAME) == SHOWN
    assert shown("\x00\t\r\x7f\x85\x9b\u2028\u2066") == r"\x00\t\r\x7f\x85\x9b\u2028\u2066"
    for plain in ("Straßenkötergrün", "白腹隼雕", "عقاب", "C:\\new", "[red]", "\u200f"):
        assert shown(plain) == plain


@given(st.text())
def test_what_is_shown_is_one_line_that_commands_nothing(text: str) -> None:
    assert not OBEYED.search(shown(text))
    assert len(shown(text).splitlines()) <= 1
    assert json.loads(as_json(text)) == text
    assert not OBEYED.search(as_json(text))


def test_brief() -> None:
    assert brief([1, "a"]) == "[1, 'a']"
    assert brief("x" * 1000) == "'" + "x" * 78 + "…"
    assert brief(1 << 100_000) == "a value of type int"
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert brief(deep) == "a value of type list"


def test_a_console_shows_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(width=80, emoji=False, highlight=False)
    console.print(literal(NAME))
    table = Table(literal(NAME))
    table.add_row(literal(NAME))
    console.print(table)
    say(NAME)
    printed, told = capsys.readouterr()
    assert printed.count(SHOWN) == 3
    assert told == f"{SHOWN}\n"


def test_a_log_and_a_warning_show_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    log = PlainLog(sys.stderr)
    log.hear(Note(NAME))
    log.hear(DataRead("x", 1, 1, description=NAME))
    assert capsys.readouterr().err == f"{SHOWN}\nRead {SHOWN}\n"
    with pytest.warns(DataWarning) as caught:
        Listener().warn(NAME)
    assert str(caught[0].message) == SHOWN


@pytest.fixture
def table(pictures: Path, tmp_path: Path) -> Path:
    """`pictures` in a table, with another name for one of the classes."""
    path = tmp_path / "table.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "label", "split"])
        for picture in sorted(pictures.rglob("*.png")):
            label = picture.parent.name
            split = "test" if int(picture.stem) > 9 else ""
            writer.writerow([picture, NAME if label == "amber" else label, split or "train"])
    return path


@pytest.mark.filterwarnings("ignore:Glyph")  # of the font of a drawing
def test_every_command_shows_a_class_as_it_is(table: Path, pictures: Path, tmp_path: Path, cli: Cli, tiny: Cli) -> None:
    run, picture = tmp_path / "run", pictures / "amber" / "00.png"
    answers = [cli("train", table, *tiny(), "--out", run)]
    assert answers[0].status == 0
    answers.append(cli("audit", table, "--out", tmp_path / "audit", columns=300))
    answers.append(cli("evaluate", run, columns=300))
    answers.append(cli("predict", run, picture, columns=300))
    answers.append(cli("predict", run, picture, "--format=json"))
    answers.append(cli("explain", run, picture, "--out", tmp_path / "why", columns=300))
    answers.append(cli("predict", run, picture, "--among", tmp_path / f"{NAME.partition('[/')[0]}.txt"))
    for answer in answers:
        assert OBEYED.findall((answer.out + answer.err).replace("\n", "")) == []
    assert all(shown(normal(NAME)) in answer.out for answer in (answers[3], answers[5]))
    assert normal(NAME) in {one["label"] for one in json.loads(answers[4].out)["candidates"]}
    assert answers[6].status == 2
    assert r"\x1b[2J[bold]x" in answers[6].err
