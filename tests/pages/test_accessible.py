"""Pages that commands write have nothing that a screen reader or weak eyes stumble over, light and dark, on a phone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.runs.run import Run
from support.axe import Barriers
from support.browser import Browser
from support.commands import Cli


@pytest.fixture
def pages(trained: Run, pictures: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """One of each kind but those of the service and of the pocket, which have tests of their own."""
    monkeypatch.chdir(tmp_path)
    run, new = trained.folder, sorted(pictures.rglob("*.png"))[:9]
    asked = (
        (("audit", pictures), f"audits/{pictures.name}/index.html"),
        (("report", run), "trained/report/index.html"),
        (("doubt", run), "trained/doubts/index.html"),
        (("next", run, *new), "trained/next/index.html"),
        (("preview", pictures, "--recipe", "walkthrough"), f"previews/{pictures.name}.html"),
        (("predict", run, *new, "--out", "answers.html"), "answers.html"),
        (("index", run, *new), ""),
        (("search", run, new[0], "--out", "found"), "found/search.html"),
    )
    for command, _ in asked:
        found = cli(*command)
        assert found.status in (0, 1), (command, found.err)
    written = [tmp_path / page for _, page in asked if page]
    assert all(page.is_file() for page in written)
    return written


def test_nothing_stands_in_the_way(pages: list[Path], browser: Browser, barriers: Barriers) -> None:
    for page in pages:
        for width, dark in ((360, True), (1200, False)):
            browser.open(page, width=width, dark=dark)
            assert barriers(browser) == [], (page, width)
