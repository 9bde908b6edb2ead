"""The command line. It parses first and imports torch afterwards, so that help is instant.

`look` and `learn` hold the commands, `printing` shows what they answer, `terminal` what they tell on the way.
"""

from fieldmark.cli.main import main

__all__ = ["main"]
