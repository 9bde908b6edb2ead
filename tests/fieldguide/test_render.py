"""One picture and its truth."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageFilter

from fieldmark.core.errors import RecipeError
from fieldmark.fieldguide import KEYPOINTS, MARKS, PARTS, Guide, contact_sheet, make_guide, mark_id, render
from fieldmark.fieldguide.render import render_scene
from fieldmark.fieldguide.scene import PORTRAIT, make_scene


@pytest.fixture(scope="module")
def guide() -> Guide:
    return make_guide(seed=4)


@pytest.fixture(scope="module")
def many() -> Guide:
    """All builds, and nearly all marks."""
    return make_guide(seed=11, species=48)


def test_a_picture_is_the_same_bit_for_bit(guide: Guide) -> None:
    first, second = render(guide, 5, 7), render(make_guide(seed=4), 5, 7)
    assert first.pixels.dtype == np.uint8
    assert first.pixels.shape == (160, 160, 3)
    assert np.array_equal(first.pixels, second.pixels)
    assert np.array_equal(first.numbers, second.numbers)
    assert np.array_equal(first.keypoints, second.keypoints)
    assert not np.array_equal(first.pixels, render(guide, 5, 8).pixels)


def test_marks_are_small_but_can_be_seen(many: Guide) -> None:
    for one in many.species:
        drawing = render_scene(one.genus, one.marks, replace(make_scene(many, one.index, 0), crowd=0), 160)
        for place in one.genus.places:
            share = (drawing.marks == mark_id(place)).mean()
            assert 0.001 < share < 0.02, (one.name, place)


def test_twigs_rarely_hide_a_mark(guide: Guide) -> None:
    for index in range(15):
        scene = make_scene(guide, 0, index)
        bare = render_scene(guide.species[0].genus, {}, replace(scene, crowd=0), 160).marks
        seen = render_scene(guide.species[0].genus, {}, scene, 160).marks
        for place in guide.species[0].genus.places:
            left = (seen == mark_id(place)).sum() / (bare == mark_id(place)).sum()
            assert scene.careless or left >= 0.6


def test_key_points_lie_on_the_bird_and_in_its_box(many: Guide) -> None:
    for one in many.species:
        scene = make_scene(many, one.index, 1)
        bare = render_scene(one.genus, one.marks, replace(scene, crowd=0), 160)
        x, y, width, height = bare.box
        assert bare.keypoints.shape == (len(KEYPOINTS), 3)
        assert (bare.keypoints[:, 2] == 1).all()
        near = np.asarray(Image.fromarray((bare.numbers > 0).astype(np.uint8)).filter(ImageFilter.MaxFilter(5)))
        for name, (left, top, _) in zip(KEYPOINTS, bare.keypoints, strict=True):
            assert x - 2 <= left <= x + width + 2, (one.name, name)
            assert y - 2 <= top <= y + height + 2, (one.name, name)
            assert near[int(top), int(left)], (one.name, name)


def test_key_points_lie_on_their_parts(many: Guide) -> None:
    expected = {"eye": "eye", "crown": "head", "nape": "head", "breast": "body", "belly": "body", "back": "body"}
    for one in many.species:
        parts = render_scene(one.genus, one.marks, replace(make_scene(many, one.index, 2), crowd=0), 160)
        for name, part in expected.items():
            left, top, _ = parts.keypoints[KEYPOINTS.index(name)]
            around = parts.parts[int(top) - 2 : int(top) + 3, int(left) - 2 : int(left) + 3]
            assert PARTS.index(part) in around, (one.name, name)


def test_a_hidden_key_point_is_not_visible(guide: Guide) -> None:
    flags = []
    for index in range(40):
        scene = replace(make_scene(guide, 0, index), crowd=5, careless=True)
        hidden = render_scene(guide.species[0].genus, {}, scene, 160)
        bare = render_scene(guide.species[0].genus, {}, replace(scene, crowd=0), 160)
        assert hidden.occlusion > bare.occlusion == 0 or np.array_equal(hidden.numbers, bare.numbers)
        for (left, top, visible), (x, y, _) in zip(hidden.keypoints, bare.keypoints, strict=True):
            assert (left, top) == (x, y)
            if bare.numbers[int(top), int(left)]:
                assert visible == (hidden.numbers[int(top), int(left)] > 0)
            flags.append(visible)
    assert {0.0, 1.0} == set(flags)


def test_the_box_is_tight(guide: Guide) -> None:
    for species in range(12):
        drawing = render(guide, species, 3)
        x, y, width, height = drawing.box
        inside = drawing.numbers[y : y + height, x : x + width] > 0
        assert inside.sum() == (drawing.numbers > 0).sum()
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()


def test_another_species_marks_change_only_the_marks(many: Guide) -> None:
    for one in many.species:
        for other in many.species:
            if one.genus != other.genus or one == other:
                continue
            own, swapped = render(many, one.index, 4), render(many, one.index, 4, marks_of=other.index)
            assert np.array_equal(own.numbers, swapped.numbers)
            places = [mark_id(mark) for mark in many.differing_marks(one.index, other.index)]
            mask = Image.fromarray(np.isin(own.marks, places).astype(np.uint8))
            near = np.asarray(mask.filter(ImageFilter.MaxFilter(9)), dtype=bool)
            changed = (own.pixels != swapped.pixels).any(axis=-1)
            assert changed.any(), (one.name, other.name)
            assert not (changed & ~near).any(), (one.name, other.name)


def test_marks_of_another_genus_and_unknown_species_are_refused(guide: Guide) -> None:
    with pytest.raises(RecipeError, match="are different genera"):
        render(guide, 0, 0, marks_of=11)
    with pytest.raises(RecipeError, match=r"There is no species 12. This guide has the species 0 to 11"):
        render(guide, 12, 0)


def test_a_flipped_bird_is_the_same_bird(guide: Guide) -> None:
    """A bird drawn facing the other way is the flipped picture: the same marks in the same places."""
    for species in range(12):
        one = guide.species[species]
        scene = replace(PORTRAIT, mirrored=False, azimuth=0.0)
        right = render_scene(one.genus, one.marks, scene, 160)
        left = render_scene(one.genus, one.marks, replace(scene, mirrored=True), 160)
        agree = (right.numbers[:, ::-1] == left.numbers).mean()
        assert agree > 0.985
        difference = np.abs(right.pixels[:, ::-1].astype(int) - left.pixels.astype(int))
        assert difference.mean() < 2
        flipped = right.keypoints * (-1, 1, 1) + (160, 0, 0)
        assert np.allclose(flipped, left.keypoints, atol=1)


def test_size_changes_the_resolution_and_not_the_bird(guide: Guide) -> None:
    small, large = (render_scene(guide.species[0].genus, {}, PORTRAIT, side) for side in (80, 240))
    assert large.pixels.shape == (240, 240, 3)
    assert np.allclose(np.array(small.box) * 3, large.box, atol=6)
    assert np.allclose(small.keypoints[:, :2] * 3, large.keypoints[:, :2], atol=1e-3)


def test_parts_tell_what_lies_beneath_a_mark(guide: Guide) -> None:
    for one in guide.species:
        drawing = render_scene(one.genus, one.marks, PORTRAIT, 160)
        assert drawing.parts.max() < len(PARTS)
        for place in one.genus.places:
            assert set(np.unique(drawing.parts[drawing.marks == mark_id(place)])) == {PARTS.index(MARKS[place].part)}


def test_the_page_shows_every_species(guide: Guide) -> None:
    page, short = contact_sheet(guide), contact_sheet(guide, num_species=3)
    assert page.mode == "RGB"
    assert page.width == short.width
    assert page.height > 3 * short.height - 500
