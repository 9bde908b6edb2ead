"""The tree above the classes against walks up it, name by name."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.data.taxonomy import Taxonomy

BIRDS = ("Herring Gull", "Common Gull", "Arctic Tern", "Little Tern", "Rook")
ABOVE = {"genus": ("Larus", "Larus", "Sterna", "Sternula", "Corvus"), "family": ("Laridae",) * 4 + ("Corvidae",)}
KINGDOM = {"kingdom": ("Animalia",) * 5}
TREE = Taxonomy.of(BIRDS, ABOVE)


def chain(bird: str, above: dict[str, tuple[str, ...]]) -> list[str]:
    """The class and the names above it, up to the root."""
    return [bird, *(names[BIRDS.index(bird)] for names in above.values()), "the root"]


def test_it_is_a_mapping_of_names() -> None:
    assert dict(TREE) == ABOVE
    assert TREE["genus"] == ABOVE["genus"]
    assert list(TREE) == ["genus", "family"]
    assert (len(TREE), "genus" in TREE, "order" in TREE) == (2, True, False)
    assert TREE.as_dict() == {level: list(names) for level, names in ABOVE.items()}
    assert Taxonomy.of(list(BIRDS), {level: list(names) for level, names in ABOVE.items()}) == TREE


def test_two_are_the_same_if_their_classes_are() -> None:
    assert TREE == ABOVE
    assert Taxonomy.of(BIRDS[::-1], ABOVE) != TREE
    assert Taxonomy.of(BIRDS, KINGDOM) != TREE
    assert Taxonomy.of(BIRDS) != 0


def test_one_without_levels_is_empty() -> None:
    flat = Taxonomy.of(("a", "b"))
    assert not flat
    assert flat == {}
    assert [level.name for level in flat.levels] == ["class"]
    assert flat.steps == ()
    assert flat.furthest == 1
    assert flat.distances(np.array([0, 1]), np.array([0, 0])).tolist() == [0, 1]
    assert flat.common_ancestor("a", "b") is None


def test_as_many_names_as_classes() -> None:
    with pytest.raises(AssertionError):
        Taxonomy.of(BIRDS, {"genus": ("Larus",)})


def test_a_lineage_goes_upwards() -> None:
    assert TREE.lineage("species", "Rook") == {"species": "Rook", "genus": "Corvus", "family": "Corvidae"}
    assert TREE.lineage("genus", "Sterna") == {"genus": "Sterna", "family": "Laridae"}
    assert TREE.lineage("order", "Sterna") == {}
    with pytest.raises(ValueError, match="not in tuple"):
        TREE.lineage("genus", "Rook")


def test_levels() -> None:
    species, genus, family = TREE.levels
    assert (species.name, species.names, species.parent.tolist()) == ("species", BIRDS, [0, 1, 2, 3, 4])
    assert (genus.name, genus.names) == ("genus", ("Larus", "Sterna", "Sternula", "Corvus"))
    assert (family.name, family.names, family.parent.tolist()) == ("family", ("Laridae", "Corvidae"), [0, 0, 0, 0, 1])
    for level in TREE.levels[1:]:
        assert tuple(level.names[k] for k in level.parent) == TREE[level.name]


def test_levels_that_divide_nothing_are_no_steps() -> None:
    more = Taxonomy.of(BIRDS, {"species": tuple("abcde"), **ABOVE, **KINGDOM})
    assert [level.name for level in more.levels] == ["species", "species", "genus", "family", "kingdom"]
    assert [level.name for level in more.steps] == ["genus", "family"]
    assert more.furthest == TREE.furthest == 3


def test_what_is_above_a_class() -> None:
    assert TREE.parent("Rook", "genus") == "Corvus"
    assert TREE.parent("Little Tern", "family") == "Laridae"
    with pytest.raises(KeyError):
        TREE.parent("Rook", "order")
    with pytest.raises(ValueError, match="Magpie"):
        TREE.parent("Magpie", "genus")


@pytest.mark.parametrize(
    ("first", "second", "ancestor"),
    [
        ("Rook", "Rook", ("species", "Rook")),
        ("Herring Gull", "Common Gull", ("genus", "Larus")),
        ("Common Gull", "Herring Gull", ("genus", "Larus")),
        ("Arctic Tern", "Little Tern", ("family", "Laridae")),
        ("Rook", "Little Tern", None),
    ],
)
def test_the_common_ancestor(first: str, second: str, ancestor: tuple[str, str] | None) -> None:
    assert TREE.common_ancestor(first, second) == ancestor
    above_all = Taxonomy.of(BIRDS, ABOVE | KINGDOM)
    assert above_all.common_ancestor(first, second) == (ancestor or ("kingdom", "Animalia"))
    for unknown in ((first, "Magpie"), ("Magpie", first)):
        with pytest.raises(ValueError, match="Magpie"):
            TREE.common_ancestor(*unknown)


@pytest.mark.parametrize("more", [{}, KINGDOM])
def test_a_distance_is_the_height_of_the_common_ancestor(more: dict[str, tuple[str, ...]]) -> None:
    first, second = (axis.ravel() for axis in np.meshgrid(np.arange(5), np.arange(5)))
    tree = Taxonomy.of(BIRDS, ABOVE | more)
    walked = [
        next(steps for steps, (a, b) in enumerate(zip(chain(one, ABOVE), chain(other, ABOVE), strict=True)) if a == b)
        for one, other in ((BIRDS[a], BIRDS[b]) for a, b in zip(first, second, strict=True))
    ]
    assert tree.distances(first, second).tolist() == walked
    assert sorted(set(walked)) == [0, 1, 2, 3]
    assert tree.furthest == 3


def test_the_likeliest_name_of_each_level() -> None:
    answers, confidences = TREE.best(np.array([[0.3, 0.3, 0.2, 0.15, 0.05], [0.1, 0.1, 0.1, 0.3, 0.4]]))
    names = [[level.names[k] for level, k in zip(TREE.levels, row, strict=True)] for row in answers]
    assert names == [["Herring Gull", "Larus", "Laridae"], ["Rook", "Corvus", "Laridae"]]
    assert confidences == pytest.approx(np.array([[0.3, 0.6, 0.95], [0.4, 0.4, 0.6]]))
    assert TREE.right(answers, np.array([1, 4])).tolist() == [[False, True, True], [True, True, False]]


@given(st.lists(st.lists(st.floats(0.001, 1), min_size=5, max_size=5), min_size=1, max_size=4))
def test_parents_are_the_sums_of_their_children(rows: list[list[float]]) -> None:
    probabilities = np.array(rows) / np.sum(rows, axis=1, keepdims=True)
    answers, confidences = TREE.best(probabilities)
    for row, p in enumerate(probabilities):
        for level, of_class in enumerate((BIRDS, *ABOVE.values())):
            sums: dict[str, float] = {}
            for name, share in zip(of_class, p, strict=True):
                sums[name] = sums.get(name, 0) + share
            assert confidences[row, level] == pytest.approx(max(sums.values()))
            assert sums[TREE.levels[level].names[answers[row, level]]] == pytest.approx(max(sums.values()))
    assert (np.diff(confidences, axis=1) >= -1e-12).all()


def test_shares_are_those_of_the_names_asked_for() -> None:
    probabilities = np.array([[0.3, 0.3, 0.2, 0.15, 0.05]])
    assert TREE.shares(probabilities, np.array([[1, 1, 1]])) == pytest.approx(np.array([[0.3, 0.2, 0.05]]))
