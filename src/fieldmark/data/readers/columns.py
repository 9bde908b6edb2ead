"""Columns: which column of a sheet holds what, by its name or as the user says, and advice on those left out.

A table has the columns `path` and `label`; optionally `split`, `group`, the box `x, y, width, height`, the `mask` of
the object, the key points `keypoint.<name>.x`, `.y` and `.visible`, the taxonomy `level.<name>` and the attributes
`attribute.<name>`. Whoever calls them otherwise says so: {"path": "filename", "label": "species"}, or by position in a
table without a header: {"path": "1", "label": "2"}.
"""

from __future__ import annotations

import difflib
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from fieldmark.core.errors import DataError, DataWarning, nearest
from fieldmark.core.wording import first_few
from fieldmark.data.names import normal
from fieldmark.data.readers.sheet import Sheet, header_of, read_sheet
from fieldmark.data.scan import is_image_name

__all__ = ["KEYPOINT", "Columns", "chosen_sheet", "parse_columns", "warn_of_others"]

Columns: TypeAlias = Mapping[str, str]
"""What a column holds → its name in the table."""

KEYPOINT = re.compile(r"keypoint\.(.+)\.(x|y|visible)")
_PLAIN = ("path", "label", "split", "group", "mask", "x", "y", "width", "height")
_KNOWN = re.compile("|".join([*_PLAIN, r"(level|attribute)\..+", KEYPOINT.pattern]))
_EXAMPLES = (*_PLAIN, "level.NAME", "attribute.NAME", "keypoint.NAME.x", "keypoint.NAME.y", "keypoint.NAME.visible")

_USUAL_NAMES = {
    "path": "filename file_name file filepath file_path image_path image image_name image_file image_id img img_path "
    "photo picture",
    "label": "species class class_name category target scientific_name common_name taxon breed variety diagnosis dx "
    "make_model model name",
}
"""What people call these columns, the clearest names first."""
_GROUPS = re.compile(
    r"(.*[_. ])?(individual|specimen|patient|subject|sequence|seq|burst|session|event|encounter|location|site|station|"
    r"camera|animal|track|video|clip|lesion|nest|plot|plant)s?[_. ]?(id|no|nr|name|number)?",
    re.IGNORECASE,
)
_MOST_VALUES, _IMAGES_PER_VALUE = 20, 4
"""Of a column that may be an attribute or a level."""
_MOST_ADVICE = 3


def parse_columns(text: str) -> dict[str, str]:
    """`path=filename,label=species` → {"path": "filename", "label": "species"}. Raises DataError."""
    pairs = [pair.partition("=") for pair in re.split(r",(?=[^,=]*=)", text)]  # the name of a column may hold a comma
    columns = {name.strip(): column.strip() for name, _, column in pairs}
    if len(columns) < len(pairs) or not all([*columns, *columns.values()]):
        raise DataError(
            f"--columns {text!r} is not understood", "Write it as in: --columns path=filename,label=species"
        )
    return columns


def chosen_sheet(file: Path, columns: Columns, required: Collection[str]) -> tuple[Sheet, dict[str, int]]:
    """A table, and the position of every column in it that Fieldmark knows or `columns` names.

    Positions in place of names say that the table has no header. Raises DataError for a `required` column that is not
    there, for a name in `columns` that means nothing or is not in the table, and for a column that stands twice.
    """
    columns = {normal(name): normal(column) for name, column in columns.items()}
    for name in columns:
        if not _KNOWN.fullmatch(name):
            raise DataError(f"Tables have no column {name!r} that --columns could name", nearest(name, _EXAMPLES))
    by_position = all(column.isdigit() for column in columns.values()) and bool(columns)
    sheet = read_sheet(file, headed=not by_position or _is_header(header_of(file), columns.values()))
    places = {name: _place(sheet, column) for name, column in columns.items()}
    own = [name for name in sheet.header if _KNOWN.fullmatch(name) and name not in columns]
    if twice := [name for name, number in Counter(own).items() if number > 1]:
        raise DataError(f"{file} has more than one column {twice[0]!r}", "Give each column its own name.")
    places |= {name: sheet.header.index(name) for name in own}
    if missing := [name for name in required if name not in places]:
        raise _missing(sheet, missing, places)
    return sheet, places


def _is_header(row: Sequence[str], names: Collection[str]) -> bool:
    """Whether the first row of a table is a header in which digits are names, and no data with these digits in it."""
    return set(names) <= set(row) and not any(map(is_image_name, row))


def warn_of_others(sheet: Sheet, places: Mapping[str, int]) -> None:
    """Warn of the columns that are left out, and say what they may be."""
    others = [place for place in range(len(sheet.header)) if place not in places.values()]
    if others:
        names = first_few((repr(sheet.header[place]) for place in others), limit=10)
        advice = [f"; {text}" for text in _advice(sheet, places, others)]
        warnings.warn(
            f"Unknown columns in {sheet.file} are left out: {names}{''.join(advice)}", DataWarning, stacklevel=4
        )


def _place(sheet: Sheet, column: str) -> int:
    found = [place for place, name in enumerate(sheet.header) if name == column]
    if len(found) != 1:
        wrong = "more than one column" if found else "no column"
        raise DataError(
            f"{sheet.file} has {wrong} {column!r}, which --columns names",
            "Give each column its own name." if found else nearest(column, sheet.header),
        )
    return found[0]


def _missing(sheet: Sheet, missing: Sequence[str], places: Mapping[str, int]) -> DataError:
    header = sheet.header
    if pictures := [place for place, cell in enumerate(header) if is_image_name(cell)]:
        other = next((place for place in range(len(header)) if place not in pictures), pictures[0] + 1)
        return DataError(
            f"{sheet.file}: the first {sheet.unit} looks like data ({first_few(header)}), not like a header",
            "Expected a header with path and label: add one, or say where they are with "
            f"--columns path={pictures[0] + 1},label={other + 1}.",
        )
    free = [name for place, name in enumerate(header) if place not in places.values()]
    said = ",".join(f"{name}={_usual(name, free) or 'NAME'}" for name in missing)
    them = "column" if len(missing) == 1 else "columns"
    named = " and ".join(map(repr, missing))
    return DataError(
        f"{sheet.file} has no {them} {named}; its columns are: {', '.join(header) or 'none'}",
        f"Rename the {them}, or say what they are called: --columns {said}."
        if len(missing) > 1
        else f"Rename the column that holds it, or say what it is called: --columns {said}.",
    )


def _usual(name: str, candidates: Sequence[str]) -> str:
    """The column that most likely holds what is called `name` here; "" if none has a telling name."""
    by_lower = {column.lower().replace(" ", "_"): column for column in reversed(candidates)}
    usual = [one for one in _USUAL_NAMES.get(name, "").split() if one in by_lower]
    close = usual or difflib.get_close_matches(name, by_lower, n=1, cutoff=0.5)
    return by_lower[close[0]] if close else ""


def _advice(sheet: Sheet, places: Mapping[str, int], others: Sequence[int]) -> Iterator[str]:
    """What columns may be that are left out. It is only said: a guess must not change data."""
    labels, told = sheet.column(places["label"]), 0
    for place in others:
        name = sheet.header[place]
        try:
            values = sheet.column(place)
        except DataError:  # not text
            continue
        kind = _kind(name, values, labels, grouped="group" in places)
        if kind and told < _MOST_ADVICE and not name.isdigit():
            told += 1
            yield kind


def _kind(name: str, values: Sequence[str], labels: Sequence[str], *, grouped: bool) -> str:
    """The advice on one column, or ""."""
    known = {value for value in values if value}
    if not grouped and _GROUPS.fullmatch(name) and 1 < len(known) < len(values):
        return f"if images with the same {name!r} belong together, add --columns group={name}"
    if not 2 <= len(known) <= min(_MOST_VALUES, len(values) // _IMAGES_PER_VALUE):
        return ""
    pairs = {(label, value) for label, value in zip(labels, values, strict=True) if value}
    if len(pairs) > len({label for label, _ in pairs}):
        return f"if {name!r} is something to tell of each image, add --columns attribute.{name}={name}"
    if len(known) < len(set(labels)):
        return f"if {name!r} is a level above the classes, add --columns level.{name}={name}"
    return ""
