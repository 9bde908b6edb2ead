"""`--columns`: every command that reads a table reads one with other names, and a run remembers them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fieldmark.data.readers.table import read_table
from fieldmark.runs.run import Run
from support.commands import Cli

COLUMNS = ("--columns", "path=file,label=bird")


@pytest.fixture
def table(pictures: Path, tmp_path: Path) -> Path:
    """The class folders `pictures` as a table of other names."""
    rows = [f"{file};{file.parent.name}" for file in sorted(pictures.glob("*/*.png"))]
    (tmp_path / "birds.csv").write_text("\n".join(["file;bird", *rows]) + "\n")
    return tmp_path / "birds.csv"


def test_every_command(
    table: Path, tmp_path: Path, cli: Cli, tiny: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    complaint = cli("train", table, *tiny(), "--out", "run").complaint
    assert "has no columns 'path' and 'label'" in complaint
    assert "--columns path=file,label=NAME" in complaint
    assert cli("train", table, *COLUMNS, *tiny(), "--out", "run").status == 0
    assert Run("run").data()["columns"] == {"path": "file", "label": "bird"}
    assert cli("evaluate", "run").status == 0, "a run remembers"
    assert cli("evaluate", "run", table).status == 0
    table.rename(tmp_path / "moved.csv")
    assert "--columns" in cli("evaluate", "run", "moved.csv").complaint
    assert cli("evaluate", "run", "moved.csv", *COLUMNS).status == 0
    assert cli("report", "run", "moved.csv").status == 0
    answer = cli("predict", "run", "moved.csv", "--columns", "path=file", "--format", "csv")
    assert len(answer.out.splitlines()) == 1 + len(read_table(tmp_path / "moved.csv", Run("run").data()["columns"]))
    assert cli("audit", "moved.csv", *COLUMNS).status in (0, 1)
    assert cli("preview", "moved.csv", *COLUMNS).status == 0


def test_a_comparison_reads_a_table_of_its_own(
    table: Path, tmp_path: Path, cli: Cli, tiny: Callable[..., list[str]]
) -> None:
    settings = [one for one in tiny() if one.startswith("--set")]
    answer = cli(
        "compare", table, *COLUMNS, "--recipes", "walkthrough", "--seeds=1", "--out", tmp_path / "c", *settings
    )
    assert answer.status == 0, answer.err
    assert len(read_table(tmp_path / "c" / "data" / "birds.csv"))
