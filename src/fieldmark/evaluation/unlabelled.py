"""What photographs without labels were worth to a training."""

from __future__ import annotations

from typing import NamedTuple

from fieldmark.core.wording import counted

__all__ = ["PseudoLabelled"]


class PseudoLabelled(NamedTuple):
    """What was learnt from photographs without labels."""

    photographs: int
    used: int
    """Those whose look-alikes suggest a label, if they teach anything."""
    certainty: float
    """The mean of those that were used; 0: any class is as likely, 1: one is certain."""
    tried: int = 0
    """Images with labels that a trial answered."""
    alone: int = 0
    """Of these right without the others' help."""
    taught: int = 0
    """… and with it."""

    def sentence(self) -> str:
        """In words, without a full stop."""
        pool = f"{counted(self.photographs, 'photograph')} without a label"
        trial = f"in a trial on {counted(self.tried, 'labelled image')}, {self.taught:,} were right with their help"
        trial = f"{trial} and {self.alone:,} without" if self.tried else "whether that helps was not tried"
        if not self.used:
            why = trial if self.tried else "none of them is like one that has a label"
            return f"Learnt from none of {pool}: {why}"
        known = f"Learnt from {self.used:,} of {pool} too, by what they are likely to show"
        return f"{known} (mean certainty {self.certainty:.2f}); {trial}"
