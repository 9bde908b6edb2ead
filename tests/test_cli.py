"""The command line without any command: help, misuse, what is imported, how it listens."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tomllib

import pytest
from rich.console import Console

from fieldmark.cli import main
from fieldmark.cli.terminal import bar, interrupt_flag
from fieldmark.commands.train import resolve_recipe
from fieldmark.recipe import Recipe, about_recipe, recipe_names

COMMANDS = ["audit", "draw", "report", "datasets", "recipes", "train", "evaluate", "predict", "compare"]
HEAVY = {"torch", "torchvision", "timm", "sklearn", "scipy", "numpy", "PIL", "pyarrow"}


def answer(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str
) -> tuple[int, str, str]:
    """Status, standard output and standard error of `fieldmark …` at 80 columns."""
    monkeypatch.setattr(sys, "argv", ["fieldmark", *arguments])
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0), *capsys.readouterr()


@pytest.mark.parametrize("how", [["--help"], ["train", "--help"], []], ids=["--help", "train --help", "nothing"])
def test_help_imports_nothing_heavy(how: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "fieldmark", *how]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    assert "Usage: " in done.stdout
    imported = set(re.findall(r"\| +([\w.]+)$", done.stderr, flags=re.MULTILINE))
    assert "fieldmark.cli" in imported
    assert HEAVY & {name.partition(".")[0] for name in imported} == set()


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, fieldmark; dir(fieldmark); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert HEAVY & {name.partition(".")[0] for name in done.stdout.split()} == set()


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=" ".join)
def test_help_fits_eighty_columns(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = answer(monkeypatch, capsys, *command, "--help")
    assert (status, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out
    for word in ("--help", *(COMMANDS if not command else [])):
        assert word in out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["trian"], "No such command 'trian'. Did you mean 'train'? See fieldmark --help."),
        (["train"], "Missing argument 'data'. See fieldmark train --help."),
        (["train", "x", "--epochs", "3"], "No such option: --epochs. It is a key of the recipe: --set train.epochs=…"),
        (["train", "--mix-alpha"], "No such option: --mix-alpha. It is a key of the recipe: --set augment.mix_alpha=…"),
        (["train", "--protocol", "refit"], "No such option: --protocol. It is a key of the recipe: --set protocol=…"),
        (["predict", "x", "--zzz"], "No such option: --zzz. See fieldmark predict --help."),
    ],
)
def test_misuse_is_one_line(
    arguments: list[str], complaint: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert answer(monkeypatch, capsys, *arguments) == (2, "", f"fieldmark: {complaint}\n")


def test_misspelt_options_name_the_right_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments, right in ((["train", "x", "--recip", "y"], "--recipe"), (["predict", "x", "--format=y"], "'json'")):
        status, out, err = answer(monkeypatch, capsys, *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("fieldmark: ")
        assert right in err


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(monkeypatch, capsys, "--version")
    assert status == 0
    assert re.fullmatch(r"fieldmark \d+\.\d+\.\d+\S*\n", out)


def test_no_arguments_are_answered_with_help(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    status, out, err = answer(monkeypatch, capsys)
    assert status == 2
    assert "Usage: fieldmark" in out + err
    assert "fieldmark: " not in err


@pytest.mark.parametrize("width", [60, 80, 160])
def test_the_bar_fits_and_says_speed_and_time_left(width: int) -> None:
    screen = io.StringIO()
    with bar(Console(file=screen, width=width, force_terminal=True, color_system=None), "Training fold 0") as tick:
        for done in (100, 200, 1234):
            tick(done, 4567, note="1,234 images/s")
    lines = re.split(r"\r|\n|\x1b\[[0-9;?]*[a-zA-Z]", screen.getvalue())
    last = [line for line in lines if line.startswith("Training fold 0")][-1]
    assert len(last) <= width
    assert re.fullmatch(r"Training fold 0 .*1234/4567 1,234 images/s (-:--:--|\d:\d\d:\d\d) left *", last)


def test_no_bar_in_a_file() -> None:
    screen = io.StringIO()
    with bar(Console(file=screen, force_terminal=False), "Training") as tick:
        tick(1, 2)
    assert screen.getvalue().strip() == ""


def test_the_first_interrupt_is_a_request_and_the_second_an_order() -> None:
    said: list[str] = []
    before = signal.getsignal(signal.SIGINT)
    with interrupt_flag(said.append) as asked:
        assert not asked()
        signal.raise_signal(signal.SIGINT)
        assert asked()
        assert said == ["Stopping after this step; press Ctrl-C again to end at once."]
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before


def test_recipes_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(monkeypatch, capsys, "recipes")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines() if re.match(r"  \w", line)] == recipe_names()
    assert about_recipe("arcface") in out  # short enough for one line


def test_a_printed_recipe_is_the_recipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(monkeypatch, capsys, "recipes", "snapmix")
    assert status == 0
    assert Recipe.parse(tomllib.loads(out), source="printed") == resolve_recipe("snapmix")
    status, _, err = answer(monkeypatch, capsys, "recipes", "snapmax")
    assert status == 2
    assert "Did you mean 'snapmix'? `fieldmark recipes` lists them" in err
