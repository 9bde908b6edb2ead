"""A budget as the user writes it: a time, a number of images, or money at a price per hour."""

from __future__ import annotations

import math
import re
import time
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal, Self, TypeVar, final

from fieldmark.core.errors import RecipeError
from fieldmark.core.wording import counted, duration

__all__ = ["Budget", "Meter", "within"]

R = TypeVar("R")
_NUMBER = r"\d{1,12}(?:\.\d{1,6})?"
_TIME = re.compile(rf"(?:({_NUMBER})h)?(?:({_NUMBER})m(?:in)?)?(?:({_NUMBER})s)?")
_IMAGES = re.compile(rf"({_NUMBER})images?")
_CURRENCY = r"[^\W\d_]{1,8}|[$€£¥₹]"
_MONEY = re.compile(rf"({_CURRENCY})?({_NUMBER})({_CURRENCY})?")
_NO_CURRENCY = re.compile(
    r"w(eeks?)?|d(ays?)?|h(rs?|ours?)?|m(in(ute)?s?)?|s(ec(ond)?s?)?|[km]?(images?|pictures?|photos?)?|steps?|epochs?"
)
"""Words of a time or a number, which stand where a currency might."""
_EXAMPLES = "For example: 10m, 1h30m, '200000 images', or 2eur with --price 1.20/h."


@dataclass(frozen=True)
class Budget:
    """What a training may take, from the moment that this was made."""

    amount: float
    """Seconds or images."""
    unit: Literal["seconds", "images"] = "seconds"
    written: str = ""
    """As the user wrote it."""
    hourly: float = 0.0
    """The price of an hour, for a budget in money."""
    sum: str = "{}"
    """How a sum of money is written: "{}eur", "${}"."""
    began: float = field(default_factory=time.monotonic, compare=False)
    """On the monotonic clock: whatever comes before the training counts, too, such as loading libraries."""

    @classmethod
    def parse(cls, text: str, price: str | None = None) -> Self:
        """Read "10m", "1h30m", "200000 images" or, with a `price` such as "1.20/h", "2eur".

        Raises RecipeError for anything else.
        """
        plain = _plain(text)
        if price is not None:
            seconds, hourly, sum = _bought(plain, price, text)
            return cls(seconds, written=f"{text} at {price}", hourly=hourly, sum=sum)
        if found := _IMAGES.fullmatch(plain):
            return cls(_positive(float(found[1]), text), "images", text)
        if plain and (found := _TIME.fullmatch(plain)):
            hours, minutes, seconds = (float(one or 0) for one in found.groups())
            return cls(_positive(3600 * hours + 60 * minutes + seconds, text), written=text)
        if (found := _money(plain)) and (found[1] or found[3]):
            raise RecipeError(f"{text!r} is money without a price", "Add --price, such as --price 1.20/h.")
        raise RecipeError(f"{text!r} is not a budget", _EXAMPLES)

    def said(self, amount: float) -> str:
        """An amount of its unit in words."""
        return duration(amount) if self.unit == "seconds" else counted(round(amount), "image")

    def enough(self, amount: float) -> str:
        """A budget for so much of its unit, rounded up, as a user may write it: "40 s", "3 min", "0.013eur"."""
        if self.hourly:
            return self.sum.format(_rounded_up(amount / 3600 * self.hourly, 6))
        if self.unit == "images":
            return f"{int(_rounded_up(amount, 0)):,} images"
        if amount <= 120:
            return f"{math.ceil(amount / 10) * 10} s"
        hours, minutes = divmod(math.ceil(amount / 60), 60)
        return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def within(
    budget: Budget | str | None, price: str | None, recipe: R | str | None
) -> tuple[Budget | None, R | str | None]:
    """The budget, which runs from now on if it was not read before, and the recipe; "auto" is none, so that the budget
    chooses.

    Raises RecipeError for what is no budget, and for "auto" or a price without one.
    """
    auto = isinstance(recipe, str) and recipe == "auto"
    if budget is None and (price is not None or auto):
        named = "A price" if price is not None else "The recipe 'auto'"
        raise RecipeError(f"{named} is for a training within a budget", "Add --budget, such as --budget 10m.")
    return Budget.parse(budget, price) if isinstance(budget, str) else budget, None if auto else recipe


@final
class Meter:
    """How much of a budget is spent. Time passes by itself; images are counted by whoever looks at them."""

    def __init__(self, budget: Budget, spent_before: float = 0.0) -> None:
        self.budget = budget
        self._before = spent_before
        self._images = 0

    @property
    def spent(self) -> float:
        """In the budget's unit, over all sittings."""
        own = time.monotonic() - self.budget.began if self.budget.unit == "seconds" else self._images
        return self._before + own

    @property
    def left(self) -> float:
        """May be negative."""
        return self.budget.amount - self.spent

    def look(self, images: int) -> None:
        """Count images that a network looked at, to answer or to learn."""
        self._images += images


def _rounded_up(amount: float, decimals: int) -> str:
    """To two figures, and to so many decimals at most."""
    exponent = max(-decimals, math.floor(math.log10(amount)) - 1)
    figures = math.ceil(round(amount / 10.0**exponent, 9))
    return f"{Decimal(figures).scaleb(exponent):f}"


def _bought(plain: str, price: str, text: str) -> tuple[float, float, str]:
    """The seconds that money buys, the price of an hour, and how a sum is written."""
    money, hourly = _money(plain), _money(re.sub(r"/h(our)?$", "", _plain(price)))
    if money is None:
        raise RecipeError(f"--budget {text!r} is not a sum of money, and there is a price", _EXAMPLES)
    if hourly is None or not float(hourly[2]):
        raise RecipeError(f"--price {price!r} is not a price per hour", _EXAMPLES)
    currencies = {one for found in (money, hourly) for one in (found[1], found[3]) if one}
    if len(currencies) > 1:
        raise RecipeError(f"--budget {text!r} and --price {price!r} are not in one currency", _EXAMPLES)
    price_per_hour = float(hourly[2])
    return (
        _positive(3600 * float(money[2]) / price_per_hour, text),
        price_per_hour,
        f"{money[1] or ''}{{}}{money[3] or ''}",
    )


def _money(plain: str) -> re.Match[str] | None:
    """A number, with a currency before or behind it or with none."""
    found = _MONEY.fullmatch(plain)
    words = [one for one in (found[1], found[3]) if one] if found else []
    return None if any(map(_NO_CURRENCY.fullmatch, words)) else found


def _plain(text: str) -> str:
    """Without blanks and the commas of thousands; any other comma is a decimal one."""
    text = re.sub(r"\s", "", text).lower()
    grouped = re.sub(r"(?<![\d.,])[1-9]\d{0,2}(,\d{3})+(?![\d,])", lambda found: found[0].replace(",", ""), text)
    return grouped.replace(",", ".")


def _positive(amount: float, text: str) -> float:
    if not 0 < amount < math.inf:
        raise RecipeError(f"--budget {text!r} is nothing", _EXAMPLES)
    return amount
