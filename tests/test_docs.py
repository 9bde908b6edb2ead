"""What the documentation says exists: links, options, keys of recipes. Its commands run; the site builds."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import typer
from pydantic import BaseModel

from fieldmark.cli.main import app
from fieldmark.core.recipe import Choice, Recipe
from fieldmark.model.auxiliaries.auxiliary import AUXILIARIES
from fieldmark.model.heads.classifier import CLASSIFIERS
from fieldmark.model.losses.loss import LOSSES
from fieldmark.model.method import METHODS
from fieldmark.model.necks.neck import NECKS
from support.commands import Cli
from support.markdown import ROOT, Code, Page, pages

EVERY = pages("*.md", "docs/**/*.md", "benchmarks/README.md")
FOR_USERS = pages("README.md", "docs/**/*.md")
WALKED = pages("README.md", "docs/start.md", "docs/trades/*.md")

COMMANDS = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]  # it is a group
OPTIONS = {
    name: {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    | {"--help"}
    for name, command in COMMANDS.items()
}
REGISTRIES = {"method": METHODS, "neck": NECKS, "head": CLASSIFIERS, "loss": LOSSES, "auxiliary": AUXILIARIES}
_SECTION = "|".join(Recipe.model_fields)
_KEY = re.compile(rf"(?<![\w./-])({_SECTION})\.(?!csv|txt)([a-z_]+)(?![\w./(])")
_SET = re.compile(r"--set '?([a-z_.]+)=")


def _named(pages: list[Page]) -> Any:
    return pytest.mark.parametrize("page", pages, ids=str)


@_named(EVERY)
def test_links_lead_somewhere(page: Page) -> None:
    broken = [f"{link.where}: {link.text}" for link in page.links if not _leads(page, unquote(link.text))]
    assert not broken, broken


def _leads(page: Page, target: str) -> bool:
    if target.startswith(("https://", "http://", "mailto:")):
        return True
    name, _, anchor = target.partition("#")
    path = page.path.parent / name if name else page.path
    return path.exists() and (not anchor or anchor in Page(path).anchors)


@_named(FOR_USERS)
def test_options_exist(page: Page) -> None:
    anywhere = set().union(*OPTIONS.values(), {"--version"})
    unknown = [
        f"{line.where}: {option}"
        for code in (*page.blocks, *page.spans)
        for line in code.lines
        for option in _options(line)
        if option not in OPTIONS.get(_command(line), anywhere)
    ]
    assert not unknown, unknown


def _command(line: Code) -> str:
    words = line.text.split()
    return words[1] if len(words) > 1 and words[0] == "fieldmark" else ""


def _options(line: Code) -> list[str]:
    """The options in a command of Fieldmark, or in code that is nothing but options."""
    if not line.text.startswith(("fieldmark ", "--")):
        return []
    return re.findall(r"(?<!\S)--[a-z][a-z-]*", line.text.partition("#")[0])


@_named([page for page in FOR_USERS if page.path.name != "plugins.md"])  # its pieces are invented
def test_recipe_keys_exist(page: Page) -> None:
    unknown = [
        f"{line.where}: {key}"
        for code in (*page.blocks, *page.spans)
        for line in code.lines
        for key in _keys(line.text)
        if not _is_key(key)
    ]
    assert not unknown, unknown


def _keys(text: str) -> set[str]:
    return {f"{section}.{key}" for section, key in _KEY.findall(text)} | set(_SET.findall(text))


def _is_key(key: str) -> bool:
    section, _, name = key.partition(".")
    info = Recipe.model_fields.get(section)
    if info is None or not name:
        return info is not None
    if info.annotation is Choice:
        registry = REGISTRIES[section]
        return name == "name" or any(name in registry.options(piece) for piece in registry)
    return name.partition(".")[0] in getattr(info.annotation, "model_fields", ())


def test_every_key_says_what_it_means() -> None:
    silent = [name for name, text in _texts_of(Recipe).items() if not text]
    assert not silent, silent


def _texts_of(model: type[BaseModel]) -> dict[str, str]:
    """The string after each field of a model and of its sections. Pieces say it in their own modules."""
    body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0]
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for node, after in zip(body.body, [*body.body[1:], None], strict=True):
        if not isinstance(node, ast.AnnAssign):
            continue
        name = ast.unparse(node.target)
        kind = model.model_fields[name].annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            texts |= {f"{name}.{key}": text for key, text in _texts_of(kind).items()} if kind is not Choice else {}
        else:
            is_text = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
            texts[name] = after.value.value if is_text else ""
    return texts


# Commands -------------------------------------------------------------------------------------------------------------

QUICK = {
    "draw": ["--size", "64", "--images", "16"],
    "train": ["--set", "images.size=32", "--set", "train.epochs=1", "--backbone", "test_resnet", "--weights", "none"],
    "--sensitivity": ["--sensitivity", "0.8"],  # few images cannot carry more
}
"""What is added to commands that have such a word, so that they take a second. The last of equal options counts."""


def _walk(page: Page, cli: Cli, more: dict[str, list[str]]) -> None:
    """Run the commands of a page in order, in the current folder.

    A block after a comment <!-- not run: why --> is left out. Where a status other than 0 is right, the command says so
    in its comment.
    """
    for block in page.blocks:
        if block.note.startswith("<!-- not run: "):
            continue
        for line in block.commands:
            words = shlex.split(line.text.partition(" > ")[0], comments=True)[1:]
            extra = [word for key, added in more.items() if key in words for word in added]
            answer = cli(*words, *extra)
            wanted = re.search(r"# .*exit status (\d)", line.text)
            assert answer.status == int(wanted[1] if wanted else 0), f"{line.where}: {line.text}\n{answer.err}"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _bring_photographs(folder: Path, pictures: Path) -> None:
    """What the README takes for granted."""
    shutil.copytree(pictures, folder / "photographs")
    (folder / "new").mkdir()
    for file in sorted(pictures.glob("*/00.png")):
        shutil.copy(file, folder / "new" / f"{file.parent.name}.jpg")


@_named([page for page in WALKED if page.path.parent.name != "trades" or page.path.stem == "wildlife"])
def test_commands_run(page: Page, cli: Cli, folder: Path, pictures: Path) -> None:
    """Those of the other trades are walked by the slow test, which takes them as they are written."""
    assert any(True for block in page.blocks for _ in block.commands)
    if page.path.parent == ROOT:
        _bring_photographs(folder, pictures)
    _walk(page, cli, QUICK)


@pytest.mark.slow
@_named([page for page in WALKED if page.path.parent != ROOT])
def test_commands_run_as_they_are_written(page: Page, cli: Cli, folder: Path) -> None:
    _walk(page, cli, {})


# The site -------------------------------------------------------------------------------------------------------------


def test_the_site_builds(tmp_path: Path) -> None:
    pytest.importorskip("myst_parser", reason="the site needs the extra fieldmark[docs]")
    pytest.importorskip("furo", reason="the site needs the extra fieldmark[docs]")
    options = ["--builder", "dummy", "--fail-on-warning", "--keep-going", "--quiet"]
    command = [sys.executable, "-m", "sphinx", *options, str(ROOT / "docs"), str(tmp_path)]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.returncode == 0, told.stderr
