"""Corrections survive a crash, and nobody fills the disk with them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

from fieldmark.data.decisions import read_decisions
from fieldmark.data.formats import extension_of
from fieldmark.serving.corrections import Corrections
from fieldmark.serving.refusal import Refusal


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "corrections.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_what_a_crash_left_of_a_row_goes(tmp_path: Path) -> None:
    kept = Corrections(tmp_path, keep_pictures=True)
    kept.add(b"one", ".jpg", "dunnock", "wren")
    whole = (tmp_path / "corrections.csv").read_bytes()
    for end in (b"2026-11-", b'2026-11-02,"abc', b"2026-11-02,abc,dunnock,wren,\xc3"):
        (tmp_path / "corrections.csv").write_bytes(whole + end)
        Corrections(tmp_path, keep_pictures=True).add(b"two", ".png", 'a "bird",\nor none', "Étourneau")
        first, second = rows(tmp_path)
        assert (first["said"], first["label"]) == ("dunnock", "wren")
        assert (second["said"], second["label"]) == ('a "bird", or none', "Étourneau")
    found = list(read_decisions([tmp_path / "decisions.csv"]))
    assert [Path(one.path).read_bytes() for one in found] == [b"one", b"two"]


def test_many_at_once(tmp_path: Path) -> None:
    both = Corrections(tmp_path), Corrections(tmp_path)  # as of two services
    with ThreadPoolExecutor(8) as many:
        list(many.map(lambda n: both[n % 2].add(str(n).encode(), ".jpg", "dunnock", f"bird {n}"), range(40)))
    assert {row["label"] for row in rows(tmp_path)} == {f"bird {n}" for n in range(40)}
    assert not (tmp_path / "pictures").exists()


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize(("keep", "size"), [(False, 1), (True, 70), (True, 50_000)])
def test_there_is_an_end(keep: bool, size: int, tmp_path: Path) -> None:
    """Also for a service that is started again and again, and for the smallest pictures."""
    most, taken = 100_000, 0
    while True:
        kept = Corrections(tmp_path, keep_pictures=keep, most=most)
        try:
            for _ in range(3):
                kept.add(str(taken).encode().ljust(size), ".jpg", "dunnock" * 20, "wren" * 50)
                taken += 1
        except Refusal as error:
            refused = error
            break
    assert refused.status == 507
    assert refused.problem == "No more corrections are kept: their folder is full"
    assert taken > 0
    assert size_of(tmp_path) <= most
    assert len(list((tmp_path / "pictures").glob("*"))) <= most / 4096
    before = size_of(tmp_path)
    with pytest.raises(Refusal):
        kept.add(bytes(most), ".jpg", "dunnock", "wren")
    assert size_of(tmp_path) == before


def filled(kept: Corrections, size: int = 5000) -> int:
    """How many corrections of pictures of this size are taken until the folder is full."""
    for taken in range(1000):
        try:
            kept.add(str(taken).encode().ljust(size), ".jpg", "dunnock", "wren")
        except Refusal:
            return taken
    raise AssertionError("it is never full")


def test_a_folder_that_was_moved_away_is_empty(tmp_path: Path) -> None:
    kept = Corrections(tmp_path / "kept", keep_pictures=True, most=50_000)
    taken = filled(kept)
    assert taken > 5
    (tmp_path / "kept").rename(tmp_path / "away")
    assert filled(kept) == taken


def test_room_that_somebody_makes_is_found_within_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, looks, look = [0.0], list[Path](), Path.iterdir

    def seen(folder: Path) -> Iterator[Path]:
        looks.append(folder)
        return look(folder)

    monkeypatch.setattr(Path, "iterdir", seen)
    kept = Corrections(tmp_path, keep_pictures=True, most=50_000, clock=lambda: now[0])
    assert filled(kept) > 5
    for picture in list(look(tmp_path / "pictures")):
        picture.unlink()
    looks.clear()
    for now[0] in (1.0, 30.0, 59.0):
        assert filled(kept) == 0
    assert not looks
    now[0] = 61.0
    assert filled(kept) > 5
    assert len(looks) == 1


def test_the_same_picture_counts_once(tmp_path: Path) -> None:
    kept = Corrections(tmp_path, keep_pictures=True, most=50_000)
    for _ in range(40):
        kept.add(bytes(5000), ".jpg", "dunnock", "wren")
    assert len(rows(tmp_path)) == 40
    assert len(list((tmp_path / "pictures").iterdir())) == 1


def test_rows_count_what_they_have(tmp_path: Path) -> None:
    assert filled(Corrections(tmp_path, most=50_000)) > 400
    assert 45_000 < size_of(tmp_path) <= 50_000


def test_several_services_fill_a_folder_once(tmp_path: Path) -> None:
    several = [Corrections(tmp_path, keep_pictures=True, most=50_000) for _ in range(3)]
    for number in range(30):
        with suppress(Refusal):  # once the folder is full
            several[number % 3].add(str(number).encode().ljust(5000), ".jpg", "dunnock", "wren")
    assert size_of(tmp_path) <= 50_000
    assert len(rows(tmp_path)) > 5


@pytest.mark.parametrize(("kind", "extension"), [("JPEG", "jpg"), ("MPO", "jpg"), ("PNG", "png"), ("TIFF", "tif")])
def test_a_picture_is_kept_by_what_it_is(kind: str, extension: str) -> None:
    data = io.BytesIO()
    Image.new("RGB", (8, 8)).save(data, kind)
    assert extension_of(data.getvalue()) == extension
