"""The shapes of the API's answers, from which its description is made."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from fieldmark.evaluation.verdict import Verdict

if TYPE_CHECKING:
    from fieldmark.answering.explaining.explanation import Example, Explanation, RegionFound

__all__ = [
    "About",
    "Answer",
    "Candidate",
    "Examples",
    "Health",
    "Kept",
    "Neighbour",
    "Neighbours",
    "Problem",
    "Reasons",
    "Region",
    "answer_of",
    "reasons_of",
]


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Problem(_Shape):
    """Why there is no answer."""

    error: str = Field(description="What was wrong, in a line.")
    hint: str = Field("", description="What to do.")


class Candidate(_Shape):
    """A possible class."""

    label: str
    probability: float


class Trait(_Shape):
    """The most likely value of an attribute."""

    value: str
    probability: float


class Answer(_Shape):
    """A verdict: the most specific name that can be vouched for, and what else is known."""

    said: str = Field(description="The verdict in words.")
    sureness: float | None = Field(
        description="The probability that goes with these words; null if nothing is familiar."
    )
    label: str = Field(description="The most likely class, reliable or not.")
    probability: float = Field(description="The probability of `label`.")
    candidates: list[Candidate] = Field(description="The most likely classes, best first.")
    promised: float | None = Field(
        description="How often names like this one are right; null if nobody vouches for it."
    )
    name: str | None = Field(None, description="The most specific name that is vouched for.")
    level: str | None = Field(None, description="Its level, such as species or genus; null if nothing is calibrated.")
    certainty: float | None = Field(None, description="The probability that `name` is right.")
    familiar: bool | None = Field(None, description="Whether the picture looks like those of the known classes.")
    possible: list[str] | None = Field(None, description="The classes that cannot be ruled out, best first.")
    reason: str = Field("", description="Why the answer is not a class, if it is not.")
    outside: float | None = Field(None, description="With `among`: the probability of all other classes.")
    photographs: int | None = Field(None, description="For an enrolled class: how many photographs it is known from.")
    attributes: dict[str, Trait] | None = Field(None, description="Attributes of what is pictured.")
    sha256: str = Field(description="Of the picture that was sent.")


class Region(_Shape):
    """A place in the picture that speaks for the answer."""

    title: str = Field(description="What lies there, as far as it is known, or its number.")
    share: float = Field(description="Its share of the evidence.")
    picture: str = Field(description="A close-up, as a data URL.")
    first: list[str] = Field(description="The same place in known images of the answer, as data URLs.")
    second: list[str] = Field(description="The same place in known images of the other class, as data URLs.")


class Reasons(_Shape):
    """Why the answer is one class and not another."""

    first: str = Field(description="The most likely class.")
    second: str = Field(description="The class that it is compared with.")
    probabilities: tuple[float, float] = Field(description="Of the two.")
    odds: str = Field(description="Of the first against the second, such as 23 : 1.")
    meaning: str = Field(description="What decides, in sentences.")
    doubt: str = Field(description="Why that may be the photograph rather than the class; empty without a doubt.")
    notes: list[str] = Field(description="What is missing, and why.")
    decided: str = Field(description="The picture with what decided it, as a data URL.")
    outlined: str = Field(description="The picture with the regions that tell the two apart, as a data URL.")
    regions: list[Region] = Field(description="The one that contributes most first.")


class Neighbour(_Shape):
    """A similar picture."""

    label: str | None
    similarity: float = Field(description="The cosine between the embeddings, at most 1.")
    same_file: bool = Field(description="Whether it is the very file that was sent.")
    picture: str | None = Field(description="A data URL; null if it may not be shown, or is gone.")


class Neighbours(_Shape):
    """The most similar pictures of the gallery."""

    neighbours: list[Neighbour]


class Examples(_Shape):
    """Known pictures of a class."""

    label: str
    pictures: list[str] = Field(description="Data URLs.")


class About(_Shape):
    """What this service answers."""

    model: str
    classes: list[str] = Field(description="A class is named by its place in this list where a path needs it.")
    levels: list[str] = Field(description="Of names, from the class upwards.")
    calibrated: bool
    promised: float | None = Field(description="How often the names that are given are right, as promised.")
    search: bool = Field(description="Whether there is a gallery.")
    examples: bool = Field(description="Whether known pictures are shown.")
    corrections: bool = Field(description="Whether corrections are kept.")
    pictures_kept: bool = Field(description="Whether pictures are kept with them.")
    most_bytes: int = Field(description="Of a picture.")
    most_pixels: int = Field(description="Of a picture.")


class Health(_Shape):
    """Whether the service answers."""

    status: str
    waiting: int = Field(description="Pictures that are accepted and not answered yet.")


class Kept(_Shape):
    """A correction that was kept."""

    said: str = Field(description="What the service had said.")
    label: str = Field(description="What is right.")


def answer_of(verdict: Verdict, sha256: str) -> Answer:
    """A verdict, without the name of its picture."""
    known: dict[str, Any] = verdict.as_dict()
    del known["path"]
    known.pop("frames", None)
    sureness = None if verdict.sureness is None else round(verdict.sureness, 6)
    return Answer(said=verdict.said, sureness=sureness, sha256=sha256, **known)


def reasons_of(explanation: Explanation, *, examples: bool) -> Reasons:
    """An explanation with its pictures. Without `examples`, those of known images are left out."""
    from fieldmark.answering.explaining.drawing import FOR, INK, close_up, meaning, outlined, overlaid
    from fieldmark.answering.explaining.explanation import odds
    from fieldmark.pages import picture

    def shown(known: tuple[Example, ...]) -> list[str]:
        if not examples:
            return []
        return [str(picture(close_up(one.pixels, one.cells), side=160)) for one in known if one.pixels is not None]

    def told(one: RegionFound) -> Region:
        return Region(
            title=one.title,
            share=round(one.region.share, 4),
            picture=str(picture(close_up(explanation.pixels, one.region.cells), side=200)),
            first=shown(one.first),
            second=shown(one.second),
        )

    marked = explanation.pixels
    for number, one in enumerate(explanation.regions[:3]):
        marked = outlined(marked, one.region.cells, INK if number else FOR)
    against_all = explanation.cells if explanation.decided is None else explanation.decided
    return Reasons(
        first=explanation.first,
        second=explanation.second,
        probabilities=explanation.probabilities,
        odds=odds(explanation.margin),
        meaning=meaning(explanation),
        doubt=explanation.doubt,
        notes=list(explanation.notes),
        decided=str(picture(overlaid(explanation.pixels, against_all), side=420)),
        outlined=str(picture(marked, side=420)),
        regions=[told(one) for one in explanation.regions[:3]],
    )
