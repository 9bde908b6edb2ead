"""The command line. It parses first and imports torch afterwards, so that help is instant.

`main` runs the `app`. `learn`, `look`, `alike`, `verify` and `labelling` hold the commands. `answers`, `scores` and
`lists` print their results, and `terminal` shows their progress.
"""

from fieldmark.cli.main import main

__all__ = ["main"]
