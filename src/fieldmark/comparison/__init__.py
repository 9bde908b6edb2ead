"""What a comparison of recipes comes to, without any training: results that are kept, their ranking, their page.

`commands.compare` trains and brings them together.
"""

from fieldmark.comparison.composition import compose
from fieldmark.comparison.leaderboard import Leaderboard, Standing, rank
from fieldmark.comparison.result import Result

__all__ = ["Leaderboard", "Result", "Standing", "compose", "rank"]
