"""Audit, train, predict and Python take the same pictures from a folder, and say what they leave out."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fieldmark
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import named
from fieldmark.core.errors import DataError, DataWarning, ImageError
from fieldmark.data import formats
from fieldmark.data.cache import build_store
from fieldmark.data.formats import IMAGE_EXTENSIONS
from fieldmark.runs.run import Run
from support.commands import Cli

LEFT_OUT = [
    "2 images in formats that Fieldmark does not read (jade/IMG_1.CR3, jade/scan.jp2)",
    "1 HEIC image, which Fieldmark reads after pip install 'fieldmark[heic]' (jade/IMG_2.HEIC)",
    "3 links that lead nowhere (jade/broken.png, self.png, there)",
    "1 link that leads back to a folder above it (鳥/loop)",
    "1 pipe or device with the name of an image (jade/pipe.png)",
]


@pytest.fixture
def messy(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as people have it, on a machine with Pillow alone."""
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes on this system")
    monkeypatch.setattr(formats, "can_read", lambda extension: extension in IMAGE_EXTENSIONS)
    root = tmp_path / "messy"
    shutil.copytree(pictures / "jade", root / "jade")
    shutil.copytree(pictures / "plum", root / "鳥")
    (root / "amber").symlink_to(pictures / "amber")
    for name in ("IMG_1.CR3", "IMG_2.HEIC", "scan.jp2", "notes.txt"):
        (root / "jade" / name).write_bytes(b"nothing to open")
    for name in (".git", "__MACOSX", "@eaDir"):
        shutil.copytree(pictures / "jade", root / name)
    (root / "jade" / ".hidden.png").touch()
    shutil.move(root / "鳥" / "00.png", tmp_path / "elsewhere.png")
    (root / "鳥" / "コマドリ.png").symlink_to(tmp_path / "elsewhere.png")
    (root / "鳥" / "loop").symlink_to(root)
    (root / "self.png").symlink_to("self.png")
    (root / "there").symlink_to("nowhere")
    (root / "jade" / "broken.png").symlink_to("nowhere.png")
    os.mkfifo(root / "jade" / "pipe.png")
    return root


@pytest.fixture
def expected() -> list[str]:
    numbers = range(14)
    return sorted(
        [f"{name}/{n:02}.png" for name in ("amber", "jade") for n in numbers]
        + [f"鳥/{n:02}.png" for n in numbers[1:]]
        + ["鳥/コマドリ.png"]
    )


def test_audit_and_training(
    messy: Path, expected: list[str], tmp_path: Path, cli: Cli, tiny: Callable[..., list[str]]
) -> None:
    told = f"Left out of {messy}: {'; '.join(LEFT_OUT)}"
    found = fieldmark.audit(messy)
    assert list(found.catalog.paths) == expected
    (read,) = (finding for finding in found if finding.kind == "reading")
    assert [case.note for case in read.cases] == [told]
    answer = cli("train", messy, "--out", tmp_path / "run", *tiny())
    assert answer.status == 0
    assert f"warning: {told}." in answer.err
    assert sorted(row["path"] for row in Run(tmp_path / "run").images()) == expected


def test_answers(messy: Path, expected: list[str], trained: Run, cli: Cli) -> None:
    answer = cli("predict", trained.folder, messy, "--format", "csv")
    assert answer.status == 1
    assert [line.split(",")[0] for line in answer.out.splitlines()[1:]] == [str(messy / path) for path in expected]
    skipped = [line for line in answer.err.splitlines() if not line.startswith("note: ")]
    assert len(skipped) == len(LEFT_OUT)
    for line, reason in zip(skipped, LEFT_OUT, strict=True):
        assert line.startswith(f"skipped: {reason.partition(' (')[0]} ({messy}{os.sep}")


def test_python(messy: Path, expected: list[str], trained: Run) -> None:
    predictor = Predictor.load(trained.folder)
    for answers in (predictor.predict, lambda folder: list(fieldmark.predict(predictor, folder))):
        with pytest.warns(DataWarning) as caught:
            assert [answer.path for answer in answers(messy)] == [str(messy / path) for path in expected]
        assert [str(warning.message).partition(" (")[0] for warning in caught] == [
            f"Left out: {reason.partition(' (')[0]}" for reason in LEFT_OUT
        ]


def test_a_pipe_that_somebody_names_is_said_at_once(messy: Path, trained: Run, cli: Cli, tmp_path: Path) -> None:
    pipe = messy / "jade" / "pipe.png"
    answer = cli("predict", trained.folder, pipe, messy / "jade" / "00.png", messy / "jade" / "p*.png")
    assert answer.status == 1
    assert answer.err.count(f"skipped: {pipe} is not a file.") == 2
    assert answer.out.count("00.png") == 1
    with pytest.raises(ImageError, match="is not a file"):
        Predictor.load(trained.folder).predict(pipe)
    (tmp_path / "lone").mkdir()
    pipe.rename(tmp_path / "lone" / "1.jpg")
    with pytest.raises(DataError, match=r"contains no images, only 1 pipe or device with the name of an image"):
        list(named(tmp_path / "lone"))


def test_a_picture_that_became_a_pipe_is_unreadable(pictures: Path, tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes on this system")
    catalog = fieldmark.read(shutil.copytree(pictures, tmp_path / "data"))
    catalog.file(3).unlink()
    os.mkfifo(catalog.file(3))
    store = build_store(catalog, side=32, keep=np.zeros(len(catalog), bool))
    assert list(store.unreadable) == [3]
    assert "is not a file" in store.unreadable[3]


def test_a_folder_with_a_catalogue_is_what_that_lists(tmp_path: Path, pictures: Path) -> None:
    """Masks and the unknown species of a field guide are no pictures to answer for."""
    for name in ("images", "masks", "unknown"):
        shutil.copytree(pictures / "jade", tmp_path / name)
    (tmp_path / "catalog.csv").write_text("path,label\nimages/00.png,a\nimages/01.png,b\n")
    assert [thing.name for thing in named(tmp_path)] == [
        str(tmp_path / "images" / name) for name in ("00.png", "01.png")
    ]
    assert list(fieldmark.read(tmp_path).paths) == ["images/00.png", "images/01.png"]
    assert len(list(named(tmp_path / "images"))) == 14


def test_folders_that_a_glob_finds_are_folders(pictures: Path, tmp_path: Path) -> None:
    shutil.copytree(pictures / "jade", tmp_path / "one" / "deep")
    shutil.copytree(pictures / "plum", tmp_path / "two")
    assert len(list(named(str(tmp_path / "*")))) == 28
