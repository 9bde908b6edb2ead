"""The field-guide page of a pair: a correct answer, with the region that tells it from the other class."""

from __future__ import annotations

from fieldmark.answering.explaining.drawing import AGAINST, FOR, close_up, outlined
from fieldmark.answering.explaining.explanation import Example, Explanation, RegionFound, odds
from fieldmark.pages import picture
from fieldmark.reporting.blocks import Columns, Gallery, Picture, Text

__all__ = ["panel"]

_SIDE, _NUM = 200, 2


def panel(explanation: Explanation) -> Columns:
    """Known examples of A, the region that decides, and known examples of B."""
    title = f"What tells {explanation.first} from {explanation.second}"
    whole = explanation.pixels
    if not explanation.regions:
        words = Text(f"Nothing in this picture favours {explanation.first} over {explanation.second}.", "soft")
        return Columns(title, (("", (words, Gallery((Picture(picture(whole), explanation.verdict.path, ()),)))),))
    one = explanation.regions[0]
    views = (whole, close_up(outlined(whole, one.region.cells, FOR), one.region.cells))
    middle = Gallery(tuple(Picture(picture(view, side=_SIDE), explanation.verdict.path, ()) for view in views))
    return Columns(
        title,
        (
            (explanation.first, (Text(_own(one), "soft"), _examples(one.first, FOR))),
            (one.title, (Text(_decides(explanation, one), "soft"), middle)),
            (explanation.second, (Text(_other(explanation, one), "soft"), _examples(one.second, AGAINST))),
        ),
        abreast=True,
    )


def _odds(margin: float) -> str:
    return odds(margin).replace(" ", "\u00a0")  # keep the odds on one line


def _decides(explanation: Explanation, one: RegionFound) -> str:
    share = f"{100 * one.region.share:.0f} % of the evidence. Odds: {_odds(explanation.margin)}."
    return f"{share} {explanation.doubt}." if explanation.doubt else f"The region that decides, with {share}"


def _own(one: RegionFound) -> str:
    if one.as_first is None:
        return "The training images are gone."
    return f"Odds with this region from other images of this class: {_odds(one.as_first.margin)}."


def _other(explanation: Explanation, one: RegionFound) -> str:
    if one.as_second is None:
        return "The training images are gone."
    text = f"Odds with this region from this class: {_odds(one.as_second.margin)}."
    if explanation.whole is None:
        return text
    return f"{text} With this class's own mark added: {_odds(explanation.whole.exchange.margin)}."


def _examples(examples: tuple[Example, ...], colour: str) -> Gallery:
    return Gallery(tuple(_example(one, colour) for one in examples[:_NUM]))


def _example(one: Example, colour: str) -> Picture:
    if one.pixels is None:
        return Picture(None, one.path, ())
    return Picture(picture(close_up(outlined(one.pixels, one.cells, colour), one.cells), side=_SIDE), one.path, ())
