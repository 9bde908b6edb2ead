"""Photographs sorted into folders by what was found on them: links, or copies, and never the photographs themselves."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.commands.predict_into import predict_into
from fieldmark.core.errors import DataWarning, StorageError
from fieldmark.exporting.results.sorting import folder_names
from fieldmark.runs.run import Run
from support.surveys import rows_of


def test_photographs_are_sorted_and_stay_as_they_are(survey: Path, trained: Run) -> None:
    before = {path: path.read_bytes() for path in Path("photos").rglob("*.jpg")}
    predict_into(trained.folder, ["photos"], "a.csv", sort_into="sorted")
    links = [path for path in Path("sorted").rglob("*") if path.is_symlink()]
    assert sorted(path.resolve() for path in links) == sorted(path.resolve() for path in before)
    rows = {row["path"]: row for row in rows_of(Path("a.csv"))}
    for path in links:
        row = rows[os.path.relpath(path.resolve())]
        place = path.relative_to("sorted").parent.as_posix()
        unsure = "unlike anything known" if row["familiar"] == "False" else f"unsure/{row['label']}"
        assert place == ("not readable" if row["skipped"] else row["name"] or unsure)
    predict_into(trained.folder, ["photos"], "a.csv", resume=True, sort_into="sorted")
    assert [path for path in Path("sorted").rglob("*") if path.is_symlink()] == links
    assert {path: path.read_bytes() for path in Path("photos").rglob("*.jpg")} == before
    with pytest.raises(StorageError, match="Fieldmark did not make it for links of photographs"):
        predict_into(trained.folder, ["photos"], "a.csv", resume=True, sort_into="sorted", among=["jade", "plum"])
    predict_into(trained.folder, ["a.answers.jsonl"], "b.csv", sort_into="copied", copies=True)
    copied = list(Path("copied").rglob("*.jpg"))
    assert sorted(path.read_bytes() for path in copied) == sorted(before.values())
    assert not any(path.is_symlink() for path in copied)


@pytest.mark.parametrize("copies", [False, True])
def test_photographs_that_are_gone_are_counted(survey: Path, trained: Run, copies: bool) -> None:
    predict_into(trained.folder, ["photos"], "a.csv")
    Path("photos/cam1/IMG 0.jpg").unlink()
    with pytest.warns(DataWarning, match="1 picture .*: no longer where it was when it was answered"):
        predict_into(trained.folder, "a.answers.jsonl", "a.csv", sort_into="sorted", copies=copies)


def test_sorting_by_boxes(survey: Path, trained: Run) -> None:
    predict_into(trained.folder, ["photos"], "a.csv", boxes="md.json", sort_into="sorted")
    found = {path.relative_to("sorted").as_posix() for path in Path("sorted").rglob("*") if path.is_symlink()}
    assert {"person/cam1__IMG 4.jpg", "nothing found/cam1__IMG 3.jpg", "not readable/gone.jpg"} <= found


def test_copies_are_made_where_links_cannot_be(survey: Path, trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    predict_into(trained.folder, ["photos"], "a.csv", sort_into="sorted")
    assert len(list(Path("sorted").rglob("*.jpg"))) == 9


@given(
    st.lists(
        st.text(min_size=1) | st.sampled_from(["con", "..", "a/b", "a:b", "Robin", "robin", "x" * 300, "unsure "]),
        unique=True,
    )
)
def test_any_name_gives_a_safe_folder_of_its_own(names: list[str]) -> None:
    names = [name for name in names if not any("\ud800" <= letter <= "\udfff" for letter in name)]
    found = folder_names(["unsure", *names])
    assert len({name.casefold() for name in found.values()}) == len({"unsure", *names})
    assert found["unsure"] == "unsure"
    for name in found.values():
        assert name not in ("", ".", "..")
        assert not set(name) & set('<>:"/\\|?*\0\n')
        assert name == name.strip(" .")
        assert len(name.encode()) < 200
