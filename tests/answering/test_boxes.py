"""What is cut out for a box: a square that shows the box and a little around it, in the picture wherever possible."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fieldmark.answering.answers import Picture, answers
from fieldmark.answering.boxes import see_box, window
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Thing
from fieldmark.data.detections import Detected, Detection
from fieldmark.runs.run import Run

share = st.floats(0, 1)


@given(st.integers(1, 4000), st.integers(1, 4000), share, share, share, share, st.sampled_from([0.875, 1.0]))
def test_the_window_is_in_the_picture_and_holds_the_box(
    width: int, height: int, x: float, y: float, wide: float, high: float, crop: float
) -> None:
    box = x, y, wide * (1 - x), high * (1 - y)
    left, top, right, bottom = window(width, height, box, crop=crop)
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    side = max(box[2] * width, box[3] * height) * 1.2 / crop
    if side <= min(width, height):
        assert abs((right - left) - (bottom - top)) <= 2  # pixels
        assert left <= box[0] * width + 1
        assert right >= (box[0] + box[2]) * width - 1
        assert top <= box[1] * height + 1
        assert bottom >= (box[1] + box[3]) * height - 1


def test_the_view_of_a_box_is_that_of_its_crop(trained: Run, tmp_path: Path) -> None:
    predictor, rng = Predictor.load(trained.bundle), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).save(path := tmp_path / "a.png")
    box = 30 / 120, 20 / 90, 30 / 120, 20 / 90
    images = predictor.bundle.images
    left, top, right, bottom = window(120, 90, box, crop=1.0 if images.whole else images.crop)
    shown = see_box(predictor, Thing("a", path), box)
    assert shown.size == (120, 90)
    np.testing.assert_array_equal(shown.view, predictor.view(np.ascontiguousarray(pixels[top:bottom, left:right])))


def test_a_turned_photograph_is_cut_upright(trained: Run, tmp_path: Path) -> None:
    """A large one, so that it is decoded at a reduced scale."""
    predictor = Predictor.load(trained.bundle)
    picture = Image.new("RGB", (3000, 2000), "white")
    picture.paste("red", (1800, 200, 2400, 800))
    picture.save(plain := tmp_path / "plain.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    picture.transpose(Image.Transpose.ROTATE_90).save(turned := tmp_path / "turned.png", exif=exif)
    box = 0.6, 0.1, 0.2, 0.3
    views = [see_box(predictor, Thing("a", path), box).view.astype(int) for path in (plain, turned)]
    assert np.abs(views[0] - views[1]).mean() < 2
    assert views[0][0].min() > 200  # red and white
    middle = views[0].shape[1] // 2
    assert views[0][1][middle, middle] < 10


def test_only_sure_animals_are_classified(pictures: Path, trained: Run) -> None:
    predictor = Predictor.load(trained.bundle)
    first, second, third, fourth = (Thing(str(path), path) for path in sorted(pictures.rglob("*.png"))[:4])
    whole = (0.0, 0.0, 1.0, 1.0)
    found = [
        Picture(first, Detected("1", tuple(Detection("animal", c, whole) for c in (0.9, 0.5, 0.1)))),
        Picture(second, Detected("2", (Detection("person", 0.9, whole),))),
        Picture(third, Detected("3", ())),
        Picture(fourth, Detected("4", None)),
        Picture(Thing("gone.png", Path("gone.png")), Detected("5", (Detection("animal", 0.9, whole),))),
        Picture(first, Detected("6", None, "it failed")),
    ]
    told = [one for some in answers(predictor, found, confidence=0.2, batch_size=2) for one in some]
    told = [told[at] for at in (3, 0, 1, 4, 5, 2)]  # those in which nothing is classified came first
    assert [one.path for one in told] == [one.thing.name for one in found]
    assert [[look.seen is not None for look in one.looks] for one in told] == [
        [True, True, False],
        [False],
        [],
        [True],
        [],
        [],
    ]
    assert "does not exist" in told[4].skipped
    assert told[5].skipped == f"{first.name} was not searched by the detector: it failed"


@pytest.mark.parametrize("batch_size", [1, 3, 32])
def test_batches_change_no_answer(pictures: Path, trained: Run, batch_size: int) -> None:
    predictor = Predictor.load(trained.bundle)
    things = [Thing(str(path), path) for path in sorted(pictures.rglob("*.png"))[:8]]
    told = [one for some in answers(predictor, map(Picture, things), batch_size=batch_size) for one in some]
    assert [one.path for one in told] == [thing.name for thing in things]
    logits = np.stack([one.looks[0].seen.logits for one in told if one.looks[0].seen])
    np.testing.assert_allclose(logits, predictor.outputs(things).logits, atol=1e-4)


def test_pictures_without_animals_are_answered_at_once() -> None:
    """However many there are, before anything is looked at, and in pieces."""
    seen: list[int] = []
    predictor: Any = SimpleNamespace(engine=lambda images: seen.append(len(images)))
    empty = [Picture(Thing(f"{number}.jpg", Path(f"{number}.jpg")), Detected("", ())) for number in range(1000)]
    pieces = list(answers(predictor, empty))
    assert [len(piece) for piece in pieces] == [256, 256, 256, 232]
    assert [one.path for piece in pieces for one in piece] == [f"{number}.jpg" for number in range(1000)]
    assert seen == []
