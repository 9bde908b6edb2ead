"""Pictures are looked up in a gallery: their nearest neighbours, and whether one of them is the same file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, final

from fieldmark.gallery.gallery import Gallery
from fieldmark.gallery.photographs import Photograph
from fieldmark.gallery.store import Hit, Vectors, Wanted

__all__ = ["Found", "Question", "look_up"]


@final
@dataclass(frozen=True)
class Question:
    """What is asked of a gallery about each picture."""

    most: int = 10
    label: str | None = None
    """Only neighbours with this label."""
    not_own_group: bool = False
    """None of the picture's own group, and not the picture itself."""


@final
@dataclass(frozen=True)
class Found:
    """A picture and its nearest neighbours."""

    picture: Photograph
    """With the label and the group that the gallery or a table knows."""
    hits: tuple[Hit, ...]
    """The most similar first."""

    def __repr__(self) -> str:
        nearest = f"; nearest: {self.hits[0].entry.path} {self.hits[0].similarity:.3f}" if self.hits else ""
        return f"Found({self.path}: {len(self.hits)} neighbours{nearest})"

    @property
    def path(self) -> str:
        """As it was given."""
        return self.picture.thing.name

    def is_same(self, hit: Hit) -> bool:
        """Whether a neighbour is the same file, wherever it lies."""
        return bool(self.picture.digest) and hit.entry.digest == self.picture.digest

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {
            "path": self.path,
            "label": self.picture.label,
            "group": self.picture.group,
            "neighbours": [
                {
                    "path": hit.entry.path,
                    "label": hit.entry.label,
                    "group": hit.entry.group,
                    "similarity": round(hit.similarity, 4),
                    "same_file": self.is_same(hit),
                }
                for hit in self.hits
            ],
        }


def look_up(gallery: Gallery, picture: Photograph, vector: Vectors, question: Question) -> Found:
    """The neighbours of a picture, whose embedding (D,) has unit length. Raises RunError for an empty gallery."""
    picture = picture.identified()
    same = next(iter(gallery.known([picture.digest])), None) if picture.digest else None
    if same:
        picture = picture._replace(label=picture.label or same.label, group=picture.group or same.group)
    wanted = Wanted(
        question.label,
        not_group=picture.group if question.not_own_group else None,
        not_digest=picture.digest or None if question.not_own_group else None,
    )
    return Found(picture, tuple(gallery.search(vector, question.most, wanted)))
