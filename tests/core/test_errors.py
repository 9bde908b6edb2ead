"""Errors say in one line what was wrong and what to do."""

from __future__ import annotations

import pickle

import pytest

from fieldmark.core import errors
from fieldmark.core.errors import (
    DataError,
    DataWarning,
    FieldmarkError,
    FieldmarkWarning,
    ImageError,
    LeaderlessError,
    PluginWarning,
    RunError,
    TooLargeError,
    UnknownFormatError,
    nearest,
)

PUBLIC = [getattr(errors, name) for name in errors.__all__ if name.endswith("Error")]


@pytest.mark.parametrize(
    ("problem", "hint", "text"),
    [
        ("The disk is full", "Free some space.", "The disk is full. Free some space."),
        ("The disk is full.", "Free some space.", "The disk is full. Free some space."),
        ("The disk is full", "", "The disk is full"),
    ],
)
def test_a_message_is_the_problem_then_the_hint(problem: str, hint: str, text: str) -> None:
    error = RunError(problem, hint)
    assert str(error) == text
    assert (error.problem, error.hint) == (problem, hint)


def test_errors_survive_the_way_back_from_a_worker_process() -> None:
    error = pickle.loads(pickle.dumps(ImageError("a.jpg is cut short", "Copy it again.")))
    assert isinstance(error, ImageError)
    assert str(error) == "a.jpg is cut short. Copy it again."


def test_the_drawn_hierarchy_is_the_real_one() -> None:
    assert errors.__doc__ is not None
    assert all(issubclass(error, FieldmarkError) for error in PUBLIC)
    for error in PUBLIC:
        assert error.__name__ in errors.__doc__
        assert error.__doc__
    direct = {error for error in PUBLIC if error.__bases__ == (FieldmarkError,)}
    assert {e for e in PUBLIC if e not in direct} == {
        FieldmarkError,
        ImageError,
        LeaderlessError,
        TooLargeError,
        UnknownFormatError,
    }
    assert ImageError.__base__ is DataError


def test_warnings_are_of_one_kind() -> None:
    """So that a listener can tell them from those of other packages."""
    assert {name for name in errors.__all__ if name.endswith("Warning")} == {
        "FieldmarkWarning",
        "DataWarning",
        "PluginWarning",
    }
    assert DataWarning.__bases__ == PluginWarning.__bases__ == (FieldmarkWarning,)
    assert issubclass(FieldmarkWarning, UserWarning)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mobilnet", "Did you mean 'mobilenet'?"),
        ("resnet81", "Did you mean 'resnet18'?"),
        ("x", "Known: mobilenet, resnet18, resnet34."),
        ("", "Known: mobilenet, resnet18, resnet34."),
    ],
)
def test_the_nearest_name(name: str, hint: str) -> None:
    assert nearest(name, {"resnet34", "resnet18", "mobilenet"}) == hint
