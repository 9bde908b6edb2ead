"""`main` runs a command, and reports a user's error in one line."""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
import warnings
from collections.abc import Callable
from typing import Annotated, Any, TextIO

import typer

from fieldmark.cli import alike, deploy, labelling, learn, look, predict, verify
from fieldmark.cli.app import app
from fieldmark.cli.terminal import INTERRUPTED, say
from fieldmark.core.errors import FieldmarkError, FieldmarkWarning, LeaderlessError, RankError
from fieldmark.core.interrupts import termination_interrupts
from fieldmark.core.launch import follows, launched
from fieldmark.core.memory import lacks_memory

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
            status = _command()(prog_name="fieldmark", standalone_mode=False)
    except FieldmarkError as error:
        if follows():  # what all have met is for the first process to tell
            told = isinstance(error, RankError) and not isinstance(error, LeaderlessError)
            raise SystemExit(0 if told else _complain(f"in process {os.environ['RANK']}: {error}")) from None
        raise SystemExit(_complain(str(error))) from None
    except _MISUSE as error:
        raise SystemExit(_complain(_misuse(error))) from None
    except (KeyboardInterrupt, typer.Abort):
        status = INTERRUPTED
    except Exception as error:  # a processor's lack of memory has no class of its own
        if not lacks_memory(error):
            raise
        raise SystemExit(
            _complain("Memory does not suffice. Choose smaller pictures or a smaller network, or end what else runs.")
        ) from None
    if status == INTERRUPTED:
        _complain("interrupted")
    raise SystemExit(status)


def _command() -> Callable[..., Any]:
    """The command line; where several processes were launched, the one that the first of them leads."""
    if not launched():
        return app
    if sys.argv[1:2] != ["train"]:
        raise SystemExit(0 if follows() else _complain("Only `fieldmark train` can be started by torchrun."))
    from fieldmark.core.ranks import led

    if not follows():
        say(f"{os.environ['WORLD_SIZE']} processes train together, each with its share of every batch.")
    return led(app)


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
