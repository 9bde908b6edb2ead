"""The application that commands register with."""

from __future__ import annotations

import typer

__all__ = ["app"]

app = typer.Typer(
    name="fieldmark",
    help="Fine-grained image classification: telling apart things that look alike.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
