"""Which form a file of answers has, and writing it: in one step, and never over a file that is not ours."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Literal, get_args

from fieldmark.answering.record import Record
from fieldmark.core.claims import check_claimable
from fieldmark.core.errors import FieldmarkError, StorageError
from fieldmark.core.listener import Listener
from fieldmark.core.storage import explained, replacing, sha256_of
from fieldmark.exporting.results.answered import Answered
from fieldmark.exporting.results.camtrap import PACKAGE, write_camtrap
from fieldmark.exporting.results.darwin import darwin_lines
from fieldmark.exporting.results.megadetector import megadetector_json
from fieldmark.exporting.results.page import compose_page
from fieldmark.exporting.results.speciesnet import speciesnet_json
from fieldmark.exporting.results.survey import Survey
from fieldmark.exporting.results.tables import csv_lines, json_lines

__all__ = ["Form", "check_place", "form_of", "write"]

Form = Literal["csv", "json", "page", "megadetector", "speciesnet", "camtrap-dp", "darwin-core"]
"""What answers can be written as."""
_BY_SUFFIX: dict[str, Form] = {".csv": "csv", ".jsonl": "json", ".html": "page"}


def form_of(out: Path, form: str | None) -> Form:
    """The form of a file: the one that is asked for, or what its name says. Raises FieldmarkError."""
    known = get_args(Form)
    if form in known:
        found: Form = form  # type: ignore[assignment]  # it is one of them
        return found
    if form is not None:
        raise FieldmarkError(f"A file cannot be written as {form!r}", f"Known: {', '.join(known)}.")
    if (suffix := out.suffix.lower()) in _BY_SUFFIX:
        return _BY_SUFFIX[suffix]
    raise FieldmarkError(
        f"The name {out.name!r} does not say what to write",
        f"Call it something.csv, .jsonl or .html, or say it with --format: {', '.join(known)}.",
    )


def check_place(out: Path, form: Form, wrote: Collection[tuple[str, str]]) -> None:
    """Raise StorageError if there is something at `out` that was not written from these records, or changed since.

    `wrote` holds the name and the SHA-256 of each file that was. A folder says itself whose it is.
    """
    if form == "camtrap-dp":
        check_claimable(out, PACKAGE)
    else:
        _check_free(out, wrote)


def _check_free(path: Path, wrote: Collection[tuple[str, str]]) -> None:
    if not os.path.lexists(path):
        return
    if path.is_dir():
        raise StorageError(f"{path} is a folder, and a file is to be written there", "Choose another --out.")
    with explained(path):
        ours = path.is_file() and not path.is_symlink() and (path.name, sha256_of(path)) in wrote
    if not ours:
        raise StorageError(
            f"{path} is in the way: Fieldmark did not write it, or it changed since",
            "Move it, or choose another --out.",
        )


def _write_file(path: Path, texts: Iterator[str], wrote: Collection[tuple[str, str]], record: Record | None) -> None:
    """Write texts to a file, in one step. A record remembers its hash first, so that it may be replaced later."""
    _check_free(path, wrote)
    digest = hashlib.sha256()
    with replacing(path) as file:
        for text in texts:
            data = text.encode()
            digest.update(data)
            file.write(data)
        if record:
            record.append_wrote(path.name, digest.hexdigest())


def write(
    answered: Answered,
    out: Path,
    form: Form,
    record: Record | None = None,
    *,
    probabilities: bool = False,
    survey: Survey | None = None,
    listener: Listener,
) -> None:
    """Write answers in a form. Raises StorageError if something foreign is in the way, or the disk is full."""
    if form == "camtrap-dp":
        write_camtrap(answered, out, _needed(survey), listener)
        return
    texts: dict[Form, Callable[[], Iterator[str]]] = {
        "csv": lambda: csv_lines(answered, probabilities=probabilities),
        "json": lambda: json_lines(answered, probabilities=probabilities),
        "megadetector": lambda: megadetector_json(answered),
        "speciesnet": lambda: speciesnet_json(answered),
        "page": lambda: iter([compose_page(answered, out, listener)]),
        "darwin-core": lambda: darwin_lines(answered, _needed(survey), listener),
    }
    _write_file(out, texts[form](), answered.kept.wrote, record)


def _needed(survey: Survey | None) -> Survey:
    assert survey is not None, "whoever asks for these has been told to give one"
    return survey
