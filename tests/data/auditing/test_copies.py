"""`copies`: crops, mirror images and turned pictures are found; what only looks alike is left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from fieldmark.data.auditing.candidates import VIEWS, candidates
from fieldmark.data.auditing.copies import Copy, copies, joined
from fieldmark.data.decode import decode
from fieldmark.data.duplicates import SIDE, Fingerprints, clusters, fingerprint

Pixels = NDArray[np.uint8]


def scene(seed: int, contrast: float = 50, base: float | NDArray[np.float64] = 128) -> Pixels:
    """Random colours, coarse and fine, as different from each other as photographs are."""
    noise = np.random.default_rng(seed).normal(size=(2, 96, 128, 3))
    coarse, fine = gaussian_filter(noise[0], (10, 13, 0.5)), gaussian_filter(noise[1], (3, 3, 0.5))
    return (base + contrast * (coarse / coarse.std() + 0.4 * fine / fine.std())).clip(0, 255).astype(np.uint8)


def found(images: list[Pixels], look: Callable[[int], Pixels] | None = None) -> list[Copy]:
    """`look` gives the pixels of an image where its thumbnail does not decide."""
    prints = [fingerprint(pixels.tobytes(), pixels) for pixels in images]
    whole = Fingerprints(
        np.array([digest for digest, _ in prints], np.uint64),
        np.array([thumb for _, thumb in prints], np.uint8).reshape(-1, SIDE, SIDE, 3),
    )
    return copies(whole, look or images.__getitem__)


def cropped(pixels: Pixels, generator: np.random.Generator, most: float = 0.1) -> Pixels:
    """Each edge moved inwards by up to `most`, then resized."""
    height, width = pixels.shape[:2]
    left, right, top, bottom = generator.uniform(0, most, 4)
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    return np.asarray(Image.fromarray(pixels).resize((100, 80), Image.Resampling.BICUBIC, box=box))


SCENES = [scene(seed) for seed in range(150)]


@pytest.mark.parametrize("mirrored", [False, True])
def test_crops_are_found(mirrored: bool) -> None:
    generator = np.random.default_rng(0)
    crops = [cropped(pixels, generator) for pixels in SCENES]
    pairs = found([*SCENES, *(crop[:, ::-1] if mirrored else crop for crop in crops)])
    right = [pair for pair in pairs if pair.second == pair.first + len(SCENES)]
    assert len(right) >= 0.97 * len(SCENES)
    assert len(pairs) == len(right)
    assert {pair.how for pair in pairs} <= ({"mirrored"} if mirrored else {"cropped", "same picture"})


def test_how_pictures_are_copies_is_told() -> None:
    corner = SCENES[3][4:-4, 9:]
    images = [*SCENES[:40], SCENES[0], SCENES[1][:, ::-1], np.rot90(SCENES[2]), corner, SCENES[4][::-1, ::-1]]
    assert found(images) == [
        Copy(0, 40, "identical"),
        Copy(1, 41, "mirrored"),
        Copy(2, 42, "turned"),
        Copy(3, 43, "cropped"),
        Copy(4, 44, "upside down"),
    ]


def test_different_scenes_are_no_copies() -> None:
    assert found(SCENES) == []


def test_a_symmetric_picture_is_no_copy_of_itself() -> None:
    symmetric = np.concatenate([SCENES[0], SCENES[0][:, ::-1]], axis=1)
    assert found([symmetric, *SCENES[1:20]]) == []


def test_a_smaller_part_is_not_claimed() -> None:
    halves = [pixels[:48, :64] for pixels in SCENES[:40]]
    assert found([*SCENES[:40], *halves]) == []


def test_another_thing_before_the_same_background_is_no_copy() -> None:
    """A camera that does not move, and a bird that is somewhere else in each frame."""
    generator = np.random.default_rng(1)
    frames = []
    for _ in range(60):
        frame = SCENES[0].copy()
        y, x = generator.integers(0, 60), generator.integers(0, 90)
        frame[y : y + 36, x : x + 36] = scene(int(generator.integers(1000, 9999)))[:36, :36]
        frames.append(frame)
    prints = [fingerprint(frame.tobytes(), frame)[1] for frame in frames]
    plain = clusters(Fingerprints(np.arange(60, dtype=np.uint64), np.array(prints)))
    assert len(set(joined(found(frames), 60))) >= len(set(plain)) - 3


def test_what_a_collection_has_in_common_is_no_likeness() -> None:
    y, x = np.mgrid[-1:1:96j, -1:1:128j]
    disc = (x**2 + y**2 < 0.9)[..., None]
    tray = [(disc * scene(seed, contrast=14, base=170)).astype(np.uint8) for seed in range(150)]
    assert found(tray) == []


def test_a_crowd_is_represented_by_one() -> None:
    generator = np.random.default_rng(0)
    empty = [(SCENES[0] + generator.normal(0, 2, SCENES[0].shape)).clip(0, 255).astype(np.uint8) for _ in range(300)]
    looked_at: list[int] = []
    images = [*empty, *SCENES[1:30], SCENES[0][5:, :-6, :][:, ::-1]]

    def look(row: int) -> Pixels:
        looked_at.append(row)
        return images[row]

    assert len(set(joined(found(images, look), len(images)))) == 30
    assert len(looked_at) < 60


def test_pairs_that_others_join_are_not_looked_at() -> None:
    """Frames that come nearer: each shows what the one before shows, so that a few pairs join them all."""
    frames = [np.asarray(Image.fromarray(SCENES[0][k : 96 - k, k : 128 - k]).resize((100, 80))) for k in range(9)]
    pairs = found([*frames, *SCENES[1:30]])
    assert len(set(joined(pairs, 38))) == 30
    prints = np.array([fingerprint(b"", pixels)[1] for pixels in frames])
    between = [pair for pair in pairs if pair.how == "cropped"]
    assert len(between) <= len(set(clusters(Fingerprints(np.arange(9, dtype=np.uint64), prints)))) - 1


def test_pictures_without_structure_are_no_copies() -> None:
    generator = np.random.default_rng(0)
    nights = [generator.normal(3, 2, (96, 128, 3)).clip(0, 255).astype(np.uint8) for _ in range(20)]
    assert found([*nights, *SCENES[:5], nights[4]]) == [Copy(4, 25, "identical")]


@pytest.mark.parametrize("number", [0, 1, 2, 5])
def test_few_pictures(number: int) -> None:
    assert found(SCENES[:number]) == []
    thumbnails = np.array([fingerprint(b"", pixels)[1] for pixels in SCENES[:number]])
    proposed = candidates(thumbnails.reshape(-1, SIDE, SIDE, 3))
    assert (proposed.first != proposed.second).all()
    assert proposed.edges.shape == (len(proposed.first), 4)


def test_views_are_symmetries() -> None:
    picture = SCENES[0]
    for name, times in (("mirrored", 2), ("turned", 4), ("upside down", 2)):
        seen = picture
        for step in range(times):
            assert step == 0 or seen.shape != picture.shape or (seen != picture).any()
            seen = VIEWS[name](seen)
        np.testing.assert_array_equal(seen, picture)


def test_recall_on_photographs(cub: Path) -> None:
    files = sorted(cub.glob("images/*/*.jpg"))[::12]
    originals = [decode(file, short_side=64).pixels for file in files]
    generator = np.random.default_rng(0)
    crops = [cropped(decode(file, short_side=160).pixels, generator) for file in files]
    n = len(files)
    numbers = joined(found([*originals, *crops]), 2 * n)
    assert np.mean(numbers[:n] == numbers[n:]) >= 0.95
    assert len(set(numbers)) >= n - 2
