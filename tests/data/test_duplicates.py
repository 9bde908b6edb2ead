"""`near_duplicates`: finds what was re-encoded, resized or mirrored; leaves what only looks alike."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from fieldmark.data import duplicates
from fieldmark.data.decode import decode
from fieldmark.data.duplicates import SIDE, Fingerprints, are_flat, clusters, fingerprint, near_duplicates

Pixels = NDArray[np.uint8]


def scene(seed: int, width: int = 200, height: int = 150, contrast: float = 50) -> Pixels:
    """Smooth random colours, as different from each other as photographs are."""
    noise = np.random.default_rng(seed).normal(size=(height, width, 3))
    smooth = gaussian_filter(noise, (height / 10, width / 10, 0.5))
    return (128 + contrast * smooth / smooth.std()).clip(0, 255).astype(np.uint8)


def jpeg(pixels: Pixels, quality: int = 60, scale: float = 1.0) -> Pixels:
    image = Image.fromarray(pixels)
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return decode(file.getvalue()).pixels


def prints(images: list[Pixels]) -> Fingerprints:
    found = [fingerprint(pixels.tobytes(), pixels) for pixels in images]
    return Fingerprints(np.array([digest for digest, _ in found]), np.array([thumbnail for _, thumbnail in found]))


def thumbs(thumbnails: NDArray[np.generic]) -> Fingerprints:
    """Fingerprints that agree in no digest."""
    return Fingerprints(np.arange(len(thumbnails), dtype=np.uint64), np.asarray(thumbnails, np.uint8))


SCENES = [scene(seed) for seed in range(120)]


def test_different_scenes_are_no_duplicates() -> None:
    assert near_duplicates(prints(SCENES)).shape == (0, 2)
    np.testing.assert_array_equal(clusters(prints(SCENES)), np.arange(len(SCENES)))


@pytest.mark.parametrize(("quality", "scale"), [(60, 1.0), (90, 0.5), (60, 0.5), (80, 0.77), (95, 2.0)])
def test_other_encodings_and_sizes_are_found(quality: int, scale: float) -> None:
    n = len(SCENES)
    found = near_duplicates(prints(SCENES + [jpeg(pixels, quality, scale) for pixels in SCENES]))
    np.testing.assert_array_equal(found, np.stack([np.arange(n), np.arange(n) + n], axis=1))


def test_equal_files_are_found_whatever_they_show() -> None:
    thumbnails = np.random.default_rng(0).integers(0, 256, (6, SIDE, SIDE, 3))
    digests = np.array([7, 8, 7, 9, 8, 7], np.uint64)
    np.testing.assert_array_equal(clusters(Fingerprints(digests, thumbnails.astype(np.uint8))), [0, 1, 0, 2, 1, 0])


def test_mirror_images_are_found_where_asked() -> None:
    images = [*SCENES[:30], SCENES[4][:, ::-1], jpeg(SCENES[9][:, ::-1])]
    assert len(near_duplicates(prints(images))) == 0
    np.testing.assert_array_equal(near_duplicates(prints(images), mirrored=True), [[4, 30], [9, 31]])


def test_a_symmetric_picture_is_no_duplicate_of_itself() -> None:
    symmetric = np.concatenate([SCENES[0], SCENES[0][:, ::-1]], axis=1)
    assert len(near_duplicates(prints([symmetric, *SCENES[1:9]]), mirrored=True)) == 0


def sky(seed: int) -> Pixels:
    """A gradient of some 30 grey levels and faint clouds."""
    generator = np.random.default_rng(seed)
    gradient = generator.uniform(10, 50) * np.linspace(0, 1, 150)[:, None, None]
    return (generator.normal((100, 140, 190), 8) + gradient + (scene(seed) - 128.0) / 12).clip(0, 255).astype(np.uint8)


def test_skies_do_not_collapse() -> None:
    skies = [sky(seed) for seed in range(100)]
    assert len(set(clusters(prints(skies)))) >= 99
    found = clusters(prints(skies + [jpeg(pixels) for pixels in skies]))
    assert np.mean(found[:100] == found[100:]) >= 0.99


def night(seed: int) -> Pixels:
    """Almost black: the noise of the sensor, and the faint light in the middle that all pictures of a camera have."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[-1:1:150j, -1:1:200j]
    light = 6 * np.exp(-(x**2) - y**2)[..., None]
    return (light + generator.normal(2, 3, (150, 200, 3))).clip(0, 255).astype(np.uint8)


def test_pictures_without_structure_are_copies_only_if_their_files_are_equal() -> None:
    grey = [np.full((150, 200, 3), level, np.uint8) for level in (0, 0, 1, 255)]
    nights = [night(seed) for seed in range(30)]
    assert are_flat(prints([*grey, *nights]).thumbnails).all()
    assert not are_flat(prints([*SCENES, *map(sky, range(100))]).thumbnails).any()
    found = near_duplicates(prints([*SCENES[:40], *nights, *map(jpeg, nights[:5]), nights[7], *grey]))
    np.testing.assert_array_equal(found, [[47, 75], [76, 77]])
    np.testing.assert_array_equal(near_duplicates(prints([*nights, nights[3]]), mirrored=True), [[3, 30]])


def test_a_bird_in_the_sky_makes_the_difference() -> None:
    images = []
    for x, y in ((40, 40), (120, 40), (80, 100), (150, 110)):
        image = Image.new("RGB", (200, 150), (120, 160, 220))
        ImageDraw.Draw(image).ellipse((x, y, x + 30, y + 18), fill=(40, 30, 30))
        images.append(np.array(image))
    assert len(near_duplicates(prints(images))) == 0
    assert len(near_duplicates(prints([*images, *map(jpeg, images)]))) == 4


def test_what_a_collection_has_in_common_is_no_likeness() -> None:
    """Specimens on a tray: a bright disc on black, and faint differences within."""
    y, x = np.mgrid[-1:1:150j, -1:1:200j]
    disc = 170.0 * (x**2 + y**2 < 0.9)[..., None]
    images = [
        (disc + (disc > 0) * (scene(seed, contrast=14) - 128.0)).clip(0, 255).astype(np.uint8) for seed in range(200)
    ]
    assert len(near_duplicates(prints(images))) == 0
    copies = [jpeg(pixels, 75) for pixels in images[:20]]
    np.testing.assert_array_equal(clusters(prints(images + copies))[200:], np.arange(20))


def test_pairs_connect_into_clusters() -> None:
    steps = [(SCENES[0] * (1 - t) + SCENES[1] * t).astype(np.uint8) for t in np.linspace(0, 0.3, 7)]
    found = clusters(prints([*SCENES[2:20], *steps]))
    assert len(set(found[18:])) == 1
    assert len(set(found)) == 19


@pytest.mark.parametrize("n", [0, 1])
def test_too_few_to_compare(n: int) -> None:
    few = thumbs(np.zeros((n, SIDE, SIDE, 3)))
    assert near_duplicates(few, mirrored=True).shape == (0, 2)
    np.testing.assert_array_equal(clusters(few), np.arange(n))


def brute_force(thumbnails: Pixels, mirrored: bool) -> set[tuple[int, int]]:
    """The definition, pair by pair."""
    template = thumbnails.sum(0, dtype=float) / (len(thumbnails) + 50)

    def vector(thumbnail: Pixels) -> NDArray[np.float64]:
        rest = thumbnail - template
        rest = rest - rest.mean((0, 1))
        return np.append(rest / (np.sqrt((rest**2).mean()) + 4) / np.sqrt(rest.size), thumbnail.mean((0, 1)) / 60)

    pairs = set()
    for i in range(len(thumbnails)):
        for j in range(len(thumbnails)):
            views = [thumbnails[i], thumbnails[i][:, ::-1]][: 1 + mirrored]
            if i != j and any(np.linalg.norm(vector(view) - vector(thumbnails[j])) <= 0.22 for view in views):
                pairs.add((min(i, j), max(i, j)))
    return pairs


@given(st.integers(0, 10**6), st.floats(1, 12), st.booleans())
@settings(max_examples=15, deadline=None)
def test_the_search_misses_nothing(seed: int, spread: float, mirrored: bool) -> None:
    """Against brute force, in collections where near and far shade into each other."""
    generator = np.random.default_rng(seed)
    bases = np.stack([decode_free(seed + k) for k in range(5)])
    copies = bases[generator.integers(0, 5, 25)] + generator.normal(0, spread, (25, SIDE, SIDE, 3))
    thumbnails = copies.clip(0, 255).astype(np.uint8)
    found = near_duplicates(thumbs(thumbnails), mirrored=mirrored)
    assert {tuple(pair) for pair in found.tolist()} == brute_force(thumbnails, mirrored)


def decode_free(seed: int) -> NDArray[np.float64]:
    return scene(seed, SIDE, SIDE).astype(float)


def test_the_order_of_images_does_not_matter() -> None:
    images = prints([*SCENES[:40], *map(jpeg, SCENES[:10])])
    order = np.random.default_rng(0).permutation(50)
    pairs = {frozenset(pair) for pair in near_duplicates(images).tolist()}
    shuffled = {frozenset(order[pair].tolist()) for pair in near_duplicates(images.select(order))}
    assert pairs == shuffled


def test_a_crowd_is_joined_without_comparing_all_with_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames of a camera that saw nothing: 3,000 of one scene, 4.5 million pairs."""
    generator = np.random.default_rng(0)
    empty = decode_free(0) + generator.normal(0, 0.5, (3000, SIDE, SIDE, 3))
    others = np.stack([decode_free(seed) for seed in range(1, 200)])
    compared = []
    whole = duplicates._distances
    monkeypatch.setattr(duplicates, "_distances", lambda *args: compared.append(len(args[0])) or whole(*args))
    found = clusters(thumbs(np.concatenate([empty, others]).clip(0, 255)))
    assert len(set(found[:3000])) == 1
    assert len(set(found)) == 200
    assert sum(compared) < 40 * 3199


def flowers() -> list[Path]:
    return sorted(Path(os.environ.get("FIELDMARK_DATA", "")).glob("flowers-102/jpg/*.jpg"))


@pytest.mark.slow
@pytest.mark.skipif("FIELDMARK_DATA" not in os.environ, reason="FIELDMARK_DATA does not name a folder of photographs")
def test_flowers() -> None:
    """Four pairs of Flowers-102 are the same file; all other pairs that are found were looked at: all true."""
    files = flowers()
    if not files:
        pytest.skip("no flowers-102/jpg in FIELDMARK_DATA")
    found = [fingerprint(file.read_bytes(), decode(file, short_side=336).pixels) for file in files]
    every = Fingerprints(np.array([digest for digest, _ in found]), np.array([thumbnail for _, thumbnail in found]))
    pairs = near_duplicates(every)
    same = every.digests[pairs[:, 0]] == every.digests[pairs[:, 1]]
    assert same.sum() == 4
    assert 10 <= (~same).sum() <= 20


@pytest.mark.skipif("FIELDMARK_DATA" not in os.environ, reason="FIELDMARK_DATA does not name a folder of photographs")
def test_recall_on_photographs() -> None:
    files = flowers()[::40]
    if not files:
        pytest.skip("no flowers-102/jpg in FIELDMARK_DATA")
    originals = [decode(file, short_side=336).pixels for file in files]
    for quality, scale in ((60, 1.0), (90, 0.5)):
        found = clusters(prints(originals + [jpeg(pixels, quality, scale) for pixels in originals]))
        assert np.mean(found[: len(files)] == found[len(files) :]) >= 0.99
