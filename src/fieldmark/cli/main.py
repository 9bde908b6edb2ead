"""`main` runs a command, and reports a user's error in one line."""

from __future__ import annotations

import atexit
import gc
import io
import sys
import warnings
from typing import Annotated, TextIO

import typer

from fieldmark.cli import alike, deploy, labelling, learn, look, predict, verify
from fieldmark.cli.app import app
from fieldmark.cli.terminal import INTERRUPTED, say
from fieldmark.core.errors import FieldmarkError, FieldmarkWarning
from fieldmark.core.interrupts import termination_interrupts

__all__ = ["main"]

_ = alike, deploy, labelling, learn, look, predict, verify  # importing them registers their commands
_BAD_INPUT = 2
# typer brings its own copy of click and exports only one of its errors: these are that one and its parents
_MISUSE = tuple(kind for kind in typer.BadParameter.__mro__ if issubclass(kind, Exception) and kind is not Exception)


def main() -> None:
    """Run the command line. A user's error gives one line and exit status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # file names and terminals are not always UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    atexit.register(gc.freeze)  # memory goes with the process; a last search for garbage takes up to a second
    warnings.showwarning = _showwarning
    try:
        with termination_interrupts():
            status = app(prog_name="fieldmark", standalone_mode=False)
    except FieldmarkError as error:
        raise SystemExit(_complain(str(error))) from None
    except _MISUSE as error:
        raise SystemExit(_complain(_misuse(error))) from None
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    if status == INTERRUPTED:
        _complain("interrupted")
    raise SystemExit(status)


def _showwarning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show Fieldmark's own warnings as a line, and others as Python does."""
    if issubclass(category, FieldmarkWarning):
        say(f"warning: {str(message).rstrip('.')}.")
    else:
        _python_showwarning(message, category, filename, lineno, file, line)


_python_showwarning = warnings.showwarning


def _complain(text: str) -> int:
    if text:
        say(f"fieldmark: {text}")
    return _BAD_INPUT


def _misuse(error: Exception) -> str:
    """What is wrong with the arguments, or "" if help was printed instead."""
    message = str(getattr(error, "format_message", lambda: error)()).strip().rstrip(".")
    command = getattr(getattr(error, "ctx", None), "command_path", "fieldmark")
    if option := getattr(error, "option_name", None):
        from fieldmark.core.recipe import Recipe

        key = option.lstrip("-").replace("-", "_")
        unknown = message.partition(" (")[0]  # without the suggestion of options that are spelt similarly
        for section, field in Recipe.model_fields.items():
            if key in getattr(field.annotation, "model_fields", ()):
                return f"{unknown}. It is a key of the recipe: --set {section}.{key}=…"
            if key == section:
                return f"{unknown}. It is a key of the recipe: --set {key}=…"
    return message and f"{message}{'' if message.endswith('?') else '.'} See {command} --help."


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False) -> None:
    if version:
        from fieldmark.core.version import version as version_of

        typer.echo(f"fieldmark {version_of()}")
        raise typer.Exit
