"""Nothing is taken for Fieldmark's own by its name, and a folder is held by one process from the first instant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fieldmark.core.claims import check_replaceable, claim, claimed, contents, fill
from fieldmark.core.errors import RunError, StorageError
from fieldmark.pages.page import render

BUSY = RunError("in use")
MARK = "Fieldmark made this folder for a run, and replaces its own files in it.\n"
START = """
import sys
from pathlib import Path
from fieldmark.core.claims import claimed
from fieldmark.core.errors import FieldmarkError, RunError
print("ready", flush=True)
while folder := sys.stdin.readline().strip():
    try:
        with claimed(Path(folder), "a run", busy=RunError("in use")):
            (Path(folder) / "taken").touch()
            print("held", flush=True)
            sys.stdin.readline()
    except FieldmarkError as error:
        print(error, flush=True)
        sys.stdin.readline()
"""


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b"" for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("thesis.docx", ""),
        ("recipe.toml", "seed = 1"),
        ("environment.json", "{}"),
        (".lock", "1234"),
        (".fieldmark", "mine"),
        (".fieldmark", MARK.replace("a run", "an audit")),
        (".lock/inside", ""),
    ],
)
def test_a_folder_that_is_not_ours_is_refused_untouched(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    before = snapshot(tmp_path)
    with (
        pytest.raises(
            StorageError, match=r"is not empty, and Fieldmark did not make it for a run: it holds "
        ) as caught,
        claimed(tmp_path, "a run", busy=BUSY),
    ):
        pass
    assert str(caught.value).endswith("Choose a new folder, or an empty one, with --out.")
    with pytest.raises(StorageError):
        claim(tmp_path, "a run")
    assert snapshot(tmp_path) == before


def test_a_folder_is_marked_and_known_again(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with claimed(folder, "a run", busy=BUSY):
        assert (folder / ".fieldmark").read_text() == MARK
        (folder / "recipe.toml").touch()
    with claimed(folder, "a run", busy=BUSY):
        assert contents(folder) == [folder / "recipe.toml"]
    claim(tmp_path / "scores", "scores")
    (tmp_path / "scores" / "a").touch()
    claim(tmp_path / "scores", "scores")
    with pytest.raises(StorageError, match="did not make it for an audit: it holds a"):
        claim(tmp_path / "scores", "an audit")


def test_a_folder_without_its_mark_may_be_known_otherwise(tmp_path: Path) -> None:
    (tmp_path / "recipe.toml").touch()
    with claimed(tmp_path, "a run", busy=BUSY, known=(tmp_path / "recipe.toml").is_file):
        assert (tmp_path / ".fieldmark").read_text() == MARK


@pytest.mark.parametrize("files", [{}, {".lock": ""}, {".lock": "", ".fieldmark": MARK[:9]}, {".DS_Store": "x"}])
def test_what_a_killed_start_or_the_system_left_is_no_hindrance(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with claimed(tmp_path, "a run", busy=BUSY):
        assert (tmp_path / ".fieldmark").read_text() == MARK
        (tmp_path / "a").touch()
    assert (tmp_path / ".fieldmark").is_file()


def test_where_nothing_was_written_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".DS_Store").touch()
    for name in ("new", "empty"):
        with pytest.raises(KeyError), claimed(tmp_path / name, "a run", busy=BUSY):
            raise KeyError
    assert list(snapshot(tmp_path)) == ["empty", "empty/.DS_Store"]


def test_of_processes_that_start_at_once_one_holds_the_folder_and_the_others_are_told(tmp_path: Path) -> None:
    """Several rounds: in a folder that is not there, in one that is empty, and in one that a killed start left."""
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    started = [subprocess.Popen([sys.executable, "-c", START], **pipes) for _ in range(3)]

    def told(line: str) -> None:
        for process in started:
            process.stdin.write(f"{line}\n")
            process.stdin.flush()

    def heard() -> list[str]:
        return sorted(process.stdout.readline().strip() for process in started)

    assert heard() == ["ready"] * 3
    for number, made in enumerate(["absent", "empty", "torn"] * 10):
        folder = tmp_path / f"{made}{number}"
        if made != "absent":
            folder.mkdir()
        if made == "torn":
            (folder / ".lock").touch()
        told(str(folder))
        assert heard() == ["held", "in use", "in use"], made
        told("end")
        assert contents(folder) == [folder / "taken"]
    told("")
    for process in started:
        process.communicate(timeout=60)


def test_a_file_of_the_users_own_is_not_replaced(tmp_path: Path) -> None:
    page, beside = tmp_path / "index.html", tmp_path / "index.json"
    check_replaceable(page, beside)
    beside.write_text("{}")
    with pytest.raises(
        StorageError, match=r"index\.json is in the way: Fieldmark did not write it, and does not replace"
    ):
        check_replaceable(page, beside)
    page.write_text("<!doctype html><title>All about the Fieldmark of a bird</title>")
    with pytest.raises(StorageError, match=r"index\.html is in the way"):
        check_replaceable(page, beside)
    page.write_text('<meta name="generator" content="Fieldmark">')
    check_replaceable(page, beside)


def test_a_folder_that_is_filled_holds_nothing_else(tmp_path: Path) -> None:
    folder, photograph = tmp_path / "page", tmp_path / "photograph"
    photograph.write_bytes(b"a photograph")
    claim(folder, "a page")
    fill(folder, {"index.html": b"one", "examples/0.jpg": photograph, "runtime/a.js": b"a"})
    (folder / ".git").mkdir()
    (folder / ".git" / "HEAD").write_text("mine")
    (folder / "Thumbs.db").touch()
    (folder / "elsewhere").symlink_to(tmp_path)
    fill(folder, {"index.html": b"another", "runtime/b.js": b"b"})
    assert {str(path) for path in snapshot(folder)} == {
        ".fieldmark", ".git", ".git/HEAD", "Thumbs.db", "index.html", "runtime", "runtime/b.js"
    }  # fmt: skip
    assert (folder / "index.html").read_bytes() == b"another"
    assert photograph.read_bytes() == b"a photograph", "links are not followed"
    fill(folder, {"examples/0.jpg": photograph})
    assert (folder / "examples" / "0.jpg").read_bytes() == b"a photograph"
    assert not (folder / "runtime").exists()


def test_pages_are_signed(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(render("base.html"))
    check_replaceable(tmp_path / "page.html")
