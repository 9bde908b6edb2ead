"""What a page consists of: sections of blocks, as plain data. `pages/report.html` says how each looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, final

from markupsafe import Markup

from fieldmark.evaluation.metrics import Score

__all__ = [
    "MOST_CLASSES",
    "Bar",
    "Block",
    "Cell",
    "Columns",
    "Details",
    "Figures",
    "Gallery",
    "Interval",
    "Picture",
    "Plots",
    "Section",
    "Table",
    "Text",
]

MOST_CLASSES = 300
"""The most classes that a list on a page has: a page of ten thousand must open, and nobody reads so many rows there."""

Tone: TypeAlias = Literal["", "soft", "right", "wrong", "warn"]


@final
@dataclass(frozen=True)
class Interval:
    """A cell with a share and its interval, also drawn on a line from 0 to 1."""

    kind: ClassVar[str] = "interval"
    score: Score
    tone: Tone = ""
    note: str = ""
    """The meaning of the tone in words, since not everyone sees colours."""


@final
@dataclass(frozen=True)
class Bar:
    """A cell with a text and a bar; `share` is its length, from 0 to 1."""

    kind: ClassVar[str] = "bar"
    share: float
    text: str


Cell: TypeAlias = str | int | Interval | Bar


@final
@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str
    tone: Tone = ""


@final
@dataclass(frozen=True)
class Figures:
    """Large figures, each with its meaning."""

    kind: ClassVar[str] = "figures"
    values: tuple[tuple[str, str], ...]


@final
@dataclass(frozen=True)
class Plots:
    """Plots side by side."""

    kind: ClassVar[str] = "plots"
    plots: tuple[Markup, ...]


@final
@dataclass(frozen=True)
class Picture:
    """An image and the lines below it."""

    image: Markup | None
    """None if the file can no longer be read."""
    path: str
    lines: tuple[str, ...]
    right: bool | None = None
    """Whether the answer was correct, or None if there is no answer."""


@final
@dataclass(frozen=True)
class Gallery:
    """Pictures in a grid."""

    kind: ClassVar[str] = "gallery"
    pictures: tuple[Picture, ...]
    small: bool = False


@final
@dataclass(frozen=True)
class Table:
    """A table whose whole numbers are aligned to the right."""

    kind: ClassVar[str] = "table"
    header: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@final
@dataclass(frozen=True)
class Columns:
    """Blocks side by side, each under a title."""

    kind: ClassVar[str] = "columns"
    title: str
    columns: tuple[tuple[str, tuple[Block, ...]], ...]
    abreast: bool = False
    """Whether three columns of pictures stay side by side on a phone too; other columns are stacked there."""


@final
@dataclass(frozen=True)
class Details:
    """Blocks that are folded away under a summary."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: tuple[Block, ...]


Block: TypeAlias = Text | Figures | Plots | Gallery | Table | Columns | Details


@final
@dataclass(frozen=True)
class Section:
    """A stretch of the page with a heading and a link to it."""

    name: str
    title: str
    blocks: tuple[Block, ...]
