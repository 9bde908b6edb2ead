"""How numbers, lists and times are said."""

from __future__ import annotations

import pytest

from fieldmark.core.wording import counted, duration, first_few


def test_first_few() -> None:
    assert first_few("abc") == "a, b, c"
    assert first_few(map(str, range(1500))) == "0, 1, 2 and 1,497 more"
    assert first_few("abcd", 1) == "a and 3 more"
    assert first_few([]) == ""


def test_counted() -> None:
    assert [counted(number, "image") for number in (0, 1, 2, 2889)] == [
        "0 images",
        "1 image",
        "2 images",
        "2,889 images",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.42, "0.4 s"),
        (9.94, "9.9 s"),
        (40.4, "40 s"),
        (89, "89 s"),
        (89.6, "1 min 30 s"),
        (97, "1 min 37 s"),
        (599.4, "9 min 59 s"),
        (599.6, "10 min"),
        (719, "12 min"),
        (3599, "1 h 00 min"),
        (11_100, "3 h 05 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
