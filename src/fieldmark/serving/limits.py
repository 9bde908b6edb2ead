"""What requests may take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

__all__ = ["Limits"]


@final
@dataclass(frozen=True)
class Limits:
    """What one request may take, and how much of it at a time."""

    seconds: float = 10.0
    """For an answer, once the picture is there."""
    most_waiting: int = 64
    """Pictures that are accepted and not answered yet."""
    body: int = 32 * 2**20
    """Bytes of a picture."""
    pixels: int = 100_000_000
    """Of a picture, by its header. Only its first frame is ever decoded."""
    sending_seconds: float = 20.0
    """For sending a picture."""
    held: int = 2**28
    """Bytes of pictures that are being sent or waiting, all together."""
    requests: int = 256
    """Requests at a time."""
    explaining_seconds: float = 60.0
    """For an explanation, which takes a hundred times as long as an answer."""
    explaining: int = 4
    """Explanations that are waiting."""
    looking: int = 32
    """Searches and example pictures that are waiting."""
    kept: int = 2**30
    """Bytes of corrections and their pictures on disk, whoever sent them and when."""

    @property
    def seconds_to_stop(self) -> float:
        """After which whatever was begun is answered."""
        return self.sending_seconds + max(self.seconds, self.explaining_seconds)
