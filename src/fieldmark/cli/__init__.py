"""The command line. It parses first and imports torch afterwards, so that help is instant.

`main` runs the `app`. `look` and `learn` hold the commands. `answers`, `scores` and `lists` print their results, and
`terminal` shows their progress.
"""

from fieldmark.cli.main import main

__all__ = ["main"]
