"""A budget as it is written, and how it runs out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import RecipeError
from fieldmark.learning.budget import budget as module
from fieldmark.learning.budget.budget import Budget, Meter, within


@pytest.mark.parametrize(
    ("text", "price", "amount", "unit"),
    [
        ("10m", None, 600, "seconds"),
        ("10 min", None, 600, "seconds"),
        ("90s", None, 90, "seconds"),
        ("1h30m", None, 5400, "seconds"),
        ("1.5h", None, 5400, "seconds"),
        ("200000 images", None, 200_000, "images"),
        ("200,000 images", None, 200_000, "images"),
        ("1,234,567 images", None, 1_234_567, "images"),
        ("1,5h", None, 5400, "seconds"),
        ("0,125h", None, 450, "seconds"),
        ("2,50eur", "1,25/h", 7200, "seconds"),
        ("2eur", "1.20/h", 6000, "seconds"),
        ("$2", "$1.20 / hour", 6000, "seconds"),
        ("2 EUR", "1.20 eur", 6000, "seconds"),
    ],
)
def test_time_images_and_money(text: str, price: str | None, amount: float, unit: str) -> None:
    found = Budget.parse(text, price)
    assert (found.amount, found.unit) == (amount, unit)
    assert found.written.startswith(text)


@pytest.mark.parametrize(
    ("text", "price", "said"),
    [
        ("ten minutes", None, "'ten minutes' is not a budget"),
        ("", None, "is not a budget"),
        ("0m", None, "is nothing"),
        ("0 images", None, "is nothing"),
        ("-5m", None, "is not a budget"),
        ("1,2,3h", None, "is not a budget"),
        ("2eur", None, "is money without a price"),
        ("2eur", "0/h", "is not a price per hour"),
        ("2eur", "cheap", "is not a price per hour"),
        ("2eur", "$1/h", "not in one currency"),
        ("1h30m", "1/h", "is not a sum of money"),
        ("10m", "1.20/h", "is not a sum of money"),
        ("2 h", "1.20eur/h", "is not a sum of money"),
        ("200000 images", "1.20/h", "is not a sum of money"),
        ("2eur", "1 minute", "is not a price per hour"),
        ("10 minutes", None, "'10 minutes' is not a budget. For example: 10m, 1h30m"),
        ("1d", None, "is not a budget"),
        ("2 days", None, "is not a budget"),
        ("30 sec", None, "is not a budget"),
        ("200k", None, "is not a budget"),
        ("200k images", None, "is not a budget"),
        ("20 epochs", None, "is not a budget"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, price: str | None, said: str) -> None:
    with pytest.raises(RecipeError, match=said.replace("$", r"\$")):
        Budget.parse(text, price)


@given(st.text(max_size=20), st.none() | st.text(max_size=10))
def test_any_text_is_a_budget_or_refused(text: str, price: str | None) -> None:
    try:
        found = Budget.parse(text, price)
    except RecipeError:
        return
    assert 0 < found.amount < math.inf


@given(
    amount=st.floats(0.01, 1e6),
    asked=st.sampled_from([("1s", None), ("1 image", None), ("1eur", "1.2/h"), ("$1", "3")]),
)
def test_what_is_said_to_be_enough_can_be_written_and_is_enough(amount: float, asked: tuple[str, str | None]) -> None:
    """And it is not much more: a tenth, but for whole steps of ten seconds, a minute, an image and a millionth."""
    text, price = asked
    budget = Budget.parse(text, price)
    found = Budget.parse(budget.enough(amount), price)
    assert found.unit == budget.unit
    step = (1e-6 if budget.hourly else 1) if budget.unit == "images" or budget.hourly else 60
    step *= 3600 / budget.hourly if budget.hourly else 1
    assert amount * (1 - 1e-9) <= found.amount <= 1.1 * amount + step


@pytest.mark.parametrize(
    ("amount", "text", "price", "said"),
    [
        (31, "9s", None, "40 s"),
        (120, "9s", None, "120 s"),
        (121, "9s", None, "3 min"),
        (3601, "9s", None, "1 h 01 min"),
        (2340, "9 images", None, "2,400 images"),
        (7, "2 images", None, "7 images"),
        (40, "0.002 EUR", "1.20/h", "0.014eur"),
        (40, "$0.002", "$1.20", "$0.014"),
        (3600, "0.5", "12", "12"),
    ],
)
def test_enough_in_words(amount: float, text: str, price: str | None, said: str) -> None:
    assert Budget.parse(text, price).enough(amount) == said


def test_a_budget_that_was_read_before_is_not_begun_anew() -> None:
    budget = Budget(60, began=100.0)
    assert within(budget, None, "auto") == (budget, None)
    assert within(None, None, "probe") == (None, "probe")
    found, recipe = within("2eur", "1.20/h", "finetune")
    assert found is not None
    assert (found.amount, recipe) == (6000, "finetune")


@pytest.mark.parametrize(("price", "recipe", "said"), [("1/h", None, "A price is"), (None, "auto", "recipe 'auto' is")])
def test_what_is_for_a_budget_is_refused_without_one(price: str | None, recipe: str | None, said: str) -> None:
    with pytest.raises(RecipeError, match=f"{said} for a training within a budget"):
        within(None, price, recipe)


def test_time_passes_by_itself_and_images_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    timed, counted = Meter(Budget(60, began=100.0), spent_before=10), Meter(Budget(1000, "images"))
    now[0] += 20
    counted.look(300)
    timed.look(300)
    assert (timed.spent, timed.left) == (30, 30)
    assert (counted.spent, counted.left) == (300, 700)
