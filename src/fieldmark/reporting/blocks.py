"""What a page is made of: sections of blocks, as plain data. `pages/report.html` knows how each looks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, TypeAlias, final

from markupsafe import Markup

from fieldmark.evaluation.metrics import Score

__all__ = [
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

Tone: TypeAlias = Literal["", "soft", "right", "wrong", "warn"]


@final
@dataclass(frozen=True)
class Interval:
    """A cell with a share, its interval and both drawn on a line from 0 to 1."""

    kind: ClassVar[str] = "interval"
    score: Score
    tone: Tone = ""
    note: str = ""
    """Says in words what the tone does, since not everyone sees the colour."""


@final
@dataclass(frozen=True)
class Bar:
    """A cell with a text and a bar of this share."""

    kind: ClassVar[str] = "bar"
    share: float
    text: str


Cell: TypeAlias = str | int | Interval | Bar


@final
@dataclass(frozen=True)
class Text:
    kind: ClassVar[str] = "text"
    text: str
    tone: Tone = ""


@final
@dataclass(frozen=True)
class Figures:
    """Large figures, each with what it is."""

    kind: ClassVar[str] = "figures"
    values: tuple[tuple[str, str], ...]


@final
@dataclass(frozen=True)
class Plots:
    kind: ClassVar[str] = "plots"
    plots: tuple[Markup, ...]


@final
@dataclass(frozen=True)
class Picture:
    """An image and what is said below it."""

    image: Markup | None
    """None where the file cannot be read any more."""
    path: str
    lines: tuple[str, ...]
    right: bool | None = None
    """Whether the answer was; None where there is none."""


@final
@dataclass(frozen=True)
class Gallery:
    kind: ClassVar[str] = "gallery"
    pictures: tuple[Picture, ...]
    small: bool = False


@final
@dataclass(frozen=True)
class Table:
    """Whole numbers stand at the right."""

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
    """Three columns of pictures that stay side by side on a phone, too; others are stacked there."""


@final
@dataclass(frozen=True)
class Details:
    """Blocks that are folded away."""

    kind: ClassVar[str] = "details"
    summary: str
    blocks: tuple[Block, ...]


Block: TypeAlias = Text | Figures | Plots | Gallery | Table | Columns | Details


@final
@dataclass(frozen=True)
class Section:
    """A part of the page that has a heading and can be jumped to."""

    name: str
    title: str
    blocks: tuple[Block, ...]
