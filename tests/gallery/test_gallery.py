"""Galleries in folders: what is added, replaced and removed, what a search finds, who may write."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import DataError, DataWarning, RunError, StorageError
from fieldmark.gallery import approximate, folder
from fieldmark.gallery.folder import FolderStore
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.log import NAME
from fieldmark.gallery.opening import space_place
from fieldmark.gallery.store import Added, Entry, Wanted
from support.galleries import MAKER, entry, gallery_in, unit


def _names(gallery: Gallery) -> list[str]:
    return [one.path.rsplit("/", 1)[-1] for one in gallery]


def test_what_is_added_is_found_again_in_another_process(tmp_path: Path) -> None:
    gallery_in(tmp_path / "g", 20).close()
    with Gallery.open(tmp_path / "g", MAKER) as gallery:
        assert len(gallery) == 20
        first, *others = gallery.search(unit(20)[7], most=5)
        assert first.entry.path == "/photographs/7"
        assert first.similarity == pytest.approx(1, abs=1e-3)
        assert len(others) == 4
        assert repr(gallery) == f"Gallery({str(tmp_path / 'g')!r}, 20 pictures, transfer on a drawing, 32 px)"


def test_a_file_is_there_once_and_a_path_has_one_file(tmp_path: Path) -> None:
    with gallery_in(tmp_path / "g") as gallery:
        assert gallery.add([entry("a", "1"), entry("b", "2"), entry("copy of a", "1")], unit(3)) == Added(2, 0, 1)
        assert gallery.add([entry("a", "1"), entry("b", "2", label=None)], unit(2)) == Added(known=2)
        assert gallery.add([entry("a", "3")], unit(1, seed=1)) == Added(replaced=1)
        assert gallery.add([entry("b", "2", label="gull")], unit(1)) == Added(replaced=1)
        assert gallery.add([entry("b", "2")], unit(1)) == Added(known=1), "what is unknown replaces nothing"
        assert gallery.add([entry("b", "3")], unit(1)) == Added(known=1), "a is that file, and b is no longer"
        assert _names(gallery) == ["a"]
    assert _names(Gallery.open(tmp_path / "g")) == ["a"]


PICTURES = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from("1234"), st.sampled_from([None, "gull", "tern"])), max_size=6
)


@given(batches=st.lists(PICTURES, max_size=4))
@settings(max_examples=40, deadline=None)
def test_digests_and_paths_stay_unique(tmp_path_factory: pytest.TempPathFactory, batches: list[Any]) -> None:
    """Whatever is added, in whichever batches: each path and each file once, each path with its last file or none."""
    place = tmp_path_factory.mktemp("unique") / "g"
    last: dict[str, str] = {}
    with gallery_in(place) as gallery:
        for batch in batches:
            some = [entry(name, content, label=label) for name, content, label in batch]
            counts = gallery.add(some, unit(len(some)))
            assert counts.added + counts.replaced + counts.known == len(some)
            last |= {one.path: one.digest for one in some}
        before = list(gallery)
    after = list(Gallery.open(place))
    assert after == before
    assert len({one.path for one in after}) == len({one.digest for one in after}) == len(after)
    assert {one.digest for one in after} <= set(last.values())
    assert all(last[one.path] == one.digest for one in after)


def test_what_was_removed_is_gone_and_its_id_never_comes_again(tmp_path: Path) -> None:
    with gallery_in(tmp_path / "g", 10) as gallery:
        assert gallery.remove(gallery.below("/photographs/9", "/photographs/8")) == 2
        assert gallery.remove([entry("9", id=9)]) == 0
        gallery.store.compact()
        assert len(gallery) == 8
    with Gallery.open(tmp_path / "g", writing=True) as gallery:
        gallery.add([entry("later")], unit(1, seed=3))
        assert [one.id for one in gallery] == [*range(8), 10]
        assert gallery.search(unit(1, seed=3)[0], 1)[0].entry.path == "/photographs/later"
        assert len(gallery.below("/photographs")) == 9
        assert gallery.below("/photo") == []


def test_a_log_of_removals_becomes_short(tmp_path: Path) -> None:
    with gallery_in(tmp_path / "g", 300) as gallery:
        gallery.remove(list(gallery)[:200])
        before = (tmp_path / "g" / NAME).stat().st_size
        gallery.tidy()
        assert (tmp_path / "g" / NAME).stat().st_size < before / 2
        gallery.add([entry("x")], unit(1))
        assert len(gallery) == 101
    with Gallery.open(tmp_path / "g") as gallery:
        assert _names(gallery) == [*map(str, range(200, 300)), "x"]


@given(seed=st.integers(0, 1000), most=st.integers(1, 40))
@settings(max_examples=25, deadline=None)
def test_exact_search_is_the_plain_one(tmp_path_factory: pytest.TempPathFactory, seed: int, most: int) -> None:
    """Against a loop, with filters, over blocks that are smaller than the gallery."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fieldmark.gallery.vectors._BLOCK", 7)
        rng = np.random.default_rng(seed)
        vectors, place = unit(30, seed=seed), tmp_path_factory.mktemp("exact") / "g"
        groups = [None if g == 3 else f"g{g}" for g in rng.integers(0, 4, 30)]
        some = [entry(str(k), label="ab"[k % 2], group=groups[k]) for k in range(30)]
        with gallery_in(place) as gallery:
            gallery.add(some, vectors)
            gallery.remove([one for one in gallery if one.path.endswith("5")])
            kept = list(gallery)
            query = unit(1, seed=seed + 1)[0]
            for wanted in (
                Wanted(),
                Wanted(label="a"),
                Wanted(label="unheard of"),
                Wanted(not_group="g1", not_digest=kept[2].digest),
                Wanted(label="b", not_group="unheard of"),
            ):
                fits = [
                    one
                    for one in kept
                    if wanted.label in (None, one.label)
                    and (wanted.not_group is None or one.group != wanted.not_group)
                    and one.digest != wanted.not_digest
                ]
                cosines = {one: float(vectors[int(one.path[13:])].astype(np.float16) @ query) for one in fits}
                found = gallery.search(query, most, wanted)
                expected = sorted(cosines.values(), reverse=True)[:most]
                assert [hit.similarity for hit in found] == pytest.approx(expected, abs=1e-3)
                assert {hit.entry for hit in found} <= set(fits)


# ---- refusals


def test_an_empty_gallery(tmp_path: Path) -> None:
    with gallery_in(tmp_path / "g") as gallery, pytest.raises(RunError, match=r"is empty\. Add photographs with"):
        gallery.search(unit(1)[0])


def test_no_gallery(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"There is no gallery at .*absent\. Make one with: fieldmark index RUN"):
        Gallery.open(tmp_path / "absent")
    with pytest.raises(RunError, match=r"There is no gallery at .*absent"):
        Gallery.open(tmp_path / "absent", writing=True)
    assert not (tmp_path / "absent").exists()
    with pytest.raises(RunError, match="cannot be kept in mysql://…"):
        Gallery.open("mysql://user:secret@host/db")


@pytest.mark.parametrize(
    ("key", "said"),
    [("architecture", "another network"), ("weights", "other weights"), ("view", "sees pictures otherwise")],
)
def test_a_gallery_of_another_model_says_which(tmp_path: Path, key: str, said: str) -> None:
    gallery_in(tmp_path / "g", 1).close()
    other: Any = {**MAKER, key: "d" * 64, "network": "transfer on another, 64 px"}
    with pytest.raises(RunError, match=said) as raised:
        Gallery.open(tmp_path / "g", other)
    assert "transfer on a drawing, 32 px (weights bbbbbbbb)" in str(raised.value)
    assert "transfer on another, 64 px" in str(raised.value)
    with pytest.raises(RunError, match=said):
        Gallery.make(tmp_path / "g", other, 8)
    gallery_in(tmp_path / "g", 1).close()  # the lock is free again
    with pytest.raises(RunError, match="of another part"):
        Gallery.open(tmp_path / "g", {**MAKER, "part": "head"})


def test_vectors_of_another_width_or_length(tmp_path: Path) -> None:
    with gallery_in(tmp_path / "g", 2) as gallery:
        with pytest.raises(DataError, match="holds vectors of 8 numbers, and these have 9"):
            gallery.add([entry("x")], unit(1, 9))
        with pytest.raises(DataError, match="holds vectors of 8 numbers, and these have 3"):
            gallery.search(unit(1, 3)[0])
        with pytest.raises(DataError, match="have unit length"):
            gallery.search(2 * unit(1)[0])
        with pytest.raises(DataError, match="have unit length"):
            gallery.add([entry("x")], np.full((1, 8), np.nan, np.float32))
        with pytest.raises(DataError, match="1 picture came with 2 vectors"):
            gallery.add([entry("x")], unit(2))
        assert len(gallery) == 2


def test_one_process_writes_and_others_read(tmp_path: Path) -> None:
    with gallery_in(tmp_path / "g", 3) as gallery:
        with pytest.raises(RunError, match="Another process is writing into the gallery"):
            Gallery.open(tmp_path / "g", writing=True)
        gallery.add([entry("new")], unit(1))
        with Gallery.open(tmp_path / "g") as reader:
            assert len(reader) == 4
    Gallery.open(tmp_path / "g", writing=True).close()


def test_a_folder_of_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StorageError, match=r"did not make it for a gallery: it holds thesis\.txt.*--gallery"):
        gallery_in(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_read_only_folder_can_be_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gallery_in(tmp_path / "g", 3).close()

    def denied(path: Path, *args: Any, **options: Any) -> None:  # the tests may run as root, whom chmod does not stop
        raise OSError(30, "Read-only file system", str(path))

    for name in ("mkdir", "write_bytes", "touch"):
        monkeypatch.setattr(Path, name, denied)
    monkeypatch.setattr("fieldmark.core.locks.FileLock.acquire", denied)
    with Gallery.open(tmp_path / "g") as gallery:
        assert len(gallery.search(unit(1)[0])) == 3
    with pytest.raises(StorageError, match=r"Cannot write .*: the file system is read-only"):
        Gallery.open(tmp_path / "g", writing=True)


def test_parts_lie_beside_the_whole() -> None:
    parts = ("head", "wing")
    assert space_place("runs/birds/gallery", parts, None) == "runs/birds/gallery"
    assert space_place("runs/birds/gallery", parts, "head") == "runs/birds/gallery-parts/1"
    assert space_place("postgresql://host/db", parts, "wing") == "postgresql://host/db#default-part-2"
    assert space_place("postgres://host/db#birds", parts, "wing") == "postgres://host/db#birds-part-2"


# ---- many pictures


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """Galleries are large from 50 pictures on."""
    monkeypatch.setattr(folder, "LARGE", 50)
    monkeypatch.setattr(folder, "_SPARE", 4)


def _best(gallery: Gallery, query: Any, wanted: Wanted | None = None) -> list[Entry]:
    return [hit.entry for hit in gallery.search(query, 5, wanted)]


@pytest.mark.usefixtures("large")
def test_the_index_finds_what_looking_at_all_finds(tmp_path: Path) -> None:
    pytest.importorskip("usearch", reason="usearch is not installed: pip install 'fieldmark[gallery]'")
    with gallery_in(tmp_path / "g", 400) as gallery:
        gallery.tidy()
        assert (tmp_path / "g" / "index.usearch").exists()
        gallery.add([entry(f"late {k}", group="night") for k in range(20)], unit(20, seed=9))  # not in the index
        gallery.remove(list(gallery)[:30])
        assert gallery.store._usable_graph() is not None
        shelf = gallery.store._shelf
        for k, query in enumerate([*unit(20, seed=9), *unit(20, seed=5)]):
            exact = [hit.entry for hit in shelf.search(query, 5, Wanted())]
            assert _best(gallery, query) == exact, "a small graph finds all"
            other = Wanted(not_group="night", not_digest=exact[0].digest)
            assert _best(gallery, query, other) == [hit.entry for hit in shelf.search(query, 5, other)], k
    with Gallery.open(tmp_path / "g", writing=True) as gallery:
        before = (tmp_path / "g" / "index.json").read_bytes()
        gallery.tidy()
        assert (tmp_path / "g" / "index.json").read_bytes() == before, "it lags a little only"
        gallery.add([entry(f"later {k}") for k in range(100)], unit(100, seed=11))
        gallery.tidy()
        assert (tmp_path / "g" / "index.json").read_bytes() != before
        assert len(gallery.store._graph) == len(gallery), "what was removed is removed from it, too"
        assert _best(gallery, unit(100, seed=11)[3])[0].path == "/photographs/later 3"


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("at", [0, 100, -1])
def test_a_flipped_byte_in_the_index_is_noticed(tmp_path: Path, at: int) -> None:
    pytest.importorskip("usearch", reason="usearch is not installed: pip install 'fieldmark[gallery]'")
    with gallery_in(tmp_path / "g", 60) as gallery:
        gallery.tidy()
    data = bytearray((tmp_path / "g" / "index.usearch").read_bytes())
    data[at] ^= 0x10
    (tmp_path / "g" / "index.usearch").write_bytes(data)
    with Gallery.open(tmp_path / "g") as gallery, pytest.warns(DataWarning, match="is damaged: its SHA-256"):
        assert _best(gallery, unit(60)[8])[0].path == "/photographs/8"
    told = "the next `fieldmark index` writes it again"
    with Gallery.open(tmp_path / "g", writing=True) as gallery, pytest.warns(DataWarning, match=told):
        gallery.tidy()
    with Gallery.open(tmp_path / "g") as gallery:
        assert _best(gallery, unit(60)[8])[0].path == "/photographs/8"


@pytest.mark.usefixtures("large")
def test_without_usearch_the_search_goes_on_and_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "usearch", None)
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    assert not approximate.is_available()
    with gallery_in(tmp_path / "g", 60) as gallery:
        with pytest.warns(DataWarning, match=r"60 pictures.*pip install 'fieldmark\[gallery\]'"):
            gallery.tidy()
        with pytest.warns(DataWarning, match="pip install"):
            assert _best(gallery, unit(60)[8])[0].path == "/photographs/8"
        assert _best(gallery, unit(60)[9])[0].path == "/photographs/9", "it is said once"


@pytest.mark.usefixtures("large")
def test_an_index_of_another_gallery_is_not_used(tmp_path: Path) -> None:
    pytest.importorskip("usearch", reason="usearch is not installed: pip install 'fieldmark[gallery]'")
    for name in ("a", "b"):
        with gallery_in(tmp_path / name, 60) as gallery:
            gallery.tidy()
    for name in ("index.usearch", "index.json"):
        os.replace(tmp_path / "a" / name, tmp_path / "b" / name)
    store = FolderStore(tmp_path / "b")
    assert store._usable_graph() is None
