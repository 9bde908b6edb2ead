"""Comparisons of recipes: kept results, their ranking and their page, and the conduct of the trainings.

`commands.compare` puts them together.
"""

from fieldmark.comparison.composition import compose
from fieldmark.comparison.leaderboard import Leaderboard, Standing, rank
from fieldmark.comparison.result import Result

__all__ = ["Leaderboard", "Result", "Standing", "compose", "rank"]
