"""The command line without any command: help, misuse, what is imported."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from fieldmark.cli import main
from fieldmark.cli.early import check_data, check_recipes, check_run, following
from fieldmark.cli.predict import _unquoted
from fieldmark.core.errors import FieldmarkError
from fieldmark.core.recipe import Recipe, about_recipe, recipe_names
from fieldmark.learning.fitting.resolve import resolve_recipe

COMMANDS = [
    "audit",
    "backbones",
    "bench",
    "bundle",
    "compare",
    "datasets",
    "doubt",
    "draw",
    "enrol",
    "evaluate",
    "explain",
    "export",
    "index",
    "next",
    "parts",
    "predict",
    "preview",
    "recipes",
    "report",
    "retrieve",
    "search",
    "serve",
    "shards",
    "train",
    "verify",
]
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


@pytest.mark.parametrize(
    ("command", "complaint"),
    [
        ("train nowhere", "There is nothing at "),
        ("train bare", "No data found at "),
        ("audit bare/class", "No data found at "),
        ("train data --recipe fintune", "There is no recipe 'fintune'"),
        ("train data --set train.epoch=3", "--set: there is no key 'train.epoch'"),
        ("train data --backbone resnet999", "There is no backbone 'resnet999' in timm"),
        ("train data --weights missing.safetensors", "The weights file missing.safetensors does not exist"),
        ("train data --out data", "data is not empty, and Fieldmark did not make it for a run: it holds a.csv"),
        ("compare nowhere --recipes probe", "There is nothing at "),
        ("predict nowhere a.jpg", "nowhere is neither a finished run nor a bundle"),
    ],
)
def test_common_mistakes_are_found_before_torch_is_imported(command: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "bare" / "class").mkdir(parents=True)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.csv").write_text("path,label\n")
    started = [sys.executable, "-X", "importtime", "-m", "fieldmark", *command.split()]
    err = subprocess.run(started, capture_output=True, text=True, cwd=tmp_path).stderr
    assert f"fieldmark: {complaint}" in err
    assert not re.search(r"\| +(torch|timm)$", err, flags=re.MULTILINE)
    assert not (tmp_path / "runs").exists()


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
    for arguments, right in (
        (["train", "x", "--recip", "y"], "--recipe"),
        (["predict", "x", "--format=y"], "csv, json"),
    ):
        status, out, err = answer(monkeypatch, capsys, *arguments)
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert err.startswith("fieldmark: ")
        assert right in err


def test_a_lack_of_memory_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Of whatever command, where nothing nearer to it says more."""

    def full(**_: object) -> int:
        return len(bytes(2**62))

    def wrong(**_: object) -> int:
        raise RuntimeError("must match")

    module = sys.modules["fieldmark.cli.main"]
    monkeypatch.setattr(module, "_command", lambda: full)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert told.startswith("fieldmark: Memory does not suffice.")
    monkeypatch.setattr(module, "_command", lambda: wrong)
    with pytest.raises(RuntimeError, match="must match"):
        main()


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


def test_recipes_are_listed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(monkeypatch, capsys, "recipes")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines() if re.match(r"  \w", line)] == recipe_names()
    assert about_recipe("mixup") in out  # short enough for one line


def test_a_printed_recipe_is_the_recipe(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = answer(monkeypatch, capsys, "recipes", "snapmix")
    assert status == 0
    assert Recipe.parse(tomllib.loads(out), source="printed") == resolve_recipe("snapmix")
    status, _, err = answer(monkeypatch, capsys, "recipes", "snapmax")
    assert status == 2
    assert "Did you mean 'snapmix'? `fieldmark recipes` lists them" in err


def test_names_that_are_too_long_for_a_file_system() -> None:
    long = "x" * 300
    with pytest.raises(FieldmarkError, match=r"neither a finished run nor a bundle|cannot be read"):
        check_run(Path(long))
    with pytest.raises(FieldmarkError):
        check_data(Path(long), None)
    with pytest.raises(FieldmarkError, match="does not exist"):
        check_recipes(["finetune"], weights=long)
    assert _unquoted(f"'{long}'") == long


@pytest.mark.parametrize(
    ("run", "there", "free", "resumed"),
    [
        ("birds", [], "birds-2", "birds-2"),
        ("birds", ["birds-2", "birds-3"], "birds-4", "birds-3"),
        ("birds-2", [], "birds-3", "birds-3"),
        ("birds-2", ["birds-3"], "birds-4", "birds-3"),
        ("birds-2026", [], "birds-2026-2", "birds-2026-2"),
        ("-2", [], "-2-2", "-2-2"),
    ],
)
def test_a_run_is_followed_by_the_next_that_is_free(
    run: str, there: list[str], free: str, resumed: str, tmp_path: Path
) -> None:
    for name in (run, *there):
        (tmp_path / name).mkdir()
    assert following(tmp_path / run, resume=False) == tmp_path / free
    assert following(tmp_path / run, resume=True) == tmp_path / resumed


def test_a_run_in_place_of_data_is_no_data(tmp_path: Path) -> None:
    for name in ("environment.json", "recipe.toml"):
        (tmp_path / name).touch()
    with pytest.raises(FieldmarkError, match="is a run, and data is what it was trained on"):
        check_data(tmp_path, None)
