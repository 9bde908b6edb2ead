"""What other trades need: stages, individuals, attributes, impostors, mirror images."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from fieldmark.core.errors import RecipeError
from fieldmark.fieldguide import make_guide, make_scene, mark_id, render
from fieldmark.fieldguide.colours import contrast
from fieldmark.fieldguide.marks import EXTRAS, MARK_COLOURS, MARKS
from fieldmark.fieldguide.render import marks_worn, render_scene
from fieldmark.fieldguide.scene import BURST, NUM_INDIVIDUALS, NUM_STAGES, PORTRAIT, split_in
from fieldmark.fieldguide.truth import classes, label_of


@pytest.mark.parametrize("kind", ["stages", "individuals", "attributes", "impostors", "mirror"])
def test_a_picture_is_the_same_however_many_there_are_and_whatever_follows(kind: str) -> None:
    few = make_guide(kind=kind, species=4, images_per_species=36, size=64)
    more = make_guide(
        kind=kind,
        species=4,
        images_per_species=60,
        size=64,
        unknown=4,
        noise=0.3,
        duplicates=0.5,
    )
    assert few.species == more.species
    assert np.array_equal(render(few, 2, 7).pixels, render(more, 2, 7).pixels)
    assert not {one.name for one in more.species} & {one.name for one in more.unknown}


# Stages ---------------------------------------------------------------------------------------------------------------


def test_stages_follow_from_the_number_of_new_feathers() -> None:
    guide = make_guide(kind="stages", species=3)
    feathers = defaultdict(list)
    for species in range(3):
        for index in range(60):
            scene = make_scene(guide, species, index)
            feathers[scene.stage].append(scene.new_feathers)
            assert label_of(guide, species, scene) == f"stage {scene.stage}"
    assert sorted(feathers) == list(range(NUM_STAGES))
    assert all(max(feathers[low]) < min(feathers[high]) for low, high in pairwise(range(NUM_STAGES)))
    assert all(len(values) > 18 for values in feathers.values())


def test_more_moult_covers_more_of_the_bird() -> None:
    guide = make_guide(kind="stages", species=2)
    moulted = [mark_id(name) for name in EXTRAS if name.startswith("moult")]
    areas = []
    for feathers in (0, 4, 10, 20, 34):
        scene = replace(make_scene(guide, 0, 3), new_feathers=feathers, crowd=0)
        drawing = render_scene(guide.species[0].genus, {}, scene, 160)
        areas.append(int(np.isin(drawing.marks, moulted).sum()))
        assert set(np.unique(drawing.parts)) <= set(range(8))
    assert areas[0] == 0
    assert all(few < many for few, many in pairwise(areas))


# Individuals ----------------------------------------------------------------------------------------------------------


def test_bursts_stay_whole_and_each_bird_is_in_every_split() -> None:
    guide = make_guide(kind="individuals", species=2)
    parts, bursts = defaultdict(set), defaultdict(set)
    for index in range(60):
        scene = make_scene(guide, 1, index)
        parts[label_of(guide, 1, scene)].add(split_in(guide, index))
        bursts[scene.burst].add((split_in(guide, index), scene.individual, scene.habitat, scene.light))
    assert set(parts) == {f"{guide.species[1].name} {number}" for number in range(1, NUM_INDIVIDUALS + 1)}
    assert all(found == {"train", "val", "test"} for found in parts.values())
    assert len(bursts) == 60 // BURST
    assert all(len(found) == 1 for found in bursts.values())
    assert len(classes(guide)) == 2 * NUM_INDIVIDUALS


def test_an_individual_keeps_its_spots_and_no_other_has_them() -> None:
    guide = make_guide(kind="individuals", species=2)
    spots = {}
    for burst in range(2 * NUM_INDIVIDUALS):
        own = make_scene(guide, 0, burst * BURST)
        scene = replace(PORTRAIT, pattern=own.pattern)
        seen = render_scene(guide.species[0].genus, {}, scene, 160).marks == mark_id("personal pattern")
        assert seen.mean() > 0.004
        assert np.array_equal(seen, spots.setdefault(own.individual, seen))
    masks = list(spots.values())
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert (one & other).sum() < 0.6 * min(one.sum(), other.sum())


def test_frames_of_a_burst_are_alike_but_not_the_same() -> None:
    guide = make_guide(kind="individuals", species=2, size=64)
    first, second = render(guide, 0, 0), render(guide, 0, 1)
    elsewhere = render(guide, 0, BURST * NUM_INDIVIDUALS)
    near, far = (np.abs(first.pixels.astype(int) - one.pixels).mean() for one in (second, elsewhere))
    assert 0 < near < far


# Attributes -----------------------------------------------------------------------------------------------------------


def test_marks_of_a_guide_of_attributes_say_nothing_of_the_class() -> None:
    guide = make_guide(kind="attributes", species=6)
    assert len(guide.genera) == 6
    assert len({one.genus.places for one in guide.species}) == 1
    for one in guide.species:
        worn = [marks_worn(guide, one, make_scene(guide, one.index, i), i) for i in range(100)]
        for mark in one.genus.places:
            assert 30 < sum(mark in marks for marks in worn) < 70
            assert {marks[mark] for marks in worn if mark in marks} == set(one.variants[mark])


# Impostors ------------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_an_impostor_differs_in_one_colour(seed: int) -> None:
    guide = make_guide(kind="impostors", species=10, seed=seed)
    for genuine, impostor in zip(guide.species[::2], guide.species[1::2], strict=True):
        assert genuine.genus == impostor.genus
        assert list(genuine.marks) == list(impostor.marks)
        (mark,) = guide.differing_marks(genuine.index, impostor.index)
        colours = [MARK_COLOURS[one.marks[mark]][0] for one in (genuine, impostor)]
        assert contrast(*colours) >= 0.15


# Mirror images --------------------------------------------------------------------------------------------------------


def test_the_mirror_image_of_a_species_is_the_other_one() -> None:
    """Drawn facing the other way, a sinistral bird is a dextral one flipped: the label must change with a flip."""
    guide = make_guide(kind="mirror", species=6)
    for left in guide.species[::2]:
        right = guide.species[left.index + 1]
        assert (left.side, right.side) == ("left", "right")
        assert left.marks == right.marks
        assert guide.differing_marks(left.index, right.index) == tuple(left.marks)
        for mirrored in (True, False):
            scene = replace(PORTRAIT, mirrored=mirrored, azimuth=0.0)
            other = replace(scene, mirrored=not mirrored)
            own = render_scene(left.genus, marks_worn(guide, left, scene, 0), scene, 160)
            twin = render_scene(right.genus, marks_worn(guide, right, other, 0), other, 160)
            same = render_scene(left.genus, marks_worn(guide, left, other, 0), other, 160)
            assert np.abs(own.pixels[:, ::-1].astype(int) - twin.pixels).mean() < 2
            place = own.marks[:, ::-1] > 0
            assert np.abs(own.pixels[:, ::-1].astype(int) - same.pixels)[place].mean() > 20


@pytest.mark.parametrize("kind", ["impostors", "mirror", "stages", "individuals"])
def test_another_species_marks_change_only_the_marks(kind: str) -> None:
    guide = make_guide(kind=kind, species=4)
    for index in range(3):
        own, swapped = render(guide, 0, index), render(guide, 0, index, marks_of=1)
        assert np.array_equal(own.numbers, swapped.numbers)
        places = [mark_id(mark) for mark in guide.differing_marks(0, 1)]
        mask = Image.fromarray(np.isin(own.marks, places).astype(np.uint8))
        near = np.asarray(mask.filter(ImageFilter.MaxFilter(9)), dtype=bool)
        changed = (own.pixels != swapped.pixels).any(axis=-1)
        assert changed.any()
        assert not (changed & ~near).any()


# Unknown species ------------------------------------------------------------------------------------------------------


def test_unknown_species_are_siblings_and_strangers() -> None:
    guide = make_guide(species=6, unknown=5)
    assert [one.index for one in guide.unknown] == [6, 7, 8, 9, 10]
    known = {genus.name for genus in guide.genera}
    assert [one.genus.name in known for one in guide.unknown] == [True, True, True, False, False]
    for one in guide.unknown[:3]:
        sisters = [sister for sister in guide.species if sister.genus.name == one.genus.name]
        assert not {MARKS[mark].zone for mark in one.marks} & {MARKS[m].zone for s in sisters for m in s.marks}
        with pytest.raises(RecipeError, match="one of them is an unknown species"):
            render(guide, sisters[0].index, 0, marks_of=one.index)
    with pytest.raises(RecipeError, match=r"There is no species 11. This guide has the species 0 to 10"):
        render(guide, 11, 0)


def test_unknown_species_are_found_anywhere_and_stages_have_homes() -> None:
    guide = make_guide(species=4, unknown=2, habitat="tied")
    assert len({make_scene(guide, 0, i).habitat for i in range(60) if split_in(guide, i) == "train"}) == 1
    assert len({make_scene(guide, 4, i).habitat for i in range(60) if split_in(guide, i) == "train"}) > 5
    stages = make_guide(kind="stages", species=4, habitat="tied")
    scenes = [make_scene(stages, k, i) for k in range(4) for i in range(60) if split_in(stages, i) != "test"]
    assert len({(scene.stage, scene.habitat) for scene in scenes}) == NUM_STAGES


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    kind=st.sampled_from(["species", "impostors", "mirror", "attributes"]),
    half=st.integers(1, 20),
    unknown=st.integers(0, 15),
)
def test_every_name_is_there_once(seed: int, kind: str, half: int, unknown: int) -> None:
    guide = make_guide(seed=seed, kind=kind, species=2 * half, unknown=2 * unknown)
    every = (*guide.species, *guide.unknown)
    assert [one.index for one in every] == list(range(2 * half + 2 * unknown))
    for names in ([one.name for one in every], [one.latin for one in every]):
        assert len(set(names)) == len(names)


# What does not go together --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "miror"}, "no field guide of the kind 'miror'. Did you mean 'mirror'"),
        ({"kind": "mirror", "species": 5}, "species=5: they come in pairs. Choose an even number"),
        ({"kind": "impostors", "unknown": 3}, "unknown=3: they come in pairs"),
        ({"kind": "individuals", "images_per_species": 20}, "in every split. Choose 36 or more"),
        ({"kind": "stages", "long_tail": 4.0}, "long_tail=4: its classes are not species"),
        ({"kind": "attributes", "species": 200}, "200 genera. Choose fewer species: there are names for 192 genera"),
        ({"long_tail": 50.0, "images_per_species": 20}, "14 training pictures per species cannot have long_tail=50"),
        ({"long_tail": 0.5}, "long_tail=0.5. Choose a value from 1 to 1000"),
        ({"noise": 1.0}, "noise=1.0. Choose a value from 0 to 0.9"),
        ({"noise": float("nan")}, "noise=nan. Choose a value from 0 to 0.9"),
        ({"duplicates": -0.1}, "duplicates=-0.1. Choose a value from 0 to 1"),
        ({"unknown": 101}, "unknown=101. Choose a value from 0 to 100"),
    ],
)
def test_what_makes_no_sense_is_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_guide(**options)
