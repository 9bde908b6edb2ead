"""What commands tell while they work, on a terminal and in a file."""

from __future__ import annotations

import io
import re
import signal
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.console import Console
from rich.markup import render

from fieldmark.cli.terminal import Bars, literal, terminal
from fieldmark.core.listener import Advanced, DataRead, Listener
from fieldmark.core.wording import shown

TRAINING = "Training fold 0"


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True

    @property
    def lines(self) -> list[str]:
        """Everything that was on it at some time."""
        return re.split(r"\r|\n|\x1b\[[0-9;?]*[a-zA-Z]", self.getvalue())


def on(screen: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Listener:
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "xterm")
    return terminal()


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_bar_fits_and_says_speed_and_time_left(width: int) -> None:
    screen = Screen()
    bars = Bars(Console(file=screen, width=width, force_terminal=True, color_system=None))
    for done in (100, 200, 1234):
        bars.show(Advanced(TRAINING, done, 4567, "1,234 images/s"))
    bars.close()
    last = [line for line in screen.lines if line.startswith(TRAINING)][-1]
    assert len(last) <= width
    assert re.fullmatch(r"Training fold 0 .*1234/4567 1,234 images/s (-:--:--|\d:\d\d:\d\d) left *", last)


def test_one_bar_at_a_time_and_none_once_all_is_done() -> None:
    screen = Screen()
    console = Console(file=screen, width=80, force_terminal=True, color_system=None)
    bars = Bars(console)
    bars.show(Advanced("Decoding images", 1, 3))
    bars.show(Advanced(TRAINING, 1, 2))
    bars.show(Advanced(TRAINING, 2, 2))
    bars.close()  # nothing is left to take away
    console.print("the end")
    assert any("Decoding images" in line for line in screen.lines)
    assert any("2/2" in line for line in screen.lines)
    assert "\x1b[?25h" in screen.getvalue()  # the cursor is back
    assert screen.lines[-2:] == ["the end", ""]


def test_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = Screen()
    listener = on(screen, monkeypatch)
    listener.hear(DataRead("birds", 3, 2, description="Catalog('birds': 3 images, 2 classes)"))
    listener.note("[bold]is not markup[/bold]")
    listener.warn("neither is [this]")
    with listener.progress("Decoding images") as tick:
        tick(1, 3)
        tick(3, 3)
    assert "Read Catalog('birds': 3 images, 2 classes)" in screen.lines
    assert "[bold]is not markup[/bold]" in screen.lines
    assert "warning: neither is [this]." in "".join(screen.lines)
    assert re.search(r"Decoding images .*3/3", "".join(screen.lines))


def test_no_bar_and_no_colour_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    listener = on(screen, monkeypatch)
    with listener.progress("Training") as tick:
        tick(1, 2)
    assert screen.getvalue() == ""
    listener.note("a line")
    listener.warn("something.")
    assert screen.getvalue() == "a line\nwarning: something.\n"


def test_ctrl_c_is_a_request_while_work_can_be_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    with on(screen, monkeypatch).stoppable() as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
    assert "Stopping after this step" in screen.getvalue()


@given(st.text("\\[]/ab "), st.text("\\[]/ab "))
@example("rose\\\\\\", "")
@example("[a", "b]")
def test_names_are_shown_as_they_are(first: str, second: str) -> None:
    markup = f"[bold]{literal(first)}[/bold] ↔ {literal(second)}[dim]x[/dim]"
    assert render(markup).plain == f"{shown(first)} ↔ {shown(second)}x"


def test_a_termination_does_not_speak_of_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    with on(screen, monkeypatch).stoppable():
        signal.raise_signal(signal.SIGTERM)
    assert screen.getvalue() == "Stopping after this step.\n"
