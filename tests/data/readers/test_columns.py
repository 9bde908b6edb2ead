"""`chosen_sheet` and its advice: what a column holds is said by its name or by the user, never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

import fieldmark
from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.readers.columns import chosen_sheet, parse_columns, warn_of_others


def table(folder: Path, *lines: str) -> Path:
    (folder / "birds.csv").write_text("\n".join(lines) + "\n")
    return folder / "birds.csv"


def test_the_option() -> None:
    assert parse_columns("path=file name, label=genus, species") == {"path": "file name", "label": "genus, species"}
    for wrong in ("path", "path=", "=x", "", "path=a,path=b"):
        with pytest.raises(
            DataError, match=r"is not understood. Write it as in: --columns path=filename,label=species"
        ):
            parse_columns(wrong)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"pth": "file"}, "Tables have no column 'pth' that --columns could name. Did you mean 'path'?"),
        ({"path": "fil"}, "birds.csv has no column 'fil', which --columns names. Did you mean 'file'?"),
        ({"label": "twice"}, "birds.csv has more than one column 'twice', which --columns names"),
    ],
)
def test_names_that_lead_nowhere(tmp_path: Path, columns: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=message.replace("?", r"\?")):
        chosen_sheet(table(tmp_path, "file,label,twice,twice", "a.jpg,x,1,2"), columns, ("path", "label"))


def test_columns_called_1_and_2_are_no_positions(tmp_path: Path) -> None:
    sheet, places = chosen_sheet(table(tmp_path, "0,1,2", "9,a.jpg,x"), {"path": "1", "label": "2"}, ("path", "label"))
    assert (places, list(sheet.lines)) == ({"path": 1, "label": 2}, [2])


def advice(file: Path) -> str:
    with pytest.warns(DataWarning) as caught:
        warn_of_others(*chosen_sheet(file, {}, ("path", "label")))
    return str(caught[0].message)


def test_advice_on_columns_that_are_left_out(tmp_path: Path) -> None:
    rows = [
        f"{n}.jpg,{'abcd'[n % 4]},{n // 2},{'fm'[n // 4 % 2]},{'XXYY'[n % 4]},{n},{'2024' if n % 3 else '2025'}"
        for n in range(16)
    ]
    told = advice(table(tmp_path, "path,label,specimen_id,sex,family,note,year", *rows))
    assert "left out: 'specimen_id', 'sex', 'family', 'note', 'year'" in told
    assert "if images with the same 'specimen_id' belong together, add --columns group=specimen_id" in told
    assert "if 'sex' is something to tell of each image, add --columns attribute.sex=sex" in told
    assert "if 'family' is a level above the classes, add --columns level.family=family" in told
    assert "note=" not in told


@pytest.mark.parametrize("name", ["individual", "Patient ID", "seq_id", "burst", "location", "lesion_id", "camera"])
def test_names_of_groups(tmp_path: Path, name: str) -> None:
    rows = [f"{n}.jpg,{'ab'[n % 2]},{n // 3}" for n in range(9)]
    assert f"--columns group={name}" in advice(table(tmp_path, f"path,label,{name}", *rows))
    alone = [f"{n}.jpg,{'ab'[n % 2]},{n}" for n in range(9)]
    assert "--columns" not in advice(table(tmp_path, f"path,label,{name}", *alone))


def test_a_table_in_a_folder_and_a_folder_without_one(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--columns says how to read a table, but .* holds .*folders"):
        fieldmark.read(pictures, columns={"path": "file"})
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).touch()
    table(tmp_path, "file,species", "a.jpg,x", "b.jpg,y")
    (tmp_path / "other.csv").write_text("when,where\n")
    columns = {"path": "file", "label": "species"}
    assert fieldmark.read(tmp_path, columns=columns).classes == ("x", "y")
    (tmp_path / "again.csv").write_text("file,species\na.jpg,x\n")
    with pytest.raises(DataError, match=r"holds 2 tables with the columns file and species: again.csv, birds.csv"):
        fieldmark.read(tmp_path, columns=columns)


def test_data_that_hold_the_digits_are_no_header(tmp_path: Path) -> None:
    file = table(tmp_path, "a.jpg,2,1", "b.jpg,3,1")
    for name in ("a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(b"")
    with pytest.warns(DataWarning, match="'3'"):
        assert fieldmark.read(file, columns={"path": "1", "label": "2"}).classes == ("2", "3")


def test_several_tables_of_which_none_fits(tmp_path: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (tmp_path / name).write_text("file,kind\n1.jpg,x\n")
    with pytest.raises(DataError, match="holds 2 tables, none with the columns file and species"):
        fieldmark.read(tmp_path, columns={"path": "file", "label": "species"})
