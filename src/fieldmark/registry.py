"""Names → things. A registered thing's keyword-only constructor arguments are its options in a recipe."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Generic, TypeVar

from fieldmark.errors import RecipeError, nearest

__all__ = ["Registry"]

T = TypeVar("T", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Things of one kind, by name."""

    def __init__(self, noun: str) -> None:
        self.noun = noun
        self._things: dict[str, T] = {}

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._things))

    def __repr__(self) -> str:
        return f"Registry({self.noun!r}: {', '.join(self)})"

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate a class or function so that recipes can name it."""

        def add(thing: T) -> T:
            assert name not in self._things, f"two {self.noun}s are called {name!r}"
            self._things[name] = thing
            return thing

        return add

    def get(self, name: str) -> T:
        """The thing called `name`; RecipeError with the nearest right name where there is none."""
        if name not in self._things:
            raise RecipeError(f"There is no {self.noun} {name!r}", nearest(name, self._things))
        return self._things[name]

    def options(self, name: str) -> dict[str, Any]:
        """The options of `name` with their defaults."""
        parameters = inspect.signature(self.get(name)).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def complete(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Defaults filled in; RecipeError for an option that `name` does not have or of another type."""
        known = self.options(name)
        for key, value in options.items():
            if key not in known:
                raise RecipeError(f"The {self.noun} {name!r} has no option {key!r}", nearest(key, known))
            default = known[key]
            number = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
            if default is not None and type(value) is not type(default) and not number:
                raise RecipeError(
                    f"Option {key!r} of the {self.noun} {name!r} is {value!r}",
                    f"Expected {type(default).__name__}, such as {default!r}.",
                )
        return known | dict(options)
