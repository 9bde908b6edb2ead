"""The application that commands register with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["DATA", "Device", "Root", "app"]

app = typer.Typer(
    name="fieldmark",
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

Device = Annotated[str, typer.Option(help="Where to compute: auto, cpu, cuda, cuda:N or mps.", metavar="DEVICE")]
"""An option of every command that computes."""

DATA = "Class folders, a table (CSV, TSV, Parquet), or the folder or name of a data set."
"""What the argument `data` accepts."""
