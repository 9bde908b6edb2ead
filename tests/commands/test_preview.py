"""`fieldmark preview`: where its page goes, and what it leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.commands import Cli

SMALL = "--set=images.size=32"


def test_a_page_of_ones_own_is_not_replaced(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cli
) -> None:
    monkeypatch.chdir(tmp_path)
    page = Path("previews") / f"{pictures.name}.html"
    page.parent.mkdir()
    page.write_text("mine")
    complaint = cli("preview", pictures, SMALL).complaint
    assert complaint.startswith(f"{page} is in the way: Fieldmark did not write it, and does not replace it")
    assert page.read_text() == "mine"
    page.unlink()
    for _ in range(2):  # its own page is replaced
        answer = cli("preview", pictures, SMALL)
        assert (answer.status, answer.err.splitlines()[-1]) == (0, f"Wrote {page}")
    page.write_text("mine")
    assert "is in the way" in cli("preview", pictures, SMALL, "--out", page).complaint  # also where it is named
    assert page.read_text() == "mine"
