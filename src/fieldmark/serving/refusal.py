"""`Refusal`: what a request is answered with if it cannot be answered."""

from __future__ import annotations

from typing import final

from fieldmark.core.errors import FieldmarkError, StorageError, TooLargeError, UnknownFormatError

__all__ = ["Refusal", "busy", "late", "refusal_of", "stopping", "too_many"]


@final
class Refusal(FieldmarkError):
    """A request that is not answered, with its HTTP status."""

    def __init__(self, status: int, problem: str, hint: str = "", *, retry_after: int | None = None) -> None:
        super().__init__(problem, hint)
        self.status = status
        self.retry_after = retry_after
        """In seconds; None if trying again does not help."""


def busy(retry_after: float) -> Refusal:
    """Nothing was begun, since too much is waiting."""
    seconds = max(1, round(retry_after + 0.5))
    return Refusal(429, "Too many pictures are waiting", f"Try again in {seconds} s.", retry_after=seconds)


def too_many(num_pictures: int, most: int) -> Refusal:
    """A request has more pictures than will ever be answered together."""
    return Refusal(413, f"{num_pictures:,} pictures are too many for one request", f"Send at most {most}.")


def late(retry_after: float) -> Refusal:
    """The time of a request was over before its answer was there."""
    seconds = max(1, round(retry_after + 0.5))
    return Refusal(503, "There was no time left for an answer", f"Try again in {seconds} s.", retry_after=seconds)


def stopping() -> Refusal:
    """The service is about to end."""
    return Refusal(503, "The service is stopping", "Try again when it is back.", retry_after=5)


def refusal_of(error: FieldmarkError) -> Refusal:
    """The refusal that an error means, which is the client's where a picture or a name is."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, TooLargeError):
        return Refusal(413, error.problem, error.hint)
    if isinstance(error, UnknownFormatError):
        return Refusal(415, error.problem, error.hint)
    if isinstance(error, StorageError):  # where nothing can be written is nobody else's business
        return Refusal(507, "It cannot be kept: there is no room, or no permission to write", "Tell whoever runs this.")
    return Refusal(422, error.problem, error.hint)
