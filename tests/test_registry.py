"""Names → things, with their options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from fieldmark.errors import RecipeError
from fieldmark.registry import Registry


@pytest.fixture
def fruit() -> Registry[Callable[..., Any]]:
    registry: Registry[Callable[..., Any]] = Registry("fruit")

    @registry.register("pear")
    def pear(tree: object, *, ripeness: float = 0.5, seeds: int = 8, peeled: bool = False, sort: str = "") -> None: ...

    @registry.register("apple")
    class Apple:
        def __init__(self, tree: object, *, colour: str | None = None) -> None: ...

    return registry


def test_names_are_sorted_and_things_come_back(fruit: Registry[Callable[..., Any]]) -> None:
    assert list(fruit) == ["apple", "pear"]
    assert fruit.get("pear").__name__ == "pear"
    assert repr(fruit) == "Registry('fruit': apple, pear)"


def test_options_are_the_keyword_only_arguments(fruit: Registry[Callable[..., Any]]) -> None:
    assert fruit.options("pear") == {"ripeness": 0.5, "seeds": 8, "peeled": False, "sort": ""}
    assert fruit.options("apple") == {"colour": None}


def test_complete_fills_in_the_defaults(fruit: Registry[Callable[..., Any]]) -> None:
    given = {"seeds": 3}
    assert fruit.complete("pear", given) == {"ripeness": 0.5, "seeds": 3, "peeled": False, "sort": ""}
    assert given == {"seeds": 3}
    assert fruit.options("pear")["seeds"] == 8
    assert fruit.complete("pear", {"ripeness": 1})["ripeness"] == 1  # a whole number is a number
    assert fruit.complete("apple", {"colour": "red"}) == {"colour": "red"}


def test_an_unknown_name(fruit: Registry[Callable[..., Any]]) -> None:
    with pytest.raises(RecipeError, match=r"^There is no fruit 'paer'\. Did you mean 'pear'\?$"):
        fruit.get("paer")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ripenes": 0.1}, r"The fruit 'pear' has no option 'ripenes'\. Did you mean 'ripeness'\?"),
        ({"tree": 1}, r"The fruit 'pear' has no option 'tree'\. "),  # positional: not the recipe's to give
        ({"seeds": 2.5}, r"Option 'seeds' of the fruit 'pear' is 2\.5\. Expected int, such as 8\."),
        ({"seeds": True}, r"Option 'seeds' of the fruit 'pear' is True\. Expected int, such as 8\."),
        ({"ripeness": True}, r"Option 'ripeness' of the fruit 'pear' is True\. Expected float, such as 0\.5\."),
        ({"ripeness": "ripe"}, r"Option 'ripeness' of the fruit 'pear' is 'ripe'\. Expected float, such as 0\.5\."),
        ({"peeled": 1}, r"Option 'peeled' of the fruit 'pear' is 1\. Expected bool, such as False\."),
    ],
)
def test_wrong_options(fruit: Registry[Callable[..., Any]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"^{message}"):
        fruit.complete("pear", options)


def test_two_things_of_one_name_are_a_bug(fruit: Registry[Callable[..., Any]]) -> None:
    with pytest.raises(AssertionError, match="two fruits are called 'pear'"):
        fruit.register("pear")(print)
