"""What is cut out for a box: a square that shows the box and a little around it, in the picture wherever possible."""

from __future__ import annotations

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from fieldmark.answering import things
from fieldmark.answering.answers import Picture, answers
from fieldmark.answering.boxes import Boxed, window
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Thing
from fieldmark.data import decode as decoding
from fieldmark.data.decode import decode
from fieldmark.data.detections import Box, Detected, Detection
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
        # a side is moved to whole pixels by less than one, and then rounded by half a pixel at most
        assert left <= box[0] * width + 1
        assert right >= (box[0] + box[2]) * width - 1.5
        assert top <= box[1] * height + 1
        assert bottom >= (box[1] + box[3]) * height - 1.5


def test_the_view_of_a_box_is_that_of_its_crop(trained: Run, tmp_path: Path) -> None:
    predictor, rng = Predictor.load(trained.bundle), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (90, 120, 3), np.uint8)
    Image.fromarray(pixels).save(path := tmp_path / "a.png")
    box = 30 / 120, 20 / 90, 30 / 120, 20 / 90
    images = predictor.bundle.images
    left, top, right, bottom = window(120, 90, box, crop=1.0 if images.whole else images.crop)
    shown = Boxed(Thing("a", path)).see(predictor, box)
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
    views = [Boxed(Thing("a", path)).see(predictor, box).view.astype(int) for path in (plain, turned)]
    assert np.abs(views[0] - views[1]).mean() < 2
    assert views[0][0].min() > 200  # red and white
    middle = views[0].shape[1] // 2
    assert views[0][1][middle, middle] < 10


BOXES = [(0.1 * n, 0.3, 0.04 * n, 0.04 * n) for n in range(1, 7)] + [(0.0, 0.0, 1.0, 1.0), (0.5, 0.5, 0.001, 0.001)]


def alone(predictor: Predictor, path: Path, box: Box) -> NDArray[np.uint8]:
    """The view of a box in a picture that is decoded for it alone."""
    images = predictor.bundle.images
    crop, width, height = 1.0 if images.whole else images.crop, *decode(path).size
    left, top, right, bottom = window(width, height, box, crop=crop)
    shrinking = round(1.5 * images.size) / min(right - left, bottom - top)
    pixels = decode(path, short_side=math.ceil(min(width, height) * shrinking) if shrinking < 1 else None).pixels
    left, top, right, bottom = window(pixels.shape[1], pixels.shape[0], box, crop=crop)
    return predictor.view(np.ascontiguousarray(pixels[top:bottom, left:right]))


def written(folder: Path, name: str) -> Path:
    """A photograph of 1600 × 1200 pixels in some form."""
    rng, exif, more = np.random.default_rng(0), Image.Exif(), dict[str, Any]()
    picture = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).resize((1600, 1200))
    if "turned" in name:
        exif[0x0112] = 6
    if "progressive" in name:
        more = {"progressive": True}
    if "transparent" in name:
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    if "deep" in name:
        picture = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 16)
    picture.save(folder / name, exif=exif, **more)
    return folder / name


PICTURES = ["plain.jpg", "turned.jpg", "progressive.jpg", "turned.png", "transparent.png", "deep.png", "turned.tif"]


@pytest.mark.parametrize("name", PICTURES)
def test_a_box_shows_the_same_whatever_other_boxes_there_are(trained: Run, tmp_path: Path, name: str) -> None:
    predictor, path = Predictor.load(trained.bundle), written(tmp_path, name)
    boxed, views = Boxed(Thing("a", path), 2 * len(BOXES)), {box: alone(predictor, path, box) for box in BOXES}
    for box in (*BOXES, *reversed(BOXES)):
        shown = boxed.see(predictor, box)
        np.testing.assert_array_equal(shown.view, views[box])
        assert shown.size == ((1200, 1600) if "turned" in name else (1600, 1200))


def picture_of(path: Path, boxes: Sequence[Box]) -> Picture:
    return Picture(Thing(str(path), path), Detected(path.name, tuple(Detection("animal", 0.9, box) for box in boxes)))


@pytest.mark.parametrize(("name", "most"), [("turned.png", 1), ("plain.jpg", 4)])  # a JPEG has four scales
@pytest.mark.parametrize("batch_size", [3, 32])
def test_a_picture_is_decoded_once_for_all_its_boxes(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, most: int, batch_size: int
) -> None:
    predictor, path = Predictor.load(trained.bundle), written(tmp_path, name)
    done: list[str] = []
    for what in ("read_bytes", "_loaded"):
        real = getattr(decoding, what)
        monkeypatch.setattr(decoding, what, lambda *given, what=what, real=real: done.append(what) or real(*given))
    small = [(0.05 * n, 0.2, 0.02, 0.02) for n in range(10)]
    for boxes, bound in ((small, 1), (BOXES, most)):
        done.clear()
        told = [one for some in answers(predictor, [picture_of(path, boxes)], batch_size=batch_size) for one in some]
        assert [len([look for look in one.looks if look.seen]) for one in told] == [len(boxes)]
        assert done.count("read_bytes") == 1
        assert 1 <= done.count("_loaded") <= bound


@pytest.mark.parametrize("batch_size", [1, 3, 7])
def test_few_pictures_are_in_memory_at_the_same_time(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch_size: int
) -> None:
    """One for each thread, and one whose boxes are not all asked for yet."""
    predictor = Predictor.load(trained.bundle)
    paths = [Path(shutil.copy(written(tmp_path, "plain.jpg"), tmp_path / f"{number}.jpg")) for number in range(12)]
    made: list[Boxed] = []
    held: list[int] = []

    def boxed(thing: Thing, boxes: int) -> Boxed:
        made.append(one := Boxed(thing, boxes))
        return one

    def decoded(*given: Any, **more: Any) -> decoding.Decoded:
        found = real(*given, **more)
        held.append(sum(bool(one._kept and one._kept.data) for one in made))
        return found

    real = things.decode
    monkeypatch.setattr(things, "decode", decoded)
    monkeypatch.setattr("fieldmark.answering.answers.Boxed", boxed)
    monkeypatch.setattr("fieldmark.answering.answers.num_decoders", lambda: 3)
    told = list(answers(predictor, [picture_of(path, BOXES[:4]) for path in paths], batch_size=batch_size))
    assert [one.path for some in told for one in some] == [str(path) for path in paths]
    assert len(held) >= len(paths)
    assert max(held) <= 4
    assert not any(one._kept or one._last for one in made)


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
