"""What a user wants to be written of answers: decided when a file is written, not while pictures are looked at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from fieldmark.answering.record import Header, Kept, Record
from fieldmark.answering.verdicts import Speaker
from fieldmark.core.errors import FieldmarkError
from fieldmark.core.listener import Listener
from fieldmark.data.bursts import check_grouping
from fieldmark.exporting.results.answered import Answered
from fieldmark.exporting.results.sorting import check_sortable, sort_photographs
from fieldmark.exporting.results.survey import read_survey
from fieldmark.exporting.results.writing import Form, check_place, write
from fieldmark.runs.bundle import Bundle

__all__ = ["Wanted"]


@dataclass(frozen=True)
class Wanted:
    """Options of verdicts and of files."""

    among: Sequence[str] | None = None
    candidates: int = 5
    accuracy: float | None = None
    coverage: float | None = None
    bursts: bool = False
    gap: float | None = None
    probabilities: bool = False
    survey: Path | None = None
    sort_into: Path | None = None
    copies: bool = False

    def check(self, form: Form | None) -> None:
        """Raise FieldmarkError for options that contradict each other; without a form, only a record is written."""
        check_grouping(self.bursts, self.gap)
        given = {
            "--bursts": self.bursts,
            "--gap": self.gap is not None,
            "--probabilities": self.probabilities,
            "--survey": self.survey is not None,
            "--sort-into": self.sort_into is not None,
        }
        if form is None and any(given.values()):
            raise FieldmarkError(
                "A shard has only some pictures of each burst, and nothing but its record is written",
                f"Give {' and '.join(name for name, yes in given.items() if yes)} when the shards are joined.",
            )
        if form in ("camtrap-dp", "darwin-core") and self.survey is None:
            raise FieldmarkError(
                f"{form} says where and when photographs were taken, which only you know",
                "Give a file that says it with --survey; the guide on camera traps shows one.",
            )
        if self.survey:
            read_survey(self.survey)  # what is wrong with it is told now, not after hours of work

    def speaker(self, bundle: Bundle) -> Speaker:
        """What turns answers into verdicts. Raises RunError for a promise that cannot be kept."""
        return Speaker.of(
            bundle, among=self.among, candidates=self.candidates, accuracy=self.accuracy, coverage=self.coverage
        )

    def check_places(
        self, bundle: Bundle, header: Header, out: Path, form: Form, wrote: Collection[tuple[str, str]]
    ) -> None:
        """Raise StorageError, before any work, for places where something is in the way."""
        check_place(out, form, wrote)
        if self.sort_into:
            check_sortable(self.sort_into, header, self.speaker(bundle), copies=self.copies)

    def write(
        self, bundle: Bundle, kept: Kept, out: Path, form: Form, record: Record | None, listener: Listener
    ) -> None:
        """Write the file and sort the photographs. A record remembers what was written from it."""
        answered = Answered(kept, self.speaker(bundle), self.bursts, self.gap)
        survey = read_survey(self.survey) if self.survey else None
        write(answered, out, form, record, probabilities=self.probabilities, survey=survey, listener=listener)
        if self.sort_into:
            sort_photographs(answered, self.sort_into, copies=self.copies, listener=listener)
