"""Species and their marks: how they differ, how they are named, which options make sense."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import RecipeError
from fieldmark.fieldguide import MARKS, make_guide, make_scene, split_of
from fieldmark.fieldguide.colours import contrast
from fieldmark.fieldguide.habitat import HABITATS
from fieldmark.fieldguide.marks import MARK_COLOURS


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), species=st.integers(2, 60))
def test_species_of_a_genus_differ_in_one_or_two_marks(seed: int, species: int) -> None:
    guide = make_guide(seed=seed, species=species)
    assert [one.index for one in guide.species] == list(range(species))
    for a, b in combinations(guide.species, 2):
        if a.genus == b.genus:
            differing = guide.differing_marks(a.index, b.index)
            assert 1 <= len(differing) <= 2
            assert set(differing) <= set(a.genus.places)
            assert differing == guide.differing_marks(b.index, a.index)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), species=st.integers(2, 60))
def test_names_are_unique_and_safe_as_folders(seed: int, species: int) -> None:
    guide = make_guide(seed=seed, species=species)
    for names in ([one.name for one in guide.species], [one.latin for one in guide.species]):
        assert len({name.casefold() for name in names}) == species
        assert all(name.replace("-", "").replace(" ", "").isalpha() and name.isascii() for name in names)
    assert all(list(guide.species).count(one) == 1 for one in guide.species)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_marks_stand_out_and_lie_apart(seed: int) -> None:
    for genus in make_guide(seed=seed, species=24).genera:
        zones = [MARKS[place].zone for place in genus.places]
        assert len(set(zones)) == len(zones)
    for one in make_guide(seed=seed, species=24).species:
        for mark, colour in one.marks.items():
            assert contrast(MARK_COLOURS[colour][0], one.genus.colours[MARKS[mark].over]) >= 0.2


def test_taxonomy_has_the_default_shape() -> None:
    guide = make_guide()
    assert len(guide.species) == 12
    assert len(guide.genera) == 4
    assert len({genus.family for genus in guide.genera}) == 2


def test_another_seed_gives_other_species() -> None:
    first, second = ({one.name for one in make_guide(seed=seed).species} for seed in (0, 1))
    assert not first & second


def test_contrast_is_zero_for_the_same_and_one_for_black_and_white() -> None:
    assert contrast((10, 200, 30), (10, 200, 30)) == 0
    assert contrast((0, 0, 0), (255, 255, 255)) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"species": 1}, "cannot have species=1. Choose a value from 2 to 300"),
        ({"species": 301}, "cannot have species=301"),
        ({"images_per_species": 5}, "cannot have images_per_species=5. Choose a value from 6 to 9999"),
        ({"size": 20}, "cannot have size=20. Choose a value from 64 to 1024"),
        ({"seed": -1}, "cannot have seed=-1"),
        ({"habitat": "fixed"}, "cannot have habitat='fixed'. Choose 'free' or 'tied'"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_guide(**options)


def test_splits_are_70_15_15_and_interleaved() -> None:
    splits = [split_of(index) for index in range(60)]
    assert [splits.count(split) for split in ("train", "val", "test")] == [42, 9, 9]
    assert {split_of(index) for index in range(6)} == {"train", "val", "test"}


def test_tied_habitats_are_one_per_species_except_in_test() -> None:
    guide = make_guide(habitat="tied")
    homes = []
    for species in range(12):
        seen = {split: [make_scene(guide, species, i).habitat for i in range(60) if split_of(i) == split]
                for split in ("train", "val", "test")}  # fmt: skip
        assert len({*seen["train"], *seen["val"]}) == 1
        assert len(set(seen["test"])) > 2
        homes.append(seen["train"][0])
    assert len(set(homes)) == min(12, len(HABITATS))


def test_free_habitats_say_nothing_about_the_species() -> None:
    guide = make_guide()
    for species in range(12):
        assert len({make_scene(guide, species, i).habitat for i in range(60)}) >= 8


def test_a_scene_depends_on_seed_species_and_index_alone() -> None:
    small, large = make_guide(images_per_species=6), make_guide(images_per_species=100, size=64)
    assert make_scene(small, 3, 5) == make_scene(large, 3, 5)
    assert make_scene(small, 3, 5) != make_scene(small, 3, 4)
    assert make_scene(small, 3, 5) != make_scene(small, 2, 5)
    assert make_scene(small, 3, 5) != make_scene(make_guide(seed=1), 3, 5)


def test_facing_left_or_right_is_a_coin_toss() -> None:
    guide = make_guide()
    for species in range(12):
        assert 0.3 < np.mean([make_scene(guide, species, i).mirrored for i in range(100)]) < 0.7
