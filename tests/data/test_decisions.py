"""Decisions: a table that makes sense or says why not, and a catalogue in which they are carried out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import DataError
from fieldmark.data.catalog import Catalog
from fieldmark.data.decisions import Decision, Decisions, decided, read_decisions, write_decisions
from fieldmark.data.names import normal
from fieldmark.data.taxonomy import Taxonomy

NAMES = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp", "Zs")), min_size=1, max_size=12)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    paths = ("robin/1.jpg", "robin/2.jpg", "wren/1.jpg", "wren/2.jpg")
    for path in (*paths, "new/1.jpg"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).touch()
    return Catalog(
        "birds",
        tmp_path,
        paths,
        np.array([0, 0, 1, 1]),
        ("robin", "wren"),
        np.array(["train", "test", "train", "val"]),
        np.array(["a", "", "", "b"]),
        boxes=np.ones((4, 4), np.float32),
        keypoint_names=("beak",),
        keypoints=np.ones((4, 1, 3), np.float32),
        taxonomy=Taxonomy(("robin", "wren"), {"family": ("Muscicapidae", "Troglodytidae")}),
        attributes={"sex": np.array(["f", "m", "f", ""])},
        masks=("", "m.png", "", ""),
    )


def table(folder: Path, *rows: str, header: str = "path,decision,label", name: str = "decisions.csv") -> Path:
    (folder / name).write_text("\n".join([header, *rows]), encoding="utf-8")
    return folder / name


def refused(file: Path) -> str:
    with pytest.raises(DataError) as error:
        read_decisions([file])
    return str(error.value)


def test_decisions_are_carried_out(catalog: Catalog) -> None:
    new = (catalog.root / "new/1.jpg").as_posix()
    rows = [
        "robin/1.jpg,relabel,Wren",
        "robin/2.jpg,accept,robin",
        f"{catalog.root}/wren/1.jpg,drop,",
        f"{new},label,robin",
    ]
    heard: list[str] = []
    done = decided(catalog, read_decisions([table(catalog.root, *rows)]), heard.append)
    assert (done.relabelled, done.dropped, done.added) == (1, 1, 1)
    assert str(done) == "1 relabelled, 1 dropped, 1 added"
    assert done.catalog.paths == ("robin/1.jpg", "robin/2.jpg", "wren/2.jpg", "new/1.jpg")
    assert [done.catalog.classes[label] for label in done.catalog.labels] == ["wren", "robin", "wren", "robin"]
    assert done.catalog.splits.tolist() == ["train", "test", "val", "train"]
    assert done.catalog.boxes is not None
    assert np.isnan(done.catalog.boxes[3]).all()
    assert done.catalog.keypoints is not None
    assert done.catalog.keypoints[3, 0, 2] == 0
    assert done.catalog.attributes["sex"].tolist() == ["f", "m", "", ""]
    assert heard == []
    assert catalog.labels.tolist() == [0, 0, 1, 1]  # as it was


def test_what_is_added_to_data_without_splits_has_none(catalog: Catalog) -> None:
    unsplit = replace(catalog, splits=np.full(4, ""))
    done = decided(unsplit, Decisions((Decision("new/1.jpg", "label", "wren"),)), print)
    assert done.catalog.splits.tolist() == [""] * 5


def test_a_class_may_begin(catalog: Catalog) -> None:
    heard: list[str] = []
    done = decided(catalog, Decisions((Decision("robin/1.jpg", "relabel", "wrenn"),)), heard.append)
    assert done.catalog.classes == ("robin", "wren", "wrenn")
    assert done.catalog.taxonomy["family"] == ("Muscicapidae", "Troglodytidae", "wrenn")
    assert heard == ["A new class begins with these decisions: wrenn. Did you mean 'wren'?"]


def test_a_label_needs_its_file(catalog: Catalog) -> None:
    with pytest.raises(
        DataError, match=r"1 decision of 1 about photographs outside the data names a file that is gone"
    ):
        decided(catalog, Decisions((Decision("gone.jpg", "label", "wren"),)), print)


def test_other_decisions_about_files_that_are_gone_change_nothing(catalog: Catalog) -> None:
    heard: list[str] = []
    done = decided(catalog, Decisions((Decision("gone.jpg", "drop"),)), heard.append)
    assert done.catalog.paths == catalog.paths
    assert str(done) == "no label changed"
    assert heard == ["1 decision about files that are gone, which changes nothing: gone.jpg"]


def test_bad_tables(tmp_path: Path) -> None:
    assert "There is no file" in refused(tmp_path / "none.csv")
    assert "has no column 'path'" in refused(table(tmp_path, "a,b", header="file,label"))
    assert "line 2: 'keep' is no decision. Expected one of accept, drop" in refused(table(tmp_path, "a.jpg,keep,"))
    assert "line 2: relabel gives no label to a.jpg" in refused(table(tmp_path, "a.jpg,relabel,"))
    assert "line 2: the path is empty" in refused(table(tmp_path, ",drop,"))
    message = refused(table(tmp_path, "a.jpg,relabel,wren", "b.jpg,drop,", "./a.jpg,drop,"))
    assert "Two decisions about a.jpg contradict each other: relabel 'wren'" in message
    assert "line 2) and drop (" in message
    assert "line 4" in message


def test_two_tables_may_contradict_each_other_too(tmp_path: Path) -> None:
    first, second = table(tmp_path, "a.jpg,drop,"), table(tmp_path, "a.jpg,accept,", name="other.csv")
    with pytest.raises(DataError, match=r"decisions\.csv, line 2.*other\.csv, line 2"):
        read_decisions([first, second])


def test_a_plain_table_of_labels_will_do(tmp_path: Path) -> None:
    found = read_decisions([table(tmp_path, "a.jpg,wren", "b.jpg,", header="path,label")])
    assert list(found) == [Decision("a.jpg", "label", "wren")]


def test_what_comes_later_counts() -> None:
    first = Decisions((Decision("a", "drop"), Decision("b", "accept", "wren")))
    both = first.then(Decisions((Decision("a", "relabel", "wren"),)))
    assert set(both) == {Decision("a", "relabel", "wren"), Decision("b", "accept", "wren")}
    assert both.digest == Decisions(both.rows[::-1]).digest != first.digest


@given(st.lists(st.tuples(NAMES, NAMES), min_size=1, max_size=5, unique_by=lambda pair: pair[0]))
def test_any_names_come_back(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str]]) -> None:
    file = tmp_path_factory.mktemp("names") / "decisions.csv"
    rows = [Decision(f"photos/x{path.replace('/', '-')}", "label", normal(label)) for path, label in pairs]
    write_decisions(file, Decisions(tuple(rows)))
    assert list(read_decisions([file])) == rows
