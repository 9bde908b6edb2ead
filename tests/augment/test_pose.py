"""Poses and pictures that are changed by them: least squares, folds, and dots that are drawn and found again."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RBFInterpolator

from fieldmark.augment import warp as warp_module
from fieldmark.augment.align import aligned
from fieldmark.augment.image import ImageAugment, mirror_permutation
from fieldmark.augment.mesh import Mesh
from fieldmark.augment.pose import PoseChanges
from fieldmark.augment.similarity import fit, mean_pose, mirrored, pose_of
from fieldmark.augment.swap import fitting_donors, mirror_image, swapped
from fieldmark.augment.views import RandomViews
from fieldmark.augment.warp import thin_plate_mesh, warped
from fieldmark.core.recipe import Augment
from fieldmark.data.catalog import Catalog
from fieldmark.data.decode import Decoded
from fieldmark.data.loader import Marked, Samples, Schedule, training_batches

SEEDS = st.integers(0, 2**32)
STRAIGHT = np.arange(3)
"""No point has a partner on the other side."""
NAMES = ("beak", "left eye", "right eye", "tail", "left foot")
MIRROR = mirror_permutation(NAMES)
BIRD = np.array([-0.3 - 0.1j, -0.22 - 0.16j, -0.2 - 0.15j, 0.35 + 0.1j, 0.05 + 0.25j])
"""It looks to the left; five points around the middle of a picture of unit size."""


def dotted(points: np.ndarray, size: tuple[int, int] = (120, 100), light: int = 255) -> Marked:
    """Three key points, the first a red dot on black, then a green one, then a blue one."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    dots = [light * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 4.5) for px, py in points]
    marks = np.column_stack([points, np.ones(3)]).astype(np.float32)
    return Marked(np.stack(dots, axis=-1).round().astype(np.uint8), None, marks)


def assert_dots_where_points_are(picture: Marked, tolerance: float = 0.5) -> int:
    """Each visible point lies on its dot; returns how many are far enough from the edge to be looked at."""
    assert picture.keypoints is not None
    height, width = picture.pixels.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    looked = 0
    for channel, (px, py, visible) in enumerate(picture.keypoints.tolist()):
        if not visible or not (8 < px < width - 8 and 8 < py < height - 8):
            continue
        light = picture.pixels[..., channel] * ((x - px) ** 2 + (y - py) ** 2 < 64).astype(float)
        assert light.max() > 60
        found = (x * light).sum() / light.sum(), (y * light).sum() / light.sum()
        assert found == pytest.approx((px, py), abs=tolerance)
        looked += 1
    return looked


def triangle(rng: np.random.Generator, size: tuple[int, int] = (120, 100)) -> np.ndarray:
    """Three points, none on an edge and none on another."""
    while True:
        points = rng.uniform(0.12, 0.88, (3, 2)) * size
        if min(np.linalg.norm(points - np.roll(points, 1, axis=0), axis=1)) > 18:
            return points


def umeyama(points: np.ndarray, target: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(2, 2) scale × rotation and (2,) shift by singular vectors, as the paper has it."""
    share = weights / weights.sum()
    p_mean, q_mean = share @ points, share @ target
    p, q = points - p_mean, target - q_mean
    u, d, v = np.linalg.svd((share[:, None] * q).T @ p)
    signs = np.array([1.0, np.sign(np.linalg.det(u @ v))])
    matrix = (u * signs) @ v * (d @ signs) / (share @ (p**2).sum(1))
    return matrix, q_mean - matrix @ p_mean


class TestSimilarity:
    @settings(max_examples=50, deadline=None)
    @given(seed=SEEDS, count=st.integers(3, 12))
    def test_is_umeyamas(self, seed: int, count: int) -> None:
        rng = np.random.default_rng(seed)
        points, target = rng.normal(size=(2, count, 2)) * 40 + 7
        weights = rng.uniform(0.1, 2, count)
        matrix, shift = umeyama(points, target, weights)
        got = fit(points @ [1, 1j], target @ [1, 1j], weights)
        turn = complex(got.turn)
        np.testing.assert_allclose([[turn.real, -turn.imag], [turn.imag, turn.real]], matrix, atol=1e-9)
        np.testing.assert_allclose([complex(got.shift).real, complex(got.shift).imag], shift, atol=1e-7)
        rest = points @ matrix.T + shift - target
        size = target - weights @ target / weights.sum()
        expected = np.sqrt((weights @ (rest**2).sum(1)) / (weights @ (size**2).sum(1)))
        assert float(got.distance) == pytest.approx(expected)

    def test_points_seen_in_one_only_count_nothing(self) -> None:
        here, there = np.append(BIRD, [np.nan, 9.0]), np.append(2j * BIRD + 3, [5.0, np.nan])
        got = fit(here, there)
        assert complex(got.turn) == pytest.approx(2j)
        assert complex(got.shift) == pytest.approx(3)
        assert float(got.distance) == pytest.approx(0, abs=1e-9)

    @pytest.mark.parametrize("pose", [[1, 2, np.nan], [5, 5, 5], [np.nan] * 3])
    def test_what_cannot_be_laid_over_is_infinitely_far(self, pose: list[float]) -> None:
        assert fit(np.array(pose, complex), np.array([0, 1, 1j])).distance == np.inf

    def test_what_cannot_be_seen(self) -> None:
        nan = np.nan
        points = np.array([[3, 4, 1], [3, 4, 0], [nan, nan, 1], [-1, 4, 1], [10, 4, 1], [3, 8, 1], [0, 0, 1]])
        pose = pose_of(points, (10, 8))
        assert pose[[0, 6]].tolist() == [3 + 4j, 0]
        assert np.isnan(pose[1:6]).all()

    @settings(max_examples=20, deadline=None)
    @given(seed=SEEDS)
    def test_the_mean_is_what_poses_were_made_from(self, seed: int) -> None:
        """Of any size and place, turned, mirrored, with points hidden: the same pose, upright, of the median's size."""
        rng = np.random.default_rng(seed)
        count = 41
        sizes = np.stack([rng.integers(200, 400, count), rng.integers(200, 400, count)], axis=1)
        sides = np.sqrt(sizes.prod(1))
        scale = np.exp(rng.permutation(np.linspace(-0.7, 0.7, count)))  # of median 1
        angle = np.concatenate([a := rng.uniform(0, 0.5, count // 2), -a, [0.0]])
        away = rng.permutation(count)
        turned = np.exp(1j * angle[away])[:, None] * BIRD
        looks_right = rng.random(count) < 0.5
        looks_right[0] = False
        poses = np.where(looks_right[:, None], mirrored(turned, MIRROR), turned) * (scale * sides)[:, None]
        poses += (sizes / 2 @ np.array([1, 1j]))[:, None]
        hidden = rng.random(poses.shape) < 0.15
        hidden[:, :3] &= ~(hidden[:, 3:].any(1))[:, None]
        hidden[0] = False
        poses[hidden] = np.nan
        mean = mean_pose(poses, sizes, MIRROR)
        assert mean is not None
        way = min((mean, mirrored(mean, MIRROR)), key=lambda one: abs(one - BIRD).max())
        np.testing.assert_allclose(way, BIRD, atol=0.03)
        assert float(fit(way, BIRD).distance) < 1e-4

    def test_no_pose_no_mean(self) -> None:
        assert mean_pose(np.array([[1, 2, np.nan]], complex), np.array([[9, 9]]), STRAIGHT) is None


class TestMesh:
    @settings(max_examples=30, deadline=None)
    @given(seed=SEEDS, roughness=st.floats(0.0, 9.0))
    def test_gentle_means_everywhere(self, seed: int, roughness: float) -> None:
        """Against the singular values of finite differences at places inside the cells."""
        mesh = random_mesh(seed, roughness)
        s, t = np.meshgrid(np.linspace(0, 1, 9), np.linspace(0, 1, 9))
        h = 1e-4
        worst = []
        for row, column in np.ndindex(3, 4):
            corners = mesh.sources[row : row + 2, column : column + 2]

            def at(s: np.ndarray, t: np.ndarray, corners: np.ndarray = corners) -> np.ndarray:
                s, t = s[..., None], t[..., None]
                upper = (1 - s) * corners[0, 0] + s * corners[0, 1]
                return (1 - t) * upper + t * ((1 - s) * corners[1, 0] + s * corners[1, 1])

            jacobian = np.stack([(at(s + h, t) - at(s, t)) / h / 20, (at(s, t + h) - at(s, t)) / h / 20], axis=-1)
            values = np.linalg.svd(jacobian, compute_uv=False)
            worst.append((np.linalg.det(jacobian).min(), values.max(), values.min()))
        folds, longest, shortest = np.array(worst).T
        expected = folds.min() > 0 and longest.max() <= 1.5 and shortest.min() >= 1 / 1.5
        near = min(abs(longest.max() - 1.5), abs(shortest.min() - 1 / 1.5), abs(folds.min())) < 0.02
        assert near or mesh.gentle(1.5) == expected

    @settings(max_examples=30, deadline=None)
    @given(seed=SEEDS)
    def test_points_go_where_the_pixels_go(self, seed: int) -> None:
        mesh = random_mesh(seed, 3.0)
        if not mesh.gentle(3):
            return
        pixels = np.zeros((60, 80, 3), np.uint8)
        row, column = np.random.default_rng(seed).integers(0, (60, 80))
        place = mesh._places()[:, row, column]
        moved = mesh.move(np.array([[*place, 1.0], [*place, 0.0], [-1, 5, 1]], np.float32), pixels)
        assert moved is not None
        inside = (place >= 0).all() and (place < (80, 60)).all()
        assert moved[0].tolist() == pytest.approx([column + 0.5, row + 0.5, 1] if inside else [0, 0, 0], abs=1e-3)
        assert not moved[1:].any()

    def test_boxes_move_with_pixels(self) -> None:
        corners = np.array([[[10.0, 20.0], [50.0, 20.0]], [[10.0, 50.0], [50.0, 50.0]]])  # a part, twice as large
        picture = Marked(np.zeros((60, 80, 3), np.uint8), np.array([20, 30, 10, 40], np.float32), None)
        bent = Mesh(corners, (80, 60)).bend(picture)
        assert bent.keypoints is None
        assert bent.box is not None
        assert bent.box.tolist() == [20, 20, 20, 40]
        away = picture._replace(box=np.array([60, 5, 10, 10], np.float32))
        assert np.isnan(Mesh(corners, (80, 60)).bend(away).box).all()

    def test_standing_still_changes_nothing(self) -> None:
        corners = np.array([[[0.0, 0.0], [80.0, 0.0]], [[0.0, 60.0], [80.0, 60.0]]])
        pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
        assert np.array_equal(Mesh(corners, (80, 60)).bend(Marked(pixels, None, None)).pixels, pixels)


def random_mesh(seed: int, roughness: float) -> Mesh:
    """3 × 4 cells of 20 pixels."""
    x, y = np.meshgrid(np.linspace(0, 80, 5), np.linspace(0, 60, 4))
    return Mesh(np.stack([x, y], -1) + np.random.default_rng(seed).normal(size=(4, 5, 2)) * roughness, (80, 60))


class TestWarp:
    def test_the_spline_is_the_known_one(self) -> None:
        rng = np.random.default_rng(0)
        controls, values, places = rng.random((12, 2)), rng.random((12, 2)), rng.random((40, 2))
        known = RBFInterpolator(controls, values, smoothing=1e-3, kernel="thin_plate_spline", degree=1)
        np.testing.assert_allclose(warp_module._spline(controls, values, places), known(places), atol=1e-8)

    @settings(max_examples=60, deadline=None)
    @given(seed=SEEDS, count=st.integers(3, 15), far=st.floats(0, 1))
    def test_never_folds(self, seed: int, count: int, far: float) -> None:
        """Whatever is asked for, crossing points and points outside among it."""
        rng = np.random.default_rng(seed)
        sources = rng.random((count, 2)) * (300, 200)
        targets = (1 - far) * sources + far * rng.uniform(-0.2, 1.2, (count, 2)) * (300, 200)
        mesh = thin_plate_mesh(sources, targets, (300, 200))
        assert mesh is None or mesh.gentle(2.0)

    def test_what_would_fold_is_shrunk(self) -> None:
        sources = np.array([[100.0, 100.0], [140.0, 100.0], [120.0, 160.0]])
        swap = sources[[1, 0, 2]]
        mesh = thin_plate_mesh(sources, swap, (240, 240))
        assert mesh is not None
        moved = mesh.move(np.column_stack([sources, np.ones(3)]).astype(np.float32), np.zeros((240, 240, 3), np.uint8))
        assert moved is not None
        assert 101 < moved[0, 0] < moved[1, 0] < 139  # towards one another, not past

    @settings(max_examples=30, deadline=None)
    @given(seed=SEEDS)
    def test_dots_are_found_where_the_points_are(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        points = triangle(rng)
        donor = (points + rng.normal(size=(3, 2)) * 5) @ [1, 1j]
        bent = warped(dotted(points), donor * 2 * np.exp(1j) + 9, STRAIGHT)
        assert_dots_where_points_are(bent, 0.8)  # dots are bent, too

    def test_a_small_change_of_pose_is_reached(self) -> None:
        points = np.array([[40.0, 60.0], [80.0, 50.0], [60.0, 80.0]])
        donor = points @ [1, 1j] + [3.0, -3.0, -3.0j]
        bent = warped(dotted(points), donor, STRAIGHT)
        assert bent.keypoints is not None
        before = float(fit(points @ [1, 1j], donor).distance)
        assert float(fit(bent.keypoints[:, :2] @ [1, 1j], donor).distance) < before / 3

    def test_without_common_points_it_stays(self) -> None:
        picture = dotted(triangle(np.random.default_rng(0)))
        assert warped(picture, np.array([1, 2j, np.nan]), STRAIGHT) is picture
        assert warped(picture._replace(keypoints=None), np.array([1, 2j, 3]), STRAIGHT).keypoints is None


class TestAlign:
    @settings(max_examples=40, deadline=None)
    @given(seed=SEEDS)
    def test_dots_are_found_where_the_points_are(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        canonical = (triangle(rng) / 120 - 0.45) @ np.array([1, 1j])
        assert_dots_where_points_are(aligned(dotted(triangle(rng)), canonical, STRAIGHT, rng))

    def test_the_pose_is_the_average_one_give_or_take(self) -> None:
        """Whichever way it looks, however large it is; nothing is mirrored."""
        size = (200, 200)
        for facing in (BIRD, mirrored(BIRD, MIRROR)):
            for seed in range(8):
                rng = np.random.default_rng(seed)
                pose = 130 * np.exp(1j * rng.uniform(-0.6, 0.6)) * facing + 100 + 100j
                points = np.column_stack([pose.real, pose.imag, np.ones(5)]).astype(np.float32)
                found = aligned(Marked(np.zeros((*size, 3), np.uint8), None, points), BIRD, MIRROR, rng).keypoints
                assert found is not None
                laid = fit(facing * 200 + 100 + 100j, found[:, :2] @ [1, 1j])
                assert float(laid.distance) < 1e-3
                assert abs(laid.turn) == pytest.approx(1, abs=1e-3)
                assert abs(np.angle(laid.turn)) < np.radians(15.1)
                middle = complex(*(found[:, :2] - 100).mean(0))
                assert abs(middle - 200 * facing.mean()) < 25

    @pytest.mark.parametrize("pose", [100 * BIRD * 1j, 100 * np.where(np.arange(5) < 2, BIRD, np.nan)])
    def test_what_stands_otherwise_stays(self, pose: np.ndarray) -> None:
        seen = ~np.isnan(pose)
        points = np.column_stack([pose.real + 60, pose.imag + 60, seen]).astype(np.float32)
        picture = Marked(np.zeros((120, 120, 3), np.uint8), None, points)
        assert aligned(picture, BIRD, MIRROR, np.random.default_rng(0)) is picture


class TestSwap:
    @settings(max_examples=40, deadline=None)
    @given(seed=SEEDS)
    def test_dots_are_found_where_the_points_are(self, seed: int) -> None:
        """The picture's dots and the donor's, whichever is seen."""
        rng = np.random.default_rng(seed)
        points = triangle(rng)
        other = points + rng.normal(size=(3, 2)) * 2
        picture = dotted(points)
        mixed = swapped(picture, dotted(other * 1.4, (170, 150)), rng)
        assert mixed.keypoints is not None
        for channel, (x, y, visible) in enumerate(mixed.keypoints.tolist()):
            if visible:
                assert mixed.pixels[int(y), int(x), channel] > 110
        moved = (mixed.keypoints != picture.keypoints).any(1) & (mixed.keypoints[:, 2] > 0)
        near = [abs(p - q).max() for p, q in zip(mixed.keypoints[moved, :2], points[moved], strict=True)]
        assert max(near, default=0) < 20

    def test_a_part_is_exchanged_and_the_rest_is_not(self) -> None:
        points = np.array([[30.0, 50.0], [60.0, 30.0], [90.0, 70.0]])
        light, dark = (Marked(np.full((100, 120, 3), v, np.uint8), None, dotted(points).keypoints) for v in (200, 50))
        mixed = swapped(light, dark, np.random.default_rng(1)).pixels[..., 0]
        assert mixed.min() == 50
        assert mixed.max() == 200
        assert (mixed == 200).mean() > 0.5
        assert abs(np.diff(mixed.astype(int), axis=0)).max() < 60  # a soft edge

    def test_points_that_the_donor_does_not_show_are_gone(self) -> None:
        points = np.array([[50.0, 50.0], [70.0, 50.0], [60.0, 65.0], [52.0, 51.0]])
        marks = np.column_stack([points, np.ones(4)]).astype(np.float32)
        hidden = marks.copy()
        hidden[3] = (np.nan, np.nan, 0)
        plain = np.zeros((100, 120, 3), np.uint8)
        found = [
            swapped(Marked(plain, None, marks), Marked(plain, None, hidden), np.random.default_rng(s)).keypoints
            for s in range(30)
        ]
        seen = [bool(points[3, 2]) for points in found if points is not None]
        assert 0 < sum(seen) < 30

    def test_donors_are_near_and_mirrored_only_if_they_may(self) -> None:
        strange = BIRD.real + 1j * BIRD.imag[::-1]
        others = np.stack([3 * BIRD + 9, mirrored(BIRD, MIRROR), 1j * BIRD, strange, BIRD * np.nan])
        fits, ways = fitting_donors(BIRD, others, MIRROR, flip=True)
        assert fits.tolist() == [True, True, False, False, False]
        assert ways[:2].tolist() == [False, True]
        fits, ways = fitting_donors(BIRD, others, MIRROR, flip=False)
        assert not fits[1:3].any()
        assert not ways.any()

    def test_a_mirror_image_exchanges_left_and_right(self) -> None:
        picture = dotted(np.array([[10.0, 20.0], [40.0, 30.0], [70.0, 60.0]]))._replace(box=np.array([10, 5, 30, 20]))
        mirror = mirror_permutation(["beak", "left eye", "right eye"])
        image = mirror_image(picture, mirror)
        assert image.keypoints is not None
        assert image.keypoints.tolist() == [[110, 20, 1], [50, 60, 1], [80, 30, 1]]
        assert image.box is not None
        assert image.box.tolist() == [80, 5, 30, 20]
        assert image.pixels[20, 109, 0] == picture.pixels[20, 10, 0] == picture.pixels[..., 0].max()
        back = mirror_image(image, mirror)
        assert np.array_equal(back.pixels, picture.pixels)
        assert np.array_equal(back.keypoints, picture.keypoints)


def birds(count: int = 12) -> tuple[Catalog, list[Decoded]]:
    """Pictures of noise with a bird's five points: three classes, of which the last has one image."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 2
    labels[-1] = 2
    pose = rng.uniform(60, 90, count)[:, None] * (BIRD + rng.normal(size=(count, 5)) * 0.02) + 50 + 40j
    points = np.stack([pose.real, pose.imag, np.ones(pose.shape)], axis=-1).astype(np.float32)
    points[0, 1] = np.nan, np.nan, 0
    points[1, 3, 0] = 500  # outside the picture
    points[2, :3] = np.nan
    catalog = Catalog(
        name="birds",
        root=Path("/"),
        paths=tuple(f"{i}.png" for i in range(count)),
        labels=labels,
        classes=("a", "b", "c"),
        splits=np.full(count, "train"),
        groups=np.full(count, ""),
        keypoint_names=NAMES,
        keypoints=points,
    )
    pictures = [Decoded(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8), (100, 80)) for _ in range(count)]
    return catalog, pictures


def bound(catalog: Catalog, size: tuple[int, int] = (100, 80), **options: float) -> PoseChanges:
    sizes = np.tile(size, (len(catalog), 1))
    return PoseChanges.bind(Augment(**options), catalog, sizes, np.arange(len(catalog)), flip=True)


class TestPoseChanges:
    def test_donors_are_training_images_of_the_class_with_points_in_common(self) -> None:
        catalog, _ = birds()
        sizes, rows = np.tile([100, 80], (12, 1)), np.array([0, 1, 2, 3, 4, 5, 6, 11])
        changes = PoseChanges.bind(Augment(swap=1.0), catalog, sizes, rows, flip=True)
        assert changes.donors(0).tolist() == [4, 6]  # 2 shows two points, 8 and 10 are not learnt from
        assert changes.donors(8).tolist() == [0, 4, 6]
        assert changes.alone().tolist() == [2, 11]
        assert changes.unposed().tolist() == [2]

    def test_nothing_asked_nothing_done(self) -> None:
        catalog, pictures = birds()
        samples = Samples(catalog, pictures, RandomViews(48, ImageAugment()), 0)
        picture = samples.marked(3)
        assert bound(catalog)(picture, 3, 7, samples.marked) is picture
        changed = Samples(catalog, pictures, RandomViews(48, ImageAugment()), 0, changes=[bound(catalog)])
        assert all(torch.equal(samples[0, row][0], changed[0, row][0]) for row in range(12))

    def test_a_class_of_one_keeps_its_picture(self) -> None:
        catalog, pictures = birds()
        samples = Samples(catalog, pictures, RandomViews(48, ImageAugment()), 0)
        picture = samples.marked(11)
        assert bound(catalog, warp=1.0, swap=1.0)(picture, 11, 7, samples.marked) is picture

    @pytest.mark.parametrize("name", ["align", "warp", "swap"])
    def test_each_changes_most_pictures(self, name: str) -> None:
        catalog, pictures = birds()
        samples = Samples(catalog, pictures, RandomViews(48, ImageAugment()), 0)
        changes = bound(catalog, **{name: 1.0})
        same = [changes(p := samples.marked(row), row, 5, samples.marked) is p for row in range(12)]
        assert sum(same) <= 4
        some = [bound(catalog, **{name: 0.5})(p := samples.marked(4), 4, s, samples.marked) is p for s in range(20)]
        assert 2 < sum(some) < 18

    def test_workers_change_nothing(self) -> None:
        catalog, pictures = birds()
        changes = bound(catalog, align=0.5, warp=0.5, swap=0.5)
        samples = Samples(
            catalog, pictures, RandomViews(48, ImageAugment(), MIRROR), 3, changes=[c for c in [changes] if c]
        )
        schedule = Schedule(np.arange(12), batch_size=4, epochs=2, seed=3)
        alone = list(training_batches(samples, schedule))
        shared = list(islice(training_batches(samples, schedule, workers=2), 6))
        assert all(torch.equal(a.images, b.images) for a, b in zip(alone, shared, strict=True))
        for a, b in zip(alone, shared, strict=True):
            assert a.keypoints is not None
            assert b.keypoints is not None
            assert torch.equal(a.keypoints, b.keypoints)
        assert not torch.equal(samples[0, 4][0], samples[1, 4][0])

    def test_the_size_that_pixels_are_kept_in_does_not_matter(self) -> None:
        """Donors and poses are those of the originals; points are scaled with the pixels."""
        catalog, pictures = birds()
        doubled = replace(catalog, keypoints=catalog.keypoints * np.array([2, 2, 1], np.float32))
        twice = [Decoded(one.pixels, (200, 160)) for one in pictures]
        small = bound(catalog, align=1.0, warp=1.0, swap=1.0)
        large = bound(doubled, (200, 160), align=1.0, warp=1.0, swap=1.0)
        for row in (0, 4, 5):
            a, b = Samples(catalog, pictures, None, 0), Samples(doubled, twice, None, 0)
            one, other = small(a.marked(row), row, 9, a.marked), large(b.marked(row), row, 9, b.marked)
            assert abs(one.pixels.astype(int) - other.pixels).max() <= 1
            np.testing.assert_allclose(one.keypoints, other.keypoints, atol=1e-3)
