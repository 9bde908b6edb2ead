"""The Markdown files of the project, as their readers see them: links, headings, code, and the commands in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

__all__ = ["ROOT", "Code", "Page", "pages"]

ROOT = Path(__file__).parents[2]
_PARSER = MarkdownIt("commonmark").enable("table")
_CONTINUED = re.compile(r"\\\n\s*")


@dataclass(frozen=True)
class Code:
    """A piece of code, or a link's target, and where it stands."""

    where: str
    text: str
    language: str = ""
    is_block: bool = False
    note: str = ""
    """The comment before a block."""

    @property
    def lines(self) -> Iterator[Code]:
        """Its lines; one that ends in a backslash goes on in the next."""
        page, _, number = self.where.rpartition(":")
        first = int(number)
        for line in _CONTINUED.sub(lambda match: "\0", self.text).split("\n"):
            yield Code(f"{page}:{first}", re.sub(" *\0", " ", line).strip())
            first += 1 + line.count("\0")

    @property
    def commands(self) -> Iterator[Code]:
        """The lines that call Fieldmark."""
        return (line for line in self.lines if line.text.startswith("fieldmark "))


@dataclass(frozen=True)
class Page:
    """A Markdown file."""

    path: Path

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()

    @property
    def links(self) -> list[Code]:
        """The targets of links and pictures."""
        return [
            Code(where, str(token.attrs.get("href") or token.attrs.get("src")))
            for where, token in self._inline
            if token.type in ("link_open", "image")
        ]

    @property
    def anchors(self) -> set[str]:
        """What `#…` may name: headings as code hosts and the site call them."""
        tokens = _tokens(self.path)
        titles = [tokens[i + 1].children or [] for i, token in enumerate(tokens) if token.type == "heading_open"]
        return {_anchor("".join(child.content for child in title)) for title in titles}

    @property
    def spans(self) -> list[Code]:
        """Code within text."""
        return [Code(where, token.content) for where, token in self._inline if token.type == "code_inline"]

    @property
    def blocks(self) -> list[Code]:
        """Blocks of code, indented or fenced."""
        found, note = [], ""
        for token in _tokens(self.path):
            if token.type in ("fence", "code_block"):
                line = _line(token) + (token.type == "fence")
                found.append(Code(f"{self}:{line}", token.content, token.info, is_block=True, note=note))
            note = token.content.strip() if token.type == "html_block" else ""
        return found

    @property
    def _inline(self) -> Iterator[tuple[str, Token]]:
        for token in _tokens(self.path):
            for child in token.children or []:
                yield f"{self}:{_line(token)}", child


def pages(*patterns: str) -> list[Page]:
    """Those that match, in order."""
    return [Page(path) for pattern in patterns for path in sorted(ROOT.glob(pattern))]


@cache
def _tokens(path: Path) -> list[Token]:
    return _PARSER.parse(path.read_text(encoding="utf-8"))


def _line(token: Token) -> int:
    return token.map[0] + 1 if token.map else 1


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.strip().lower()).replace(" ", "-")
