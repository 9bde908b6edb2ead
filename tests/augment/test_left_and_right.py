"""Names that say left and right: key points that a mirror exchanges, classes that it does."""

import pytest

from fieldmark.augment.image import flip_keeps_meaning, mirror_permutation

CUB_POINTS = (
    "back",
    "beak",
    "left eye",
    "left leg",
    "left wing",
    "nape",
    "right eye",
    "right leg",
    "right wing",
    "tail",
)


def test_cub() -> None:
    exchanged = {CUB_POINTS[i]: CUB_POINTS[j] for i, j in enumerate(mirror_permutation(CUB_POINTS)) if i != j}
    assert exchanged == {
        "left eye": "right eye",
        "right eye": "left eye",
        "left leg": "right leg",
        "right leg": "left leg",
        "left wing": "right wing",
        "right wing": "left wing",
    }


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["eye_left", "EYE_RIGHT"], [1, 0]),
        (["LeftWing", "RightWing", "tail"], [1, 0, 2]),
        (["left wing", "tail"], [0, 1]),  # no partner
        (["cleft", "cright", "bright", "bleft"], [0, 1, 2, 3]),  # not words
        ([], []),
    ],
)
def test_words(names: list[str], expected: list[int]) -> None:
    assert mirror_permutation(names).tolist() == expected


@pytest.mark.parametrize(
    ("names", "keeps"),
    [
        (["robin", "wren"], True),
        (["turn left ahead", "turn right ahead", "stop"], False),
        (["keep_left", "keep_right"], False),
        (["KeepLeft", "KeepRight"], False),
        (["Left turn", "right turn"], False),
        (["left", "right"], False),
        (["clockwise", "counter-clockwise"], False),
        (["clockwise snail", "anticlockwise snail"], False),
        (["turn left", "keep right"], True),
        (["right whale", "bowhead whale"], True),
        (["bright", "bleft"], True),
        ([], True),
    ],
)
def test_flip_keeps_meaning(names: list[str], keeps: bool) -> None:
    assert flip_keeps_meaning(names) is keeps
