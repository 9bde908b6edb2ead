"""`read_sheet`: the same rows, whatever program, encoding and separator they were saved with."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

import openpyxl
import pytest

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.data.readers.sheet import Sheet, header_of, read_sheet, text_of

pytestmark = pytest.mark.filterwarnings("error::fieldmark.core.errors.DataWarning")


def rows(sheet: Sheet) -> list[tuple[str, ...]]:
    return list(zip(*map(sheet.column, range(len(sheet.header))), strict=True))


def saved(file: Path, text: str, encoding: str = "utf-8") -> Path:
    file.write_bytes(text.encode(encoding))
    return file


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_unicode_and_separators(tmp_path: Path, encoding: str, separator: str) -> None:
    text = "path,label\r\na.jpg,Möwe\r\n\r\nb.jpg,чайка\r\n".replace(",", separator)
    sheet = read_sheet(saved(tmp_path / "birds.csv", text, encoding))
    assert sheet.header == ("path", "label")
    assert rows(sheet) == [("a.jpg", "Möwe"), ("b.jpg", "чайка")]
    assert list(sheet.lines) == [2, 4]


@pytest.mark.parametrize(
    ("encoding", "called", "names"),
    [
        ("cp1252", "Windows-1252", ["Möwe"]),
        ("cp1252", "Windows-1252", ["Chardonneret élégant", "Mésange à longue queue"]),
        ("cp1252", "Windows-1252", ["Red\xa0fox"]),  # pasted from a web page
        ("cp1251", "Windows-1251", ["чайка", "снегирь обыкновенный"]),
        ("cp1250", "Windows-1250", ["Żuraw", "Łabędź niemy"]),
        ("shift_jis", "Shift JIS", ["かもめ", "白鳥"]),
    ],
)
def test_other_encodings_are_told(tmp_path: Path, encoding: str, called: str, names: list[str]) -> None:
    text = "path,label\n" + "".join(f"{place}.jpg,{name}\n" for place, name in enumerate(names))
    file = saved(tmp_path / "birds.csv", text, encoding)
    word = next(word for word in names[0].split(" ") if not word.isascii())
    told = re.escape(f"is not UTF-8 and was read as {called}, which gives words such as {word!r}")
    with pytest.warns(DataWarning, match=told):
        sheet = read_sheet(file)
    assert sheet.column(1) == names
    assert header_of(file) == ["path", "label"]  # which says nothing


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "birds.csv").write_bytes(bytes(range(128, 256)) * 3)
    with pytest.raises(DataError, match=r"birds.csv is not text in an encoding that Fieldmark knows. Save it as CSV"):
        read_sheet(tmp_path / "birds.csv")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("birds.csv", '"path; or file";label\na.jpg;"x, y, z"\n'),
        ("birds.tsv", "path; or file\tlabel\na.jpg\tx, y, z\n"),
        ("birds.csv", "sep=;\npath, or file;label\na.jpg;x, y, z\n"),
    ],
)
def test_the_separator_is_what_divides_the_header(tmp_path: Path, name: str, text: str) -> None:
    sheet = read_sheet(saved(tmp_path / name, text))
    assert len(sheet.header) == 2
    assert rows(sheet) == [("a.jpg", "x, y, z")]


def test_cells_that_were_made_safe_read_back(tmp_path: Path) -> None:
    sheet = read_sheet(saved(tmp_path / "birds.csv", "path,label\n'-a.jpg,'=1+1\nb.jpg,'t Veld\n"))
    assert rows(sheet) == [("-a.jpg", "=1+1"), ("b.jpg", "'t Veld")]


def test_the_first_sheet_of_a_workbook(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    for row in (
        ["path", "label", None, "day", "count", "seen"],
        [],
        ["a.jpg", 7.0, None, datetime.date(2024, 5, 1), 2.5, True],
        ["b.jpg", "007", None, None, 3, None],
    ):
        book.active.append(row)
    book.active["H9"].number_format = "0.00"  # a cell that is formatted but empty
    book.save(tmp_path / "birds.xlsx")
    sheet = read_sheet(tmp_path / "birds.xlsx")
    assert header_of(tmp_path / "birds.xlsx") == ["path", "label", "", "day", "count", "seen"]
    assert [row[:2] for row in rows(sheet)] == [("a.jpg", "7"), ("b.jpg", "007")]
    assert [row[3:] for row in rows(sheet)] == [("2024-05-01T00:00:00", "2.5", "true"), ("", "3", "")]
    assert (sheet.unit, list(sheet.lines)) == ("row", [3, 4])
    book.create_sheet("Notes")
    book.save(tmp_path / "birds.xlsx")
    with pytest.warns(DataWarning, match="Only the first sheet of .*birds.xlsx, 'Sheet', is read, not 'Notes'"):
        read_sheet(tmp_path / "birds.xlsx")


def test_a_damaged_workbook(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"birds.xlsx cannot be read as an Excel workbook \(.*\). Save it again"):
        read_sheet(saved(tmp_path / "birds.xlsx", "path,label\n"))


def test_a_sheet_without_a_header(tmp_path: Path) -> None:
    sheet = read_sheet(saved(tmp_path / "birds.csv", "a.jpg,x\nb.jpg,y\n"), headed=False)
    assert sheet.header == ("1", "2")
    assert (rows(sheet), list(sheet.lines)) == ([("a.jpg", "x"), ("b.jpg", "y")], [1, 2])


def test_lists_keep_names_that_are_not_utf_8() -> None:
    assert text_of(b"\xef\xbb\xbfa.jpg\n") == "a.jpg\n"
    assert text_of(b"M\xf6we.jpg", errors="surrogateescape").encode(errors="surrogateescape") == b"M\xf6we.jpg"


def test_what_is_no_table_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="first line: field larger than field limit"):
        header_of(saved(tmp_path / "long.csv", "x" * 200_000))
    (tmp_path / "cut.csv").write_bytes("path,label\na.jpg,x\n".encode("utf-16")[:-1])
    with pytest.raises(DataError, match="says that it is UTF-16, but it is damaged"):
        read_sheet(tmp_path / "cut.csv")


def test_a_damaged_page_of_parquet_is_a_data_error(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = tmp_path / "birds.parquet"
    pq.write_table(
        pa.table({"path": [f"{i}.jpg" for i in range(5000)]}), file, compression="zstd", use_dictionary=False
    )
    data = bytearray(file.read_bytes())
    data[200:2000] = bytes(1800)
    file.write_bytes(data)
    sheet = read_sheet(file)
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        sheet.column(0)


def test_the_header_of_a_workbook_says_nothing_of_its_sheets(tmp_path: Path) -> None:
    book = openpyxl.Workbook()
    book.active.append(["path", "label"])
    book.create_sheet("others")
    book.save(tmp_path / "birds.xlsx")
    assert header_of(tmp_path / "birds.xlsx") == ["path", "label"]
