"""Sheets: a table file → its header and the text of its columns, whatever program wrote it.

CSV and TSV may be in any common encoding and separated by commas, semicolons, tabs or bars. Of an Excel workbook the
first sheet is read. Everything is text, so that the label 01 of a CSV file stays 01.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.core.errors import DataError, DataWarning
from fieldmark.core.reading import read_regular
from fieldmark.core.storage import from_cell
from fieldmark.core.wording import counted, first_few
from fieldmark.data.names import normal

__all__ = ["TABLE_SUFFIXES", "Sheet", "header_of", "read_sheet", "text_of"]

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet", ".xlsx")
_SEPARATORS = ",;\t|"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LEGACY = {
    "cp1250": "Windows-1250",
    "cp1251": "Windows-1251",
    "cp1252": "Windows-1252",
    "shift_jis": "Shift JIS",
    "euc_jp": "EUC-JP",
    "gb18030": "GB 18030",
    "big5": "Big5",
    "euc_kr": "EUC-KR",
}
"""The encodings other than Unicode that tables are found in, and what people call them."""
_WESTERN_SIGNS = set("’‘“”–—…°×´«»¿¡€\xa0")


@dataclass(frozen=True)
class Sheet:
    """A table of N rows as text."""

    file: Path
    unit: str
    """What a row is called in messages: "line" or "row"."""
    header: tuple[str, ...]
    lines: Sequence[int]
    """(N) where each row stands in the file, counted from 1."""
    column: Callable[[int], list[str]]
    """The text (N) of a column by its position, from 0. Raises DataError for a column that does not hold text."""


def read_sheet(file: Path, *, headed: bool = True) -> Sheet:
    """Read a table; if it is not `headed`, its columns are called "1", "2", …

    Raises DataError for a file that cannot be read and for a row with more or fewer fields than the first. If the
    encoding is a guess, a DataWarning names it and shows a word that it gave.
    """
    if _suffix(file) == ".parquet":
        return _read_parquet(file, headed)
    rows, lines = _workbook_rows(file, warn=True) if _suffix(file) == ".xlsx" else _text_rows(file, warn=True)
    unit = "row" if _suffix(file) == ".xlsx" else "line"
    width = len(rows[0]) if rows else 0
    for row, line in zip(rows, lines, strict=True):
        if len(row) != width:
            raise DataError(
                f"{file}, {unit} {line}: {counted(len(row), 'field')}, but the {'header' if headed else 'first line'} "
                f"has {width}",
                "Quote fields that contain the separator.",
            )
    header, skipped = (rows[0] if rows else [], 1) if headed else (_numbered(width), 0)
    body = rows[skipped:]
    return Sheet(file, unit, tuple(map(normal, header)), lines[skipped:], lambda place: [row[place] for row in body])


def header_of(file: Path) -> list[str]:
    """The first row of a table, without judging the others. Raises DataError if the file cannot be read."""
    if _suffix(file) == ".parquet":
        return _parquet_names(file)
    rows, _ = _workbook_rows(file) if _suffix(file) == ".xlsx" else _text_rows(file)
    return list(map(normal, rows[0])) if rows else []


def text_of(data: bytes, *, errors: str = "strict") -> str:
    """Unicode text in UTF-8 or, if a byte order mark or every second byte says so, in UTF-16 or UTF-32."""
    return data.decode(_unicode(data), errors)


def _suffix(file: Path) -> str:
    return file.suffix.lower()


def _numbered(width: int) -> list[str]:
    return [str(place) for place in range(1, width + 1)]


def _read_bytes(file: Path) -> bytes:
    try:
        return read_regular(file)
    except OSError as error:
        raise DataError(f"Cannot read {file}: {error.strerror}", "Check its permissions.") from error
    except ValueError as error:
        raise DataError(f"Cannot read {file}: {error}", "Save larger tables as Parquet.") from error


# ---- CSV and TSV


def _text_rows(file: Path, *, warn: bool = False) -> tuple[list[list[str]], list[int]]:
    """The rows that are not blank, their fields stripped, and the line that each ends on."""
    text = _decoded(file, warn=warn)
    separator = _separator(file, text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    rows, lines = [], []
    try:
        for row in reader:
            if any(row) and not (reader.line_num == 1 and row[0].startswith("sep=")):  # the second is Excel's own line
                rows.append([from_cell(cell).strip() for cell in row])
                lines.append(reader.line_num)
    except csv.Error as error:
        raise DataError(
            f"{file}, line {reader.line_num}: {error}", "Quote fields that contain the separator."
        ) from error
    return rows, lines


def _separator(file: Path, text: str) -> str:
    """What divides the first line into the most fields; in doubt, a tab in a .tsv and else a comma."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if said := re.fullmatch("sep=(.)", first):
        return said[1]
    order = "\t,;|" if _suffix(file) == ".tsv" else _SEPARATORS
    try:
        return max(order, key=lambda separator: len(next(csv.reader([first], delimiter=separator), ())))
    except csv.Error as error:
        raise DataError(f"{file}, first line: {error}", "Quote fields that contain the separator.") from error


def _decoded(file: Path, *, warn: bool) -> str:
    data = _read_bytes(file)
    try:
        return text_of(data)
    except UnicodeError as error:
        if said := next((encoding for mark, encoding in _BOMS if data.startswith(mark)), None):
            called = said.removesuffix("-sig").upper()
            raise DataError(
                f"{file} says that it is {called}, but it is damaged", "Copy it again, or save it as CSV in UTF-8."
            ) from error
    encoding = "cp1252" if _is_western(data) else _guessed(data)
    if encoding is None:
        raise DataError(f"{file} is not text in an encoding that Fieldmark knows", "Save it as CSV in UTF-8.")
    text = data.decode(encoding)
    if warn:
        word = next(word for word in re.split(r"[\s,;|\"]+", text, flags=re.ASCII) if not word.isascii())
        warnings.warn(
            f"{file} is not UTF-8 and was read as {_LEGACY[encoding]}, which gives words such as {word!r}; "
            "if they are wrong, save it as CSV in UTF-8",
            DataWarning,
            stacklevel=5,
        )
    return text


def _unicode(data: bytes) -> str:
    """The one of Unicode's encodings that the bytes would have to be in."""
    for mark, encoding in _BOMS:
        if data.startswith(mark):
            return encoding
    start = data[:256]
    if b"\0" not in start:
        return "utf-8"
    return "utf-16-le" if start[1::2].count(0) > start[::2].count(0) else "utf-16-be"


def _is_western(data: bytes) -> bool:
    """Whether the bytes read as words of a Western European language: Latin letters, never three accents in a row.

    Tables are short, and statistics of letters then take é for the beginning of a Chinese word.
    """
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return False
    odd = {letter for letter in text if not letter.isascii()} - _WESTERN_SIGNS
    latin = all(letter.isalpha() and letter != "ƒ" and "LATIN" in unicodedata.name(letter, "") for letter in odd)
    return latin and not re.search(r"[^\x00-\x7f]{3}", text)


def _guessed(data: bytes) -> str | None:
    from charset_normalizer import from_bytes

    telling = b"\n".join(dict.fromkeys(line for line in data.splitlines() if not line.isascii()))
    found = from_bytes(telling[: 2**16], cp_isolation=list(_LEGACY), enable_fallback=False).best()
    encoding = None if found is None else found.encoding
    try:
        data.decode(encoding or "ascii")
    except UnicodeDecodeError:
        return None
    return encoding


# ---- Excel


def _workbook_rows(file: Path, *, warn: bool = False) -> tuple[list[list[str]], list[int]]:
    """The rows of the first sheet that are not blank, without blank columns at the right, and their numbers."""
    import openpyxl

    data = _read_bytes(file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of colours and menus that it does not know
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
            first, *others = book.worksheets
            first.reset_dimensions()  # some programs write wrong ones
            rows = [[_as_text(cell) for cell in row] for row in first.iter_rows(values_only=True)]
    except Exception as error:  # of a damaged workbook, openpyxl raises nearly anything
        raise DataError(f"{file} cannot be read as an Excel workbook ({error})", "Save it again, or as CSV.") from error
    if others and warn:
        names = first_few(repr(sheet.title) for sheet in others)
        warnings.warn(
            f"Only the first sheet of {file}, {first.title!r}, is read, not {names}", DataWarning, stacklevel=4
        )
    kept = [(row, line) for line, row in enumerate(rows, 1) if any(row)]
    filled = [place for row, _ in kept for place, cell in enumerate(row) if cell]
    width = max(filled, default=-1) + 1
    return [[*row[:width], *[""] * (width - len(row))] for row, _ in kept], [line for _, line in kept]


def _as_text(cell: Any) -> str:
    """A cell as a person would type it."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return cell.isoformat() if isinstance(cell, (date, datetime, time)) else str(cell).strip()


# ---- Parquet


def _parquet_names(file: Path) -> list[str]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(file).names)
    except (pa.ArrowException, OSError) as error:
        raise _no_parquet(file, error) from error


def _no_parquet(file: Path, error: Exception) -> DataError:
    return DataError(f"{file} cannot be read as Parquet: {str(error).splitlines()[0]}", "Export it again.")


def _read_parquet(file: Path, headed: bool) -> Sheet:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = _parquet_names(file)

    def column(place: int) -> list[str]:
        try:
            found = pq.ParquetFile(file).read(columns=[names[place]]).column(0)
        except (pa.ArrowException, OSError) as error:  # a page may be damaged where the header is not
            raise _no_parquet(file, error) from error
        try:
            coded = found.cast(pa.large_string()).combine_chunks().dictionary_encode()
        except pa.ArrowException as error:
            raise DataError(
                f"{file}: column {names[place]!r} holds {found.type}", "Expected text, numbers or booleans."
            ) from error
        # millions of rows share the objects of a few texts
        texts = np.array([*(text.strip() for text in coded.dictionary.to_pylist()), ""], dtype=object)
        return texts[coded.indices.fill_null(len(texts) - 1).to_numpy(zero_copy_only=False)].tolist()

    header = names if headed else _numbered(len(names))
    return Sheet(file, "row", tuple(map(normal, header)), range(1, pq.read_metadata(file).num_rows + 1), column)
