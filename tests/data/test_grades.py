"""Which classes are taken for grades, and in which order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import RecipeError
from fieldmark.data.grades import grades_of, in_order, numbered


@pytest.mark.parametrize(
    ("classes", "order"),
    [
        (("stage 0", "stage 1", "stage 2"), ("stage 0", "stage 1", "stage 2")),
        (("CIN1", "CIN3", "CIN2"), ("CIN1", "CIN2", "CIN3")),
        (("0", "10", "5"), ("0", "5", "10")),
        (("t2-grade_09", "t2-grade_10", "t2-grade_11"), ("t2-grade_09", "t2-grade_10", "t2-grade_11")),
        (("flower 11", "flower 28", "flower 48"), ()),
        (("flower 1", "flower 2", "flower 3"), ()),
        (("Schweregrad 1", "Schweregrad 2", "Schweregrad 3"), ("Schweregrad 1", "Schweregrad 2", "Schweregrad 3")),
        (("Klasse 1", "Klasse 2", "Klasse 3"), ()),
        (("class_03", "class_01", "class_02"), ()),
        (("starfish1", "starfish2", "starfish3"), ()),
        (("flower 0", "flower 1", "flower 2"), ("flower 0", "flower 1", "flower 2")),
        (("1", "2", "3"), ("1", "2", "3")),
        (("Stufe 1", "Stufe 2", "Stufe 3"), ("Stufe 1", "Stufe 2", "Stufe 3")),
        (("tumourStage1", "tumourStage2", "tumourStage3"), ("tumourStage1", "tumourStage2", "tumourStage3")),
        (("1 star", "2 star", "3 star"), ("1 star", "2 star", "3 star")),
        (("mild", "none", "severe"), ()),
        (("stage 0", "stage 1", "stage 2", "healthy"), ()),
        (("robin 1", "robin 2", "wren 1"), ()),
        (("1 of 2", "1 of 3", "2 of 3"), ()),
        (("1", "01", "2"), ()),
    ],
)
def test_numbers_make_an_order(classes: tuple[str, ...], order: tuple[str, ...]) -> None:
    assert in_order(classes, "auto") == order


@given(st.lists(st.integers(0, 999), min_size=3, max_size=11, unique=True))
def test_the_order_is_that_of_the_numbers(numbers: list[int]) -> None:
    classes = [f"grade {n} of 9" for n in numbers]
    assert numbered(classes) == tuple(f"grade {n} of 9" for n in sorted(numbers))
    grades = grades_of(classes, "numbers")
    assert sorted(grades) == list(range(len(numbers)))
    assert [n for _, n in sorted(zip(grades, numbers, strict=True))] == sorted(numbers)


def test_many_numbers_are_serial_numbers_unless_told_otherwise() -> None:
    classes = tuple(f"{n}" for n in range(102))
    assert in_order(classes, "auto") == ()
    assert in_order(classes, "numbers") == classes
    assert in_order(classes[:11], "auto") == classes[:11]
    assert in_order(("1", "2"), "auto") == ()  # two classes have no order that matters
    assert in_order(classes[:5], "none") == ()


def test_a_user_may_name_the_order() -> None:
    classes = ("mild", "none", "severe")
    assert in_order(classes, ("none", "mild", "severe")) == ("none", "mild", "severe")
    assert grades_of(classes, ("none", "mild", "severe")) == (1, 0, 2)
    assert grades_of(classes, "auto") == ()
    assert in_order(classes, ("None", " mild", "SEVERE")) == ("none", "mild", "severe")


@pytest.mark.parametrize(
    ("order", "problem"),
    [
        (("none", "mild", "sevre"), r"labels\.order names 'sevre', which is not a class\. Did you mean 'severe'\?"),
        (("none", "severe"), r"labels\.order leaves out mild\. List every class, from the lowest grade up\."),
        (("none", "mild", "mild", "severe"), r"labels\.order names 'mild' twice"),
        (
            "numbers",
            r"class names do not differ only in one number: mild, none, severe\. List the classes .* \[\"mild\", ",
        ),
    ],
)
def test_an_order_that_is_none_is_refused(order: str | tuple[str, ...], problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        in_order(("mild", "none", "severe"), order)
