"""`build_store`: cached pixels equal fresh ones, whatever happens to the cache."""

from __future__ import annotations

import errno
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fieldmark.core.errors import ImageError
from fieldmark.data import cache, duplicates
from fieldmark.data.cache import PixelStore, build_store
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import read_bytes
from support.stores import SIDE, assert_right, make_catalog, stores


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    (tmp_path / "images").mkdir()
    return make_catalog(tmp_path / "images")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("an image was read")

    monkeypatch.setattr(cache, "decode", refuse)
    monkeypatch.setattr(cache, "read_bytes", refuse)


def test_cached_pixels_equal_fresh_ones(catalog: Catalog, folder: Path) -> None:
    store = build_store(catalog, side=SIDE, folder=folder)
    assert store.cached.all()
    assert store.notes == ()
    assert store.unreadable == {}
    assert len(store) == len(store.fingerprints) == len(catalog)
    assert_right(store)


def test_a_second_build_reads_no_image(catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build_store(catalog, side=SIDE, folder=folder)
    fresh = [first[row] for row in range(len(catalog))]
    forbid_decoding(monkeypatch)
    told: list[tuple[int, int]] = []
    second = build_store(catalog, side=SIDE, folder=folder, progress=lambda done, total: told.append((done, total)))
    for row, (pixels, size) in enumerate(fresh):
        np.testing.assert_array_equal(second[row].pixels, pixels)
        assert second[row].size == size
    np.testing.assert_array_equal(first.fingerprints.digests, second.fingerprints.digests)
    np.testing.assert_array_equal(first.fingerprints.thumbnails, second.fingerprints.thumbnails)
    assert told == [(12, 12)]


def test_copies_are_looked_for_once(catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = build_store(catalog, side=SIDE, folder=folder)
    found = store.clusters()
    np.testing.assert_array_equal(found, duplicates.clusters(store.fingerprints))
    few = store.select(np.arange(2)).clusters()
    (kept,) = (file for file in folder.glob("*/clusters-*") if len(np.load(file)["clusters"]) == len(catalog))

    data = bytearray(kept.read_bytes())
    data[len(data) // 2] ^= 1
    kept.write_bytes(data)
    np.testing.assert_array_equal(store.clusters(), found)  # damaged: they are looked for again

    monkeypatch.setattr(duplicates, "clusters", None)
    again = build_store(catalog, side=SIDE, folder=folder)
    np.testing.assert_array_equal(again.clusters(), found)
    np.testing.assert_array_equal(again.select(np.arange(2)).clusters(), few)


def test_copies_are_found_without_a_store(catalog: Catalog, folder: Path) -> None:
    store = build_store(catalog, side=SIDE, folder=folder)
    found = store.clusters()
    shutil.rmtree(folder)
    np.testing.assert_array_equal(store.clusters(), found)
    assert not folder.exists()


def test_the_number_of_threads_changes_nothing(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "_BLOCK", 5)
    told: list[tuple[int, int]] = []
    one, many = (
        build_store(catalog, side=SIDE, folder=tmp_path / str(n), workers=n, progress=lambda *at: told.append(at))
        for n in (1, 4)
    )
    assert one.file is not None
    assert many.file is not None
    assert one.file.read_bytes() == many.file.read_bytes()
    np.testing.assert_array_equal(one.offsets, many.offsets)
    assert told == 2 * [(5, 12), (10, 12), (12, 12)]


def test_only_kept_rows_are_stored(catalog: Catalog, folder: Path) -> None:
    keep = np.arange(12) % 3 == 0
    store = build_store(catalog, side=SIDE, keep=keep, folder=folder)
    np.testing.assert_array_equal(store.cached, keep)
    assert store.file is not None
    assert store.file.stat().st_size == sum(store[row].pixels.nbytes for row in np.flatnonzero(keep))
    assert len(store.fingerprints) == 12
    assert store.notes == ()
    assert_right(store)


def test_unreadable_rows(tmp_path: Path, folder: Path) -> None:
    catalog = make_catalog(tmp_path, broken=(2, 5))
    (tmp_path / "7.png").unlink()
    for _ in range(2):  # built, then opened
        store = build_store(catalog, side=SIDE, folder=folder)
        assert sorted(store.unreadable) == [2, 5, 7]
        assert str(tmp_path / "2.jpg") in store.unreadable[2]
        assert "damaged" in store.unreadable[2]
        assert "does not exist" in store.unreadable[7]
        np.testing.assert_array_equal(store.readable, [0, 1, 3, 4, 6, 8, 9, 10, 11])
        with pytest.raises(ImageError, match="damaged"):
            store[5]
        assert_right(store)


def test_a_file_that_could_not_be_read_is_tried_again(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may fail for a moment; what is damaged stays so."""
    catalog = make_catalog(tmp_path, broken=(2,))
    asked: list[str] = []
    failing = {"5.png"}

    def read(path: Path) -> bytes:
        asked.append(path.name)
        if path.name in failing:
            raise ImageError(f"{path} cannot be read: Input/output error") from OSError(errno.EIO, "Input/output error")
        return read_bytes(path)

    monkeypatch.setattr(cache, "read_bytes", read)
    assert sorted(build_store(catalog, side=SIDE, folder=folder).unreadable) == [2, 5]
    asked.clear()
    store = build_store(catalog, side=SIDE, folder=folder)
    assert sorted(store.unreadable) == [2, 5]
    assert_right(store)
    assert asked == ["5.png"]
    failing.clear()
    store = build_store(catalog, side=SIDE, folder=folder)
    assert sorted(store.unreadable) == [2]
    assert store.cached[5]
    assert_right(store)


def test_a_catalogue_of_nothing(folder: Path, tmp_path: Path) -> None:
    for _ in range(2):
        store = build_store(make_catalog(tmp_path, 0), side=SIDE, folder=folder)
        assert len(store) == len(store.fingerprints) == len(store.readable) == 0


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> PixelStore:
    root = tmp_path_factory.mktemp("selected")
    return build_store(make_catalog(root, 10, broken=(3, 4)), side=SIDE, folder=root / "cache")


@given(rows=st.lists(st.integers(0, 9), max_size=12))
@settings(max_examples=20, deadline=None)
def test_selected_rows(selected: PixelStore, rows: list[int]) -> None:
    part = selected.select(np.array(rows, np.int64))
    assert len(part) == len(rows)
    assert set(part.unreadable) == {new for new, row in enumerate(rows) if row in selected.unreadable}
    assert_right(part)


def test_it_goes_to_workers_without_its_fingerprints(
    catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = build_store(catalog, side=SIDE, folder=folder)
    sent = pickle.loads(pickle.dumps(store))
    assert len(sent.fingerprints) == 0
    assert len(store.fingerprints) == 12
    expected = store[3].pixels
    forbid_decoding(monkeypatch)
    np.testing.assert_array_equal(sent[3].pixels, expected)


@pytest.mark.parametrize("change", ["side", "keep", "content", "time", "path", "version"])
def test_whatever_decides_the_pixels_decides_the_key(
    change: str, catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_store(catalog, side=SIDE, folder=folder)
    side, keep, file = SIDE, None, catalog.file(1)
    if change == "side":
        side = SIDE + 1
    elif change == "keep":
        keep = np.arange(12) > 0
    elif change == "content":
        Image.new("RGB", (30, 30), "red").save(file)
    elif change == "time":
        os.utime(file, (1, 1))
    elif change == "path":
        shutil.copytree(catalog.root, catalog.root.parent / "moved")
        catalog = replace(catalog, root=catalog.root.parent / "moved")
    else:
        monkeypatch.setattr(cache.decoding, "VERSION", 99)
    store = build_store(catalog, side=side, keep=keep, folder=folder)
    assert len(stores(folder)) == 2
    assert_right(store)


# Bounds


def test_rows_beyond_the_bound_are_decoded(catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = build_store(catalog, side=SIDE, folder=folder)
    assert whole.file is not None
    limit = (whole.file.stat().st_size / 2 + 12 * cache._INDEX_BYTES) / 1e9
    for _ in range(2):  # built, then opened
        store = build_store(catalog, side=SIDE, folder=folder, limit_gb=limit)
        assert store.file is not None
        assert sum(file.stat().st_size for file in folder.rglob("*.*")) <= limit * 1e9
        assert 0 < store.cached.sum() < 12
        assert f"{(~store.cached).sum()} of 12 images did not fit into the pixel cache" in store.notes[0]
        assert_right(store)
    more = build_store(catalog, side=SIDE, folder=folder)
    assert more.cached.all()
    assert more.notes == ()


def test_the_stores_not_used_for_longest_give_way(catalog: Catalog, folder: Path) -> None:
    sizes = {}
    for side in (20, 21, 22):
        store = build_store(catalog, side=side, folder=folder)
        assert store.file is not None
        os.utime(store.file.parent / "index.npz", (side, side))
        sizes[store.file.parent.name] = sum(file.stat().st_size for file in store.file.parent.iterdir())
    used_again, forgotten, _ = sizes
    build_store(catalog, side=20, folder=folder)  # used again: now the newest
    limit = sum(sizes.values()) / 1e9 + 12 * cache._INDEX_BYTES / 1e9
    store = build_store(catalog, side=23, folder=folder, limit_gb=limit)
    assert store.cached.all()
    assert forgotten not in stores(folder)
    assert used_again in stores(folder)
    assert sum(file.stat().st_size for file in folder.rglob("*.*")) <= limit * 1e9


def test_a_gigabyte_of_the_disk_stays_free(catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: SimpleNamespace(free=2**30))
    store = build_store(catalog, side=SIDE, folder=folder)
    assert not store.cached.any()
    assert "did not fit" in store.notes[0]
    assert "free some disk space" in store.notes[0]
    assert_right(store)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_disk_that_fills_up_while_writing(catalog: Catalog, folder: Path) -> None:
    """Writes to /dev/full fail as those to a full disk do."""
    folder.mkdir()
    with open("/dev/full", "wb", buffering=0) as file:
        writer = cache._Writer(folder, file, 10**9)
        assert writer.put(np.zeros((4, 4, 3), np.uint8)) == -1
        assert writer.put(np.zeros((1, 1, 3), np.uint8)) == -1


def test_no_room_for_the_index(catalog: Catalog, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cache.np, "savez", full)
    store = build_store(catalog, side=SIDE, folder=folder)
    assert not store.cached.any()
    assert "not cached" in store.notes[0]
    assert "No space left" in store.notes[0]
    assert stores(folder) == []
    assert_right(store)


def test_a_folder_that_cannot_be_written(catalog: Catalog, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = build_store(catalog, side=SIDE, folder=tmp_path / "file")
    assert not store.cached.any()
    assert "Pixels are not cached" in store.notes[0]
    assert "there is a file where a folder is needed" in store.notes[0]
    assert_right(store)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_a_read_only_cache_is_still_read(catalog: Catalog, folder: Path) -> None:
    build_store(catalog, side=SIDE, folder=folder)
    folder.chmod(0o500)
    try:
        assert build_store(catalog, side=SIDE, folder=folder).cached.all()
        other = build_store(catalog, side=SIDE + 1, folder=folder)
        assert "permission denied" in other.notes[0].lower()
        assert_right(other)
    finally:
        folder.chmod(0o700)


# Damage


@pytest.mark.parametrize("damage", ["cut", "flip", "garbage", "empty", "gone", "no pixels", "short pixels"])
def test_a_damaged_store_is_rebuilt(damage: str, catalog: Catalog, folder: Path) -> None:
    store = build_store(catalog, side=SIDE, folder=folder)
    assert store.file is not None
    index = store.file.parent / "index.npz"
    data = index.read_bytes()
    if damage == "gone":
        index.unlink()
    elif damage == "no pixels":
        store.file.unlink()
    elif damage == "short pixels":
        os.truncate(store.file, store.file.stat().st_size - 1)
    else:
        middle = data.index(b"offsets.npy") + 150
        flipped = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        index.write_bytes({"cut": data[:-50], "flip": flipped, "garbage": b"no index", "empty": b""}[damage])
    assert_right(store)  # one that is open already goes on
    rebuilt = build_store(catalog, side=SIDE, folder=folder)
    assert rebuilt.cached.all()
    assert len(stores(folder)) == 1
    assert_right(rebuilt)


def test_flipped_bits_are_noticed_image_by_image(catalog: Catalog, folder: Path) -> None:
    assert_flips_change_nothing(catalog, folder, flips=16)


@pytest.mark.slow
def test_two_hundred_flipped_bits(catalog: Catalog, folder: Path) -> None:
    assert_flips_change_nothing(catalog, folder, flips=200)


def assert_flips_change_nothing(catalog: Catalog, folder: Path, *, flips: int) -> None:
    """In pixels and index alike, for a store that is open and for one that is opened again."""
    store, random = build_store(catalog, side=SIDE, folder=folder), np.random.default_rng(0)
    assert store.file is not None
    for number in range(flips):
        file = store.file if number % 2 else store.file.with_name("index.npz")
        data = bytearray(file.read_bytes())
        data[random.integers(len(data))] ^= 1 << int(random.integers(8))
        file.write_bytes(data)
        assert_right(store)
        assert_right(build_store(catalog, side=SIDE, folder=folder))
        assert_right(store)  # built again in the same place, where the index was damaged


def test_a_picture_of_the_same_size_and_time_is_another_one(catalog: Catalog, folder: Path, tmp_path: Path) -> None:
    for one, other in ((0, 2), (1, 3)):
        a, b = catalog.file(one), catalog.file(other)
        size = max(a.stat().st_size, b.stat().st_size)
        for file in (a, b):
            file.write_bytes(file.read_bytes().ljust(size, b"\0"))
            os.utime(file, (1e9, 1e9))
    before = build_store(catalog, side=SIDE, folder=folder)
    assert_right(before)
    for one, other in ((0, 2), (1, 3)):  # the first two by name, the others by content
        a, b, aside = catalog.file(one), catalog.file(other), tmp_path / "aside"
        if one == 0:
            a.rename(aside), b.rename(a), aside.rename(b)
        else:
            aside.write_bytes(a.read_bytes()), a.write_bytes(b.read_bytes()), b.write_bytes(aside.read_bytes())
        os.utime(a, (1e9, 1e9)), os.utime(b, (1e9, 1e9))
    assert_right(build_store(catalog, side=SIDE, folder=folder))


def test_what_is_not_a_store_is_never_removed(catalog: Catalog, folder: Path) -> None:
    own = folder / "mine"
    own.mkdir(parents=True)
    (folder / "mine.part").mkdir()
    (own / "index.npz").write_text("my own")
    store = build_store(catalog, side=SIDE, folder=folder)
    assert store.file is not None
    (store.file.parent / "notes.txt").write_text("my own")
    store.file.with_name("index.npz").unlink()
    build_store(catalog, side=SIDE, folder=folder)
    build_store(catalog, side=SIDE + 1, folder=folder, limit_gb=4e-5)
    assert (own / "index.npz").read_text() == (store.file.parent / "notes.txt").read_text() == "my own"
    assert (folder / "mine.part").is_dir()


def test_a_store_that_is_evicted_while_open(catalog: Catalog, folder: Path) -> None:
    store = build_store(catalog, side=SIDE, folder=folder)
    shutil.rmtree(folder)
    assert_right(store)


@pytest.mark.skipif("FIELDMARK_DATA" not in os.environ, reason="FIELDMARK_DATA does not name a folder of photographs")
def test_photographs(folder: Path) -> None:
    root = Path(os.environ["FIELDMARK_DATA"])
    paths = tuple(str(path.relative_to(root)) for path in sorted(root.rglob("*.jpg"))[::2000])
    blank = np.full(len(paths), "")
    catalog = Catalog("photographs", root, paths, np.zeros(len(paths), np.int64), ("one",), blank, blank)
    store = build_store(catalog, side=100, folder=folder)
    assert store.unreadable == {}
    assert_right(store)
