"""Which files in a folder are pictures: one walk, whatever lies in wait there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from fieldmark.core.errors import DataError
from fieldmark.data import formats
from fieldmark.data.decode import measure, orientation
from fieldmark.data.formats import HEIC_EXTENSIONS, IMAGE_EXTENSIONS, RAW_EXTENSIONS, can_read
from fieldmark.data.scan import (
    LeftOut,
    holds_images,
    is_ignored,
    is_image_name,
    matching,
    scan,
)
from support.files import lay


def pipe(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("no pipes on this system")
    os.mkfifo(path)


def without_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine with Pillow alone."""
    monkeypatch.setattr(formats, "can_read", lambda extension: extension in IMAGE_EXTENSIONS)


def test_what_is_a_picture_and_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_libraries(monkeypatch)
    lay(tmp_path, "b/2.JPG", "b/10.tif", "a.png", "notes.txt", "b/jpg", "b/IMG.HEIC", "b/IMG.CR3", "b/old.jp2")
    found = scan(lay(tmp_path, "鳥/コマドリ.webp", "empty/deep/readme.md", "b/.hidden.jpg", "a.jpg.txt"))
    assert found.paths == ["a.png", "b/10.tif", "b/2.JPG", "鳥/コマドリ.webp"]
    assert found.images == {(): ["a.png"], ("b",): ["10.tif", "2.JPG"], ("鳥",): ["コマドリ.webp"]}
    assert found.empty == [("empty",)]
    assert found.left_out == {LeftOut.FORMAT: ["b/IMG.CR3", "b/old.jp2"], LeftOut.HEIC: ["b/IMG.HEIC"]}
    assert found.reasons("new") == [
        "2 images in formats that Fieldmark does not read (new/b/IMG.CR3, new/b/old.jp2)",
        "1 HEIC image, which Fieldmark reads after pip install 'fieldmark[heic]' (new/b/IMG.HEIC)",
    ]


def test_what_the_decoder_reads_is_a_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "can_read", lambda extension: True)
    assert scan(lay(tmp_path, "a.heic", "b.NEF", "c.jpg")).paths == ["a.heic", "b.NEF", "c.jpg"]
    assert is_image_name("a.heic")


def test_every_extension_of_an_image_has_a_decoder() -> None:
    assert [extension for extension in sorted(IMAGE_EXTENSIONS) if not can_read(extension)] == []
    assert not can_read("jp2")
    assert not can_read("")
    assert not IMAGE_EXTENSIONS & (HEIC_EXTENSIONS | RAW_EXTENSIONS)


@pytest.mark.parametrize(
    "folder", [".git", "__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found", "#recycle"]
)
def test_hidden_and_system_folders_are_passed_over(tmp_path: Path, folder: str) -> None:
    found = scan(lay(tmp_path, "a/1.jpg", f"{folder}/2.jpg", f"a/{folder}/3.jpg", "a/._1.jpg"))
    assert found.paths == ["a/1.jpg"]
    assert not found.left_out
    assert not found.empty
    assert is_ignored(folder)
    assert scan(tmp_path / folder).paths == ["2.jpg"]  # who names it, means it


def test_links_are_followed_and_each_folder_is_read_once(tmp_path: Path) -> None:
    lay(tmp_path / "elsewhere", "9.jpg", "deep/8.jpg")
    data = lay(tmp_path / "data", "m/1.jpg", "z/2.jpg")
    (data / "a").symlink_to(data / "z")  # comes first by its name, but the folder lies in z
    (data / "m" / "loop").symlink_to(data)
    (data / "outside").symlink_to(tmp_path / "elsewhere")
    (data / "m" / "linked.jpg").symlink_to(tmp_path / "elsewhere" / "9.jpg")
    found = scan(data)
    assert found.paths == ["m/1.jpg", "m/linked.jpg", "outside/9.jpg", "outside/deep/8.jpg", "z/2.jpg"]
    assert found.left_out == {LeftOut.TWICE: ["a"], LeftOut.LOOP: ["m/loop"]}
    assert found.reasons("data") == [
        "1 link that leads back to a folder above it (data/m/loop)",
        "1 link to a folder that is read anyway (data/a)",
    ]
    assert scan(data / "m").paths == ["1.jpg", "linked.jpg"]  # not what lies beside it
    assert scan(data / "m").left_out == {LeftOut.LOOP: ["loop"]}
    assert scan(data / "a").paths == ["2.jpg"]


def test_many_folders_that_all_link_to_each_other_are_read_once(tmp_path: Path) -> None:
    names = [f"{number:02}" for number in range(12)]  # 12! ways through them
    lay(tmp_path, *(f"{name}/1.jpg" for name in names))
    for name in names:
        for other in names:
            (tmp_path / name / f"to {other}").symlink_to(tmp_path / other)
    found = scan(tmp_path)
    assert found.paths == [f"{name}/1.jpg" for name in names]
    assert {why: len(paths) for why, paths in found.left_out.items()} == {LeftOut.TWICE: 132, LeftOut.LOOP: 12}


def test_a_link_to_itself_costs_that_link(tmp_path: Path) -> None:
    lay(tmp_path, "a/1.jpg")
    for name, target in (("self", "self"), ("there", "back"), ("back", "there"), ("a/gone.jpg", "nowhere")):
        (tmp_path / name).symlink_to(tmp_path / target)
    found = scan(tmp_path)
    assert found.paths == ["a/1.jpg"]
    assert found.left_out == {LeftOut.LINK: ["back", "self", "there", "a/gone.jpg"]}
    assert found.reasons() == ["4 links that lead nowhere (a/gone.jpg, back, self and 1 more)"]


def test_a_pipe_is_named_and_never_opened(tmp_path: Path) -> None:
    pipe(lay(tmp_path, "1.jpg") / "pipe.jpg")
    pipe(tmp_path / "pipe")
    (tmp_path / "link.png").symlink_to(tmp_path / "pipe")
    found = scan(tmp_path)
    assert found.paths == ["1.jpg"]
    assert found.left_out == {LeftOut.NO_FILE: ["link.png", "pipe.jpg"]}
    assert measure(tmp_path / "pipe.jpg") is None
    assert orientation(tmp_path / "pipe.jpg") == 1


def test_folders_deeper_than_calls_may_be(tmp_path: Path) -> None:
    folders = [tmp_path.joinpath(*["d"] * depth) for depth in range(1, 1201)]
    try:
        for folder in folders:
            folder.mkdir()
        assert scan(lay(folders[-1], "1.jpg").parents[1199]).paths == ["d/" * 1200 + "1.jpg"]
    finally:  # pytest itself could not remove them
        (folders[-1] / "1.jpg").unlink()
        for folder in reversed(folders):
            folder.rmdir()


def test_the_first_image_of_a_folder_ends_the_look(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "a/1.txt", "b/2.jpg", "c/3.jpg", "none/deep/notes.txt")
    read, scandir = list[str](), os.scandir

    def noted(folder: str) -> Iterator[os.DirEntry[str]]:
        read.append(os.path.basename(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", noted)
    assert holds_images(tmp_path)
    assert read == [tmp_path.name, "a", "b"]
    assert not holds_images(tmp_path / "none")


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read the folder .*gone: No such file or directory"):
        scan(tmp_path / "gone")
    with pytest.raises(DataError, match="Cannot read the folder"):
        holds_images(tmp_path / "gone")


# Globs ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lay(tmp_path, "new/1.jpg", "new/a/2.jpg", "new/a/b/3.jpg", "new/a/b/4.png", "new/notes.txt", "other/a/5.jpg")
    lay(tmp_path, "new/.git/6.jpg", "new/@eaDir/7.jpg", "new/a/__MACOSX/8.jpg", "[x]/9.jpg")
    (tmp_path / "new" / "a" / "loop").symlink_to(tmp_path / "new")
    (tmp_path / "new" / "a" / "gone.jpg").symlink_to(tmp_path / "nowhere")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("new/*.jpg", ["new/1.jpg"]),
        ("new/*", ["new/1.jpg", "new/a", "new/notes.txt"]),
        ("*/a/*.jpg", ["new/a/2.jpg", "new/a/gone.jpg", "other/a/5.jpg"]),
        ("new/*/7.jpg", []),
        ("new/@ea*/7.jpg", []),
        ("new/.g*/6.jpg", ["new/.git/6.jpg"]),
        ("new/**/*.jpg", ["new/1.jpg", "new/a/2.jpg", "new/a/b/3.jpg", "new/a/gone.jpg"]),
        ("new/**", ["new/1.jpg", "new/a/2.jpg", "new/a/b/3.jpg", "new/a/b/4.png", "new/a/gone.jpg", "new/notes.txt"]),
        ("new/**/b/*", ["new/a/b/3.jpg", "new/a/b/4.png"]),
        ("new/**/a/**/*.png", ["new/a/b/4.png"]),
        ("**/[45].*", ["new/a/b/4.png", "other/a/5.jpg"]),
        ("*/**/[25].jpg", ["new/a/2.jpg", "other/a/5.jpg"]),
        ("[[]x]/*.jpg", ["[x]/9.jpg"]),
        ("none/**/*.jpg", []),
    ],
)
def test_globs(tree: Path, pattern: str, expected: list[str]) -> None:
    assert [Path(path).as_posix() for path in matching(pattern)] == expected
    assert matching(str(tree / pattern)) == [str(tree / path) for path in expected]


def test_a_glob_from_the_top(tree: Path) -> None:
    name = tree.parts[1]
    assert matching(f"/{name[:-1]}?/{'/'.join(tree.parts[2:])}/new/**/4.png") == [str(tree / "new/a/b/4.png")]


def test_a_picture_has_a_size(tmp_path: Path) -> None:
    Image.new("RGB", (30, 20)).save(tmp_path / "1.png")
    assert measure(tmp_path / "1.png") == (30, 20)


def test_drives_that_number_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lay(tmp_path, "a/1.jpg", "a/b/2.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "a")
    stat = os.stat

    def unnumbered(path: Path | str, **options: bool) -> os.stat_result:
        fields = list(stat(path, **options))
        fields[1] = 0
        return os.stat_result(fields)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", unnumbered)
        found = scan(tmp_path)
    assert found.paths == ["a/1.jpg", "a/b/2.jpg"]
    assert found.left_out == {LeftOut.TWICE: ["link"]}
