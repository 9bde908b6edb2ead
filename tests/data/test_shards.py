"""Shards: what is written is what was there, in any order and through any store; what does not fit says so."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import sys
import tarfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.augment.image import View
from fieldmark.core.errors import DataError, DataWarning, ImageError, StorageError
from fieldmark.data import remote
from fieldmark.data.cache import build_store
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import Decoded, decode, orientation, read_bytes
from fieldmark.data.loader import Samples
from fieldmark.data.readers.read import read
from fieldmark.data.sharding import write_shards
from fieldmark.data.shards import Member, is_there, member_of, read_member
from fieldmark.data.texts import Texts
from fieldmark.fieldguide import draw

Files = Mapping[str, bytes | str]


class _Flaky(MemoryFileSystem):
    """A store that fails as often as it is told to."""

    protocol = "flaky"
    store: ClassVar[dict[str, Any]] = {}
    failures = 0

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **others: Any) -> bytes:
        if _Flaky.failures:
            _Flaky.failures -= 1
            raise OSError("Could not connect to the endpoint")
        return bytes(super().cat_file(path, start, end, **others))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a folder in a store that does not exist yet."""
    monkeypatch.setattr(remote, "_WAITS", (0.0, 0.0))
    fsspec.register_implementation("flaky", _Flaky, clobber=True)
    yield "flaky://bucket/birds"
    _Flaky.failures = 0
    _Flaky.store.clear()


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Sixty pictures with boxes, masks, key points, attributes, a taxonomy and three splits."""
    return read(draw(tmp_path_factory.mktemp("drawn") / "guide", species=3, images_per_species=20, size=64))


def tar_of(file: Path, files: Files) -> Path:
    """A tar with these files in this order."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as out:
        for name, data in files.items():
            about = tarfile.TarInfo(name)
            data = data.encode() if isinstance(data, str) else data
            about.size = len(data)
            out.addfile(about, io.BytesIO(data))
    return file


def foreign(picture: bytes, labels: str = "aabb", suffix: str = "cls") -> dict[str, bytes | str]:
    """Files as WebDataset has them, with one letter as the label of each picture."""
    said = {"cls": str, "json": lambda letter: json.dumps({"label": letter})}[suffix]
    pairs = (((f"{k:04}.png", picture), (f"{k:04}.{suffix}", said(letter))) for k, letter in enumerate(labels))
    return dict(one for pair in pairs for one in pair)


@pytest.fixture(scope="session")
def picture(pictures: Path) -> bytes:
    return (pictures / "amber" / "00.png").read_bytes()


def assert_alike(one: Catalog, other: Catalog) -> None:
    """The same samples, in whatever order and wherever the files lie."""
    assert len(one) == len(other)
    rows = {read_bytes(other.file(row)): row for row in range(len(other))}
    assert len(rows) == len(other)
    theirs = [rows[read_bytes(one.file(row))] for row in range(len(one))]
    assert sorted(theirs) == list(range(len(other)))
    again = other.select(np.array(theirs))
    assert (one.classes, dict(one.taxonomy), one.keypoint_names) == (
        other.classes,
        dict(other.taxonomy),
        other.keypoint_names,
    )
    for name in ("labels", "splits", "groups", "boxes", "keypoints"):
        np.testing.assert_array_equal(getattr(one, name), getattr(again, name), err_msg=name)
    for name, values in one.attributes.items():
        np.testing.assert_array_equal(values, again.attributes[name])
    for row in range(len(one)):
        mine, other_mask = (read_bytes(Path(remote.below(c.root, c.masks[row]))) for c in (one, again))
        assert mine == other_mask


# ---- addresses


@given(
    st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1), st.integers(0, 2**40), st.integers(0)
)
def test_an_address_comes_back(name: str, start: int, size: int) -> None:
    for tar in ("/data/train-000001.tar", "relative.tar", "s3://bucket/deep/x.tar"):
        member = Member(tar, start, size, f"folder/{name}")
        assert member_of(str(member)) == member


@pytest.mark.parametrize(
    "path", ["/data/x.tar", "/data/x.tar/a.jpg", "x.jpg", "/a.tar/5+/b.jpg", "/a.tar.gz/5+6/b.jpg"]
)
def test_other_paths_are_no_addresses(path: str) -> None:
    assert member_of(Path(path)) is None


def test_addresses_survive_being_paths() -> None:
    assert remote.url_of(Path("s3://bucket/birds")) == "s3://bucket/birds"
    assert remote.url_of(Path("C:/birds")) is remote.url_of("/birds") is remote.url_of("birds/a:/b") is None
    assert remote.below("/root", "s3://bucket/x.tar/1+2/a.jpg") == "s3://bucket/x.tar/1+2/a.jpg"


# ---- our own shards


def test_shards_hold_what_was_there(guide: Catalog, tmp_path: Path) -> None:
    written = write_shards(guide, tmp_path / "out", size=30_000)
    assert (written.images, written.left_out) == (60, ())
    assert written.shards == len(list((tmp_path / "out").glob("*.tar"))) > 3
    again = read(tmp_path / "out")
    assert isinstance(again.paths, Texts)
    assert_alike(again, guide)
    turned = orientation(again.file(0))
    assert turned == 1
    assert read(tmp_path / "out").digest("test") == again.digest("test")


def test_shards_are_the_same_each_time(guide: Catalog, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_shards(guide, tmp_path / name, size=50_000)
    files = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert all((tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes() for name in files)


def test_shards_lie_in_a_store_too(guide: Catalog, bucket: str) -> None:
    write_shards(guide, bucket, size=50_000)
    again = read(bucket)
    assert remote.url_of(again.root) == bucket
    assert_alike(again, guide)
    store = build_store(again, side=16)
    assert not store.unreadable
    alike = build_store(guide, side=16)
    assert sorted(store.fingerprints.digests) == sorted(alike.fingerprints.digests)


def test_a_table_may_list_pictures_in_a_store(guide: Catalog, bucket: str, tmp_path: Path) -> None:
    write_shards(guide, bucket)
    there = read(bucket)
    lines = [f"{there.file(row).as_posix()},{there.classes[there.labels[row]]}" for row in range(len(there))]
    (tmp_path / "table.csv").write_text("\n".join(["path,label", *lines]))
    assert decode(read(tmp_path / "table.csv").file(3)).size == (64, 64)


def test_webdataset_reads_our_shards(guide: Catalog, tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="webdataset is not installed")
    write_shards(guide, tmp_path / "out")
    (file,) = (tmp_path / "out").glob("train-*.tar")
    with file.open("rb") as stream:
        samples = list(
            wds.tariterators.group_by_keys(wds.tariterators.tar_file_expander([{"url": "", "stream": stream}]))
        )
    train = guide.rows("train")
    assert len(samples) == len(train)
    assert {one["jpg" if "jpg" in one else "png"] for one in samples} == {read_bytes(guide.file(r)) for r in train}
    for one in samples:
        said = json.loads(one["json"])
        assert guide.classes[int(one["cls"])] == said["label"]
        assert {"x", "y", "width", "height", "split"} <= set(said)
        assert isinstance(said["x"], float)


def test_names_that_would_be_one_in_a_shard_stay_two(picture: bytes, tmp_path: Path) -> None:
    for name in ("a/x.y.png", "a/x_y.png", "a/x.y.jpg", "b/z.png", "b/" + "long" * 40 + ".png", "b/Zaunkönig.png"):
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / name).write_bytes(picture)
    write_shards(read(tmp_path / "data"), tmp_path / "out")
    again = read(tmp_path / "out")
    assert len({member_of(path) for path in again.paths}) == 6
    assert all(read_bytes(again.file(row)) == picture for row in range(6))
    with tarfile.open(tmp_path / "out" / "all-000000.tar") as held:
        names = held.getnames()
    assert len({name.rpartition(".")[0] for name in names}) == 6
    assert len(set(names)) == 18


def test_what_cannot_be_read_is_left_out(pictures: Path, tmp_path: Path) -> None:
    catalog = read(pictures)
    paths = [*catalog.paths[:-1], "plum/gone.png"]
    written = write_shards(replace(catalog, paths=paths), tmp_path / "out")
    assert written.images == 41
    assert "gone.png does not exist" in written.left_out[0]
    assert len(read(tmp_path / "out")) == 41


def test_writing_that_was_interrupted_begins_again(
    guide: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(guide, tmp_path / "out", size=20_000, progress=stop)
    with pytest.raises(DataError, match=r"are unfinished\. Write them again"):
        read(tmp_path / "out")
    write_shards(guide, tmp_path / "out")
    assert_alike(read(tmp_path / "out"), guide)
    assert sorted(file.suffix for file in (tmp_path / "out").iterdir()) == [".parquet", *[".tar"] * 3]


def test_nothing_of_others_is_touched(guide: Catalog, tmp_path: Path) -> None:
    (tmp_path / "train-000000.tar").write_bytes(b"mine")
    with pytest.raises(StorageError, match=r"is not empty: it holds train-000000\.tar"):
        write_shards(guide, tmp_path)
    assert (tmp_path / "train-000000.tar").read_bytes() == b"mine"


# ---- shards of others


@pytest.mark.parametrize("suffix", ["cls", "json"])
def test_shards_of_others_are_read(suffix: str, picture: bytes, tmp_path: Path) -> None:
    tar_of(tmp_path / "birds-train-000.tar", foreign(picture, suffix=suffix))
    tar_of(tmp_path / "birds-val-000.tar", {"./sub/7.PNG": picture, "./sub/7.cls": "b\n", "__notes.txt": "?"})
    with pytest.warns(DataWarning, match="no val images: a"):
        catalog = read(tmp_path)
    assert catalog.classes == ("a", "b")
    assert catalog.labels.tolist() == [0, 0, 1, 1, 1]
    assert catalog.splits.tolist() == [*["train"] * 4, "val"]
    assert all(read_bytes(catalog.file(row)) == picture for row in range(5))
    again = read(tmp_path / "birds-train-000.tar")
    assert len(again) == 4


def test_json_names_columns_and_wins_over_a_class_number(picture: bytes, tmp_path: Path) -> None:
    samples: dict[str, bytes | str] = {}
    for k, genus in enumerate(("Larus", "Larus", "Parus")):
        said = {"species": f"bird {k}", "level.genus": genus, "width": 500, "height": 375, "tags": ["x"], "wild": True}
        samples |= {f"{k}.png": picture, f"{k}.seg.png": picture, f"{k}.cls": str(k), f"{k}.json": json.dumps(said)}
    tar_of(tmp_path / "shards" / "0.tar", samples)
    with pytest.warns(DataWarning, match="'species', 'wild'"):
        numbered = read(tmp_path / "shards")
    assert numbered.classes == ("0", "1", "2")
    assert numbered.boxes is None
    with pytest.warns(DataWarning, match="'wild'"):
        named = read(tmp_path / "shards", {"label": "species"})
    assert named.classes == ("bird 0", "bird 1", "bird 2")
    assert named.taxonomy["genus"] == ("Larus", "Larus", "Parus")


def test_the_pass_is_made_once(picture: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tar_of(tmp_path / "x.tar", foreign(picture))
    read(tmp_path)
    monkeypatch.setattr(tarfile, "open", None)
    assert len(read(tmp_path)) == 4
    monkeypatch.undo()
    tar_of(file, foreign(picture, "abcabc"))
    assert read(tmp_path).classes == ("a", "b", "c")


def test_a_tar_beside_pictures_is_no_data(pictures: Path, tmp_path: Path, picture: bytes) -> None:
    shutil.copytree(pictures, tmp_path / "data")
    tar_of(tmp_path / "data" / "download.tar", foreign(picture))
    assert len(read(tmp_path / "data")) == 42


def test_a_split_of_which_nothing_can_be_read_is_left_out(guide: Catalog, tmp_path: Path) -> None:
    """Its shard has no picture, and so no masks, of which the index of the others has a column."""
    assert guide.masks
    rows = zip(guide.paths, guide.splits.tolist(), strict=True)
    gone = replace(guide, paths=tuple("gone.jpg" if split == "test" else path for path, split in rows))
    write_shards(gone, tmp_path)
    assert len(read(tmp_path)) == int((guide.splits != "test").sum())


# ---- what is wrong


def test_a_shard_cut_short_is_named(guide: Catalog, tmp_path: Path) -> None:
    write_shards(guide, tmp_path)
    catalog, file = read(tmp_path), tmp_path / "train-000000.tar"
    file.write_bytes(file.read_bytes()[:9000])
    with pytest.raises(DataError, match=r"train-000000\.tar is cut short: it ends after 9,000 bytes, but .* ends at"):
        read(tmp_path)
    with pytest.raises(DataError, match="is cut short"):  # one that was whole when the training began
        build_store(catalog, side=16)
    file.unlink()
    with pytest.raises(DataError, match=r"of 60 images listed in .* are missing"):
        read(tmp_path)
    assert not is_there(catalog.file(int(catalog.rows("train")[0])))
    with pytest.raises(ImageError, match="does not exist"):
        decode(catalog.file(int(catalog.rows("train")[0])))


@pytest.mark.parametrize("cut", [-20_000, -11_000, 600, 1324, 100])
def test_a_shard_of_others_cut_short_is_named(cut: int, picture: bytes, tmp_path: Path) -> None:
    file = tar_of(tmp_path / "x.tar", foreign(picture, "abcdefgh"))
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"x\.tar is (damaged or )?cut short"):
        read(tmp_path)


def test_a_shard_without_an_end_is_doubted(picture: bytes, tmp_path: Path) -> None:
    file = tar_of(tmp_path / "x.tar", foreign(picture))
    with tarfile.open(file) as held:
        last = held.getmembers()[-1]
    file.write_bytes(file.read_bytes()[: last.offset_data + 512])
    with pytest.warns(DataWarning, match=r"x\.tar has no mark at its end"):
        assert len(read(tmp_path)) == 4


def test_damage_in_the_middle_is_no_end(picture: bytes, tmp_path: Path) -> None:
    file = tar_of(tmp_path / "x.tar", foreign(picture))
    with tarfile.open(file) as held:
        third = held.getmembers()[2]
    data = bytearray(file.read_bytes())
    data[third.offset + 20] ^= 1
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.tar is damaged or cut short at byte"):
        read(tmp_path)


def test_an_index_of_other_shards_is_noticed(guide: Catalog, tmp_path: Path) -> None:
    write_shards(guide, tmp_path / "one")
    catalog, file = read(tmp_path / "one"), tmp_path / "one" / "train-000000.tar"
    with tarfile.open(file) as held:
        files = {one.name: held.extractfile(one).read() for one in reversed(held.getmembers())}  # type: ignore[union-attr]  # all are files
    tar_of(file, files)
    with pytest.raises(DataError, match="where its index says: they do not belong together"):
        build_store(catalog, side=16)


def test_a_picture_of_another_name_is_noticed(picture: bytes, tmp_path: Path) -> None:
    tar_of(tmp_path / "x.tar", {"a.png": picture})
    right = Member(str(tmp_path / "x.tar"), 512, len(picture), "a.png")
    assert read_member(right) == picture
    for wrong in (right._replace(name="b.png"), right._replace(size=7), right._replace(start=513)):
        with pytest.raises(DataError, match="do not belong together"):
            read_member(wrong)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        ({"a.png": b"x", "b.png": b"x"}, "say nothing of their pictures"),
        ({"a.json": "{}"}, "hold no pictures"),
        ({"a.png": b"x", "a.json": "{"}, "a.json cannot be read: it is not JSON"),
        ({"a.png": b"x", "a.json": '{"species": "x"}'}, "--columns label=species"),
    ],
)
def test_shards_that_say_too_little(files: Files, complaint: str, tmp_path: Path) -> None:
    tar_of(tmp_path / "x.tar", files)
    with pytest.raises(DataError) as raised:
        read(tmp_path)
    assert complaint in str(raised.value)


def test_a_store_that_fails_for_a_moment_is_asked_again(guide: Catalog, bucket: str) -> None:
    write_shards(guide, bucket)
    catalog = read(bucket)
    _Flaky.failures = 2
    assert decode(catalog.file(0)).size == (64, 64)


def test_a_store_out_of_reach_ends_the_work(guide: Catalog, bucket: str) -> None:
    """It would be wrong to leave the pictures out, as damaged ones are."""
    write_shards(guide, bucket)
    catalog = read(bucket)
    _Flaky.failures = 10**6
    with pytest.raises(DataError, match=r"flaky://bucket/.*\.tar cannot be reached: Could not connect") as raised:
        build_store(catalog, side=16)
    assert not isinstance(raised.value, ImageError)
    assert raised.value.hint.endswith("A training that had begun goes on with --resume.")  # and this may be none
    with pytest.raises(DataError, match=r"There are no shards at flaky://bucket/nothing, which is empty, or not there"):
        read("flaky://bucket/nothing")


def test_a_protocol_without_its_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(DataError, match=r"s3://bucket/birds needs a package that is not installed\. Install s3fs"):
        read("s3://bucket/birds")
    with pytest.raises(DataError, match="Addresses begin with s3://"):
        read("unheard://bucket/birds")


# ---- texts and samples


@given(st.lists(st.text(st.characters(codec="utf-8"))), st.data())
def test_texts_are_a_sequence(texts: list[str], data: st.DataObject) -> None:
    held = Texts(texts)
    assert (len(held), list(held)) == (len(texts), texts)
    rows = data.draw(st.lists(st.integers(0, len(texts) - 1))) if texts else []
    assert list(held.select(np.array(rows, np.int64))) == [texts[row] for row in rows]
    assert [held[row] for row in rows] == [texts[row] for row in rows]
    assert list(held[1:3]) == texts[1:3]
    assert list(pickle.loads(pickle.dumps(held))) == texts


def test_a_store_is_asked_for_several_pictures_at_a_time(guide: Catalog, bucket: str) -> None:
    """And the samples are those that they are one by one."""
    together = threading.Barrier(4, timeout=20)

    class Waiting:
        def __getitem__(self, row: int) -> Decoded:
            if row < 4:
                together.wait()
            return Decoded(np.full((4, 4, 3), row, np.uint8), (4, 4))

    def view(pixels: Any, seed: int, box: Any, keypoints: Any) -> View:
        return View(torch.tensor([[[int(pixels[0, 0, 0]), seed % 251]]]), None, None)

    write_shards(guide, bucket)
    far = Samples(read(bucket), Waiting(), view, seed=1)
    near = Samples(guide, Waiting(), view, seed=1)
    keys = [(0, row) for row in range(4)]
    alone = [near[0, row][0] for row in range(4, 9)]
    assert [int(image[0, 0, 0]) for image, *_ in far.__getitems__(keys)] == [0, 1, 2, 3]
    others = far.__getitems__([(0, row) for row in range(4, 9)])
    assert all(torch.equal(image, one) for (image, *_), one in zip(others, alone, strict=True))
