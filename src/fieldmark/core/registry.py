"""Things by name: those that come with Fieldmark and those of installed plug-ins.

A registered thing's keyword-only constructor arguments are its options in a recipe. A registry fills itself when it is
first used: it imports its home, whose modules register what they define, and then what installed packages name in its
entry-point group. A plug-in that cannot be imported, or whose name is taken, is left out with a PluginWarning.
"""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, NamedTuple, TypeVar

from fieldmark.core.errors import PluginWarning, RecipeError, nearest
from fieldmark.core.wording import brief

__all__ = ["Origin", "Registry"]

_MOST = 2**31 - 1
T = TypeVar("T", bound=Callable[..., Any])


class Origin(NamedTuple):
    """The installed package that a plug-in comes from."""

    package: str
    version: str

    def __str__(self) -> str:
        return f"{self.package} {self.version}"


class Registry(Generic[T]):
    """Things of one kind, by name."""

    def __init__(self, noun: str, home: str = "", *, base: Callable[[], type] | None = None) -> None:
        """`home` is the package whose modules register what comes with Fieldmark; plug-ins name themselves in the
        entry-point group of the last part of its name: "fieldmark.methods" for `fieldmark.methods`.

        `base` gives the class that a plug-in must be a subclass of.
        """
        self.noun = noun
        self.home = home
        self.group = f"fieldmark.{home.rpartition('.')[2]}" if home else ""
        self._base = base
        self._things: dict[str, T] = {}
        self._origins: dict[str, Origin] = {}
        self._broken: dict[str, str] = {}
        self._filled = not home

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return iter(sorted(self._things))

    def __repr__(self) -> str:
        return f"Registry({self.noun!r}: {', '.join(self)})"

    def register(self, name: str) -> Callable[[T], T]:
        """Decorate a class or function so that recipes can name it."""

        def add(thing: T) -> T:
            assert self._things.get(name, thing) is thing, f"two {self.noun}s are called {name!r}"
            self._things[name] = thing
            return thing

        return add

    def get(self, name: str) -> T:
        """The thing called `name`. Raises RecipeError, with the nearest right name, where there is none."""
        self._fill()
        if name not in self._things:
            if name in self._broken:
                raise RecipeError(f"The {self.noun} {name!r} cannot be used: {self._broken[name]}")
            raise RecipeError(f"There is no {self.noun} {name!r}", nearest(name, self._things))
        return self._things[name]

    def origin(self, name: str) -> Origin | None:
        """The package that a plug-in comes from; None for what comes with Fieldmark."""
        self._fill()
        return self._origins.get(name)

    def options(self, name: str) -> dict[str, Any]:
        """The options of `name` with their defaults."""
        parameters = inspect.signature(self.get(name)).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}

    def complete(self, name: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with defaults filled in. Raises RecipeError for an option that `name` does not have, or one of
        another type."""
        known = self.options(name)
        for key, value in options.items():
            if key not in known:
                raise RecipeError(f"The {self.noun} {name!r} has no option {brief(key)}", nearest(key, known))
            default = known[key]
            number = isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool)
            if default is not None and type(value) is not type(default) and not number:
                raise RecipeError(
                    f"The option {key!r} of the {self.noun} {name!r} cannot be {brief(value)}",
                    f"Expected a value of type {type(default).__name__}, such as {default!r}.",
                )
            if isinstance(value, int | float) and not abs(value) <= _MOST:  # not a number, too
                raise RecipeError(
                    f"The option {key!r} of the {self.noun} {name!r} cannot be {brief(value)}",
                    f"Expected a number of at most {_MOST:,}.",
                )
        return known | dict(options)

    def _fill(self) -> None:
        if self._filled:
            return
        self._filled = True  # before the import, whose modules may ask
        importlib.import_module(self.home)
        for entry in entry_points(group=self.group):
            self._plug_in(entry)

    def _plug_in(self, entry: EntryPoint) -> None:
        """Register what an installed package names, or say why not."""
        name = entry.name
        origin = Origin(entry.dist.name, entry.dist.version) if entry.dist else Origin("an unknown package", "?")
        if name in self._things:
            taken = self._origins.get(name, "Fieldmark")
            self._leave_out(name, f"{origin} names a {self.noun} {name!r}, but {taken} already has one of that name")
            return
        before = set(self._things)
        try:
            thing = entry.load()
        except Exception as error:  # whatever somebody else's module does
            self._leave_out(name, f"{origin} could not be imported ({type(error).__name__}: {error})", broken=True)
            return
        finally:
            for stray in set(self._things) - before - {name}:  # registered by a decorator, under another name
                self._origins[stray] = origin
        if self._base is not None and not (inspect.isclass(thing) and issubclass(thing, self._base())):
            self._things.pop(name, None)
            problem = f"{entry.value} of {origin} is not a subclass of {self._base().__name__}"
            self._leave_out(name, problem, broken=True)
            return
        self._things[name] = thing
        self._origins[name] = origin

    def _leave_out(self, name: str, problem: str, *, broken: bool = False) -> None:
        if broken:
            self._broken[name] = problem
        warnings.warn(f"The {self.noun} {name!r} of a plug-in is left out: {problem}", PluginWarning, stacklevel=2)
