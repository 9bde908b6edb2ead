"""Names → things, with their options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from fieldmark.core import registry
from fieldmark.core.errors import PluginWarning, RecipeError
from fieldmark.core.registry import Registry


@pytest.fixture
def fruit() -> Registry[Callable[..., Any]]:
    fruits: Registry[Callable[..., Any]] = Registry("fruit")

    @fruits.register("pear")
    def pear(tree: object, *, ripeness: float = 0.5, seeds: int = 8, peeled: bool = False, sort: str = "") -> None: ...

    @fruits.register("apple")
    class Apple:
        def __init__(self, tree: object, *, colour: str | None = None) -> None: ...

    return fruits


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
        (
            {"seeds": 2.5},
            r"The option 'seeds' of the fruit 'pear' cannot be 2\.5\. Expected a value of type int, such as 8\.",
        ),
        (
            {"seeds": True},
            r"The option 'seeds' of the fruit 'pear' cannot be True\. Expected a value of type int, such as 8\.",
        ),
        (
            {"ripeness": True},
            r"The option 'ripeness' of the fruit 'pear' cannot be True\. "
            r"Expected a value of type float, such as 0\.5\.",
        ),
        (
            {"ripeness": "ripe"},
            r"The option 'ripeness' of the fruit 'pear' cannot be 'ripe'\. "
            r"Expected a value of type float, such as 0\.5\.",
        ),
        (
            {"peeled": 1},
            r"The option 'peeled' of the fruit 'pear' cannot be 1\. Expected a value of type bool, such as False\.",
        ),
    ],
)
def test_wrong_options(fruit: Registry[Callable[..., Any]], options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=f"^{message}"):
        fruit.complete("pear", options)


def test_two_things_of_one_name_are_a_bug(fruit: Registry[Callable[..., Any]]) -> None:
    with pytest.raises(AssertionError, match="two fruits are called 'pear'"):
        fruit.register("pear")(print)


# Plug-ins -------------------------------------------------------------------------------------------------------------


class Nut:
    """What every plug-in of the bowl is."""


class Hazel(Nut):
    def __init__(self, tree: object, *, shells: int = 1) -> None: ...


class Package:
    name, version = "fieldmark-nuts", "1.2"


class Entry:
    """What an installed package names in an entry-point group."""

    dist: Package | None = Package()

    def __init__(self, name: str, thing: Any) -> None:
        self.name, self.thing, self.value = name, thing, f"nuts:{name.title()}"

    def load(self) -> Any:
        return self.thing() if inspect.isfunction(self.thing) else self.thing


@pytest.fixture
def bowl(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Registry[Any]]:
    """A registry of one nut that came along, in an environment with these plug-ins."""

    def filled(*entries: Entry) -> Registry[Any]:
        nuts: Registry[Any] = Registry("nut", "json.nuts", base=lambda: Nut)
        nuts.register("wal")(type("Wal", (Nut,), {}))
        monkeypatch.setattr(registry.importlib, "import_module", lambda home: None)
        monkeypatch.setattr(registry, "entry_points", lambda group: entries if group == "fieldmark.nuts" else ())
        return nuts

    return filled


def test_a_plug_in_is_found_with_its_package(bowl: Callable[..., Registry[Any]]) -> None:
    nuts = bowl(Entry("hazel", Hazel))
    assert list(nuts) == ["hazel", "wal"]
    assert nuts.get("hazel") is Hazel
    assert nuts.complete("hazel", {"shells": 2}) == {"shells": 2}
    assert nuts.origin("hazel") == ("fieldmark-nuts", "1.2")
    assert str(nuts.origin("hazel")) == "fieldmark-nuts 1.2"
    assert nuts.origin("wal") is None


def test_a_plug_in_that_cannot_be_imported_is_named_and_the_rest_works(bowl: Callable[..., Registry[Any]]) -> None:
    def broken() -> Any:
        raise ImportError("No module named 'shell'")

    nuts = bowl(Entry("brazil", broken), Entry("hazel", Hazel))
    problem = "fieldmark-nuts 1.2 could not be imported (ImportError: No module named 'shell')"
    with pytest.warns(PluginWarning) as caught:
        assert list(nuts) == ["hazel", "wal"]
    assert [str(one.message) for one in caught] == [f"The nut 'brazil' of a plug-in is left out: {problem}"]
    with pytest.raises(RecipeError) as refused:
        nuts.get("brazil")
    assert str(refused.value) == f"The nut 'brazil' cannot be used: {problem}"


def test_a_name_that_is_taken_stays_with_who_has_it(bowl: Callable[..., Registry[Any]]) -> None:
    nuts = bowl(Entry("wal", Hazel), Entry("hazel", Hazel), Entry("hazel", Nut))
    with pytest.warns(PluginWarning) as caught:
        assert nuts.get("wal") is not Hazel
    assert [str(one.message) for one in caught] == [
        "The nut 'wal' of a plug-in is left out: fieldmark-nuts 1.2 names a nut 'wal', but Fieldmark already has one "
        "of that name",
        "The nut 'hazel' of a plug-in is left out: fieldmark-nuts 1.2 names a nut 'hazel', but fieldmark-nuts 1.2 "
        "already has one of that name",
    ]
    assert nuts.get("hazel") is Hazel
    assert nuts.origin("wal") is None


def test_what_is_of_another_kind_is_left_out(bowl: Callable[..., Registry[Any]]) -> None:
    nuts = bowl(Entry("pea", dict))
    with pytest.warns(PluginWarning, match=r"nuts:Pea of fieldmark-nuts 1\.2 is not a subclass of Nut"):
        assert list(nuts) == ["wal"]
    with pytest.raises(RecipeError, match="The nut 'pea' cannot be used"):
        nuts.get("pea")


def test_what_a_plug_in_registers_beside_it_is_its_packages(bowl: Callable[..., Registry[Any]]) -> None:
    def load() -> Any:
        nuts.register("hazel")(Hazel)  # the decorator says the name once more
        return nuts.register("cob")(Hazel)

    nuts = bowl(Entry("hazel", load))
    assert list(nuts) == ["cob", "hazel", "wal"]
    assert nuts.origin("cob") == nuts.origin("hazel") == ("fieldmark-nuts", "1.2")
