"""The application that commands register with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from typer.core import TyperGroup

__all__ = [
    "ACCURACY",
    "ANSWER",
    "COVERAGE",
    "DATA",
    "DEPLOY",
    "LABEL",
    "LOOK",
    "SEARCH",
    "Columns",
    "Device",
    "Engine",
    "Root",
    "app",
    "columns_of",
]

ANSWER, DEPLOY, SEARCH, LABEL, LOOK = (
    "Train and answer",
    "Take it elsewhere",
    "Search",
    "Label",
    "Look at data and models",
)
_ORDER = (
    *("train", "evaluate", "predict", "explain", "compare", "enrol"),
    *("export", "bundle", "serve"),
    *("index", "search", "retrieve", "verify"),
    *("doubt", "next"),
    *("audit", "report", "preview", "parts", "bench", "draw", "shards", "datasets", "backbones", "recipes"),
)
"""Commands as the help lists them, group by group: what is used first stands first."""


class _InOrder(TyperGroup):
    def list_commands(self, ctx: typer.Context) -> list[str]:  # type: ignore[override]  # typer's own copy of click
        return sorted(self.commands, key=_ORDER.index)


app = typer.Typer(
    name="fieldmark",
    cls=_InOrder,
    help="Fine-grained image classification: telling apart things that look alike.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Root = Annotated[
    Path | None,
    typer.Option(help="Folder for copies and downloads of named data sets; data/ or the cache if not given."),
]
"""An option of every command that takes data."""

Columns = Annotated[
    str | None,
    typer.Option(
        help="What a table's columns are called, such as path=filename,label=species; positions if it has no header.",
        metavar="NAME=COLUMN",
    ),
]
"""An option of every command that may read a table."""

# named, since some versions of typer would make an option --DEVICE of its metavar
Device = Annotated[
    str, typer.Option("--device", help="Where to compute: auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE")
]
"""An option of every command that computes."""

Engine = Annotated[
    Literal["auto", "torch", "onnx"],
    typer.Option(
        metavar="ENGINE",
        help="What computes on the processor: torch, onnx, or auto for the faster one, which a long job finds out.",
    ),
]
"""An option of commands that answer for many pictures."""

DATA = "Class folders, a table (CSV, TSV, Excel, Parquet), tar shards, or the folder or name of a data set."
"""What the argument `data` accepts."""

ACCURACY = (
    "Required accuracy of the names given; in doubt, a coarser name or none is given. If not given, the highest of "
    "0.95, 0.9, 0.8 and 0.7 that can be promised."
)
COVERAGE = "Share of images whose set of possible classes contains the true one; 0.9 if not given."


def columns_of(text: str | None) -> dict[str, str] | None:
    """The option `--columns` as a mapping. Raises DataError."""
    if text is None:
        return None
    from fieldmark.data.readers.columns import parse_columns

    return parse_columns(text)
