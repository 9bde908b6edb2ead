import colorsys
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from fieldmark.augment import image as module
from fieldmark.augment.image import (
    ImageAugment,
    mirror_permutation,
    training_view,
)
from fieldmark.core.errors import DataError, RecipeError

SEEDS = st.integers(0, 2**32)
SIDES = st.integers(40, 120)


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth coloured picture."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)).copy()


def black(height: int, width: int) -> np.ndarray:
    return np.zeros((height, width, 3), dtype=np.uint8)


def centroid(image: torch.Tensor) -> tuple[float, float]:
    """Of the bright pixels, in continuous coordinates."""
    light = image.float().mean(dim=0).numpy()
    y, x = np.mgrid[: light.shape[0], : light.shape[1]] + 0.5
    return float((x * light).sum() / light.sum()), float((y * light).sum() / light.sum())


class TestPointsAndBoxesMoveAlong:
    @settings(max_examples=40, deadline=None)
    @given(seed=SEEDS, width=SIDES, height=SIDES, x=st.floats(0.05, 0.95), y=st.floats(0.05, 0.95))
    def test_dot_is_where_the_point_says(self, seed: int, width: int, height: int, x: float, y: float) -> None:
        column, row = int(x * width), int(y * height)
        pixels = black(height, width)
        pixels[row, column] = 255
        points = np.array([[column + 0.5, row + 0.5, 1.0], [3.0, 3.0, 0.0], [np.nan, np.nan, 0.0]])
        view = training_view(pixels, size=128, options=ImageAugment(), seed=seed, keypoints=points)
        assert view.keypoints is not None
        (found_x, found_y, visible), *others = view.keypoints.tolist()
        assert others == [[0.0] * 3] * 2
        if not visible:
            assert (found_x, found_y) == (0, 0)
        elif min(found_x, found_y, 128 - found_x, 128 - found_y) > 12:  # its blur is not cut at the edge
            assert centroid(view.image) == pytest.approx((found_x, found_y), abs=0.6)

    @settings(max_examples=40, deadline=None)
    @given(seed=SEEDS, width=SIDES, height=SIDES, where=st.tuples(*[st.floats(0.05, 0.95)] * 4))
    def test_box_surrounds_the_painted_object(
        self, seed: int, width: int, height: int, where: tuple[float, float, float, float]
    ) -> None:
        left, right = sorted((int(where[0] * width), int(where[1] * width)))
        top, bottom = sorted((int(where[2] * height), int(where[3] * height)))
        pixels = black(height, width)
        pixels[top : bottom + 1, left : right + 1] = 255
        box = np.array([left, top, right + 1 - left, bottom + 1 - top], dtype=np.float32)
        options = ImageAugment(keep_object=0.6)
        view = training_view(pixels, size=256, options=options, seed=seed, box=box, interpolation="bilinear")
        assert view.box is not None
        found = torch.nonzero(view.image[0] >= 128)[:, [1, 0]]  # x, y
        x, y, w, h = view.box.tolist()
        assert found.amin(0).tolist() == pytest.approx([x, y], abs=2)
        assert (found.amax(0) + 1).tolist() == pytest.approx([x + w, y + h], abs=2)

    @pytest.mark.parametrize("name", module._GEOMETRIC)
    def test_trivial_augment_moves_them_too(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_TRIVIAL", (name,))
        options = ImageAugment(min_scale=1.0, min_ratio=1.0, max_ratio=1.0, trivial=True)
        pixels = black(96, 96)
        pixels[38:43, 58:63] = 255
        point, box = np.array([[60.5, 40.5, 1.0]]), np.array([58.0, 38.0, 5.0, 5.0])
        views = [
            training_view(pixels, size=96, options=options, seed=seed, box=box, keypoints=point) for seed in range(30)
        ]
        seen = [view for view in views if view.image.any()]
        assert len(seen) > 10
        for view in seen:
            assert view.keypoints is not None
            assert view.box is not None
            x, y, w, h = view.box.tolist()
            if x > 0 and y > 0 and x + w < 95.9 and y + h < 95.9:  # no part of the dot was cut off
                assert view.keypoints[0, 2] == 1
                assert centroid(view.image) == pytest.approx(view.keypoints[0, :2].tolist(), abs=0.8)
                rows, columns = torch.nonzero(view.image[0]).unbind(1)
                assert columns.min() >= x - 1
                assert columns.max() <= x + w
                assert rows.min() >= y - 1
                assert rows.max() <= y + h

    def test_what_the_crop_cut_off_stays_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_draw_crop", lambda *_: (0.0, 0.0, 80.0, 100.0))
        monkeypatch.setattr(module, "_trivial", lambda picture, _: (picture, module._shift(-30.0, 0.0)))
        box, point = np.array([85.0, 10.0, 10.0, 10.0]), np.array([[90.0, 50.0, 1.0]])
        options = ImageAugment(flip=False, trivial=True)
        view = training_view(noise(100, 100), size=80, options=options, seed=0, box=box, keypoints=point)
        assert view.keypoints is not None
        assert view.box is not None
        assert view.keypoints.tolist() == [[0, 0, 0]]
        assert view.box.isnan().all()

    def test_flip_exchanges_left_and_right(self) -> None:
        options = ImageAugment(min_scale=1.0, min_ratio=1.0, max_ratio=1.0)
        points = np.array([[10.0, 20.0, 1.0], [40.0, 30.0, 1.0], [5.0, 5.0, 1.0]])
        mirror = mirror_permutation(["left eye", "right eye", "beak"])
        views = [
            training_view(noise(64, 64), size=64, options=options, seed=seed, keypoints=points, mirror=mirror).keypoints
            for seed in range(40)
        ]
        straight, mirrored = points.tolist(), [[24.0, 30.0, 1.0], [54.0, 20.0, 1.0], [59.0, 5.0, 1.0]]
        flips = [view.tolist() == mirrored for view in views if view is not None]
        assert all(
            flip or view.tolist() == straight for flip, view in zip(flips, views, strict=True) if view is not None
        )
        assert 10 < sum(flips) < 30

    def test_names_that_are_the_same_are_refused(self) -> None:
        with pytest.raises(DataError, match=r"Two key points are both called 'LeftEye', apart from case and spaces"):
            mirror_permutation(["beak", "LeftEye", "left Eye"])

    def test_nothing_in_nothing_out(self) -> None:
        view = training_view(noise(40, 40), size=32, options=ImageAugment(trivial=True, erasing=1.0), seed=1)
        assert view.box is None
        assert view.keypoints is None

    def test_unknown_box_stays_unknown(self) -> None:
        view = training_view(noise(40, 40), size=32, options=ImageAugment(), seed=1, box=np.full(4, np.nan))
        assert view.box is not None
        assert view.box.isnan().all()


class TestCrop:
    @settings(max_examples=150, deadline=None)
    @given(
        seed=SEEDS,
        width=st.integers(1, 400),
        height=st.integers(1, 400),
        box=st.tuples(st.floats(-0.2, 0.9), st.floats(-0.2, 0.9), st.floats(0.01, 1.2), st.floats(0.01, 1.2)),
        keep=st.sampled_from([0.0, 0.3, 0.5, 0.9, 1.0]),
    )
    def test_keeps_the_object(
        self, seed: int, width: int, height: int, box: tuple[float, float, float, float], keep: float
    ) -> None:
        options = ImageAugment(keep_object=keep)
        x, y, w, h = np.array(box) * (width, height, width, height)
        crop = module._draw_crop(np.random.default_rng(seed), width, height, options, np.array([x, y, w, h]))
        left, top, right, bottom = crop
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        ratio = (right - left) / (bottom - top)
        assert options.min_ratio * 0.999 <= ratio <= options.max_ratio * 1.001
        x2, y2, x, y = min(x + w, width), min(y + h, height), max(x, 0), max(y, 0)
        if x2 <= x or y2 <= y:
            return

        def share(left: float, top: float, right: float, bottom: float) -> float:
            return max(0, min(right, x2) - max(left, x)) * max(0, min(bottom, y2) - max(top, y)) / ((x2 - x) * (y2 - y))

        if share(*crop) < keep - 1e-9:  # then no crop of an allowed shape keeps more
            widest, highest = min(width, height * options.max_ratio), min(height, width / options.min_ratio)
            best = max(
                share(
                    a * (width - widest),
                    b * (height - highest),
                    a * (width - widest) + widest,
                    b * (height - highest) + highest,
                )
                for a, b in itertools.product(np.linspace(0, 1, 21), repeat=2)
            )
            assert share(*crop) >= best - 1e-6

    def test_scale_and_ratio_follow_the_options(self) -> None:
        options = ImageAugment(min_scale=0.2, max_scale=0.4, min_ratio=0.5, max_ratio=2.0)
        crops = np.array([module._draw_crop(np.random.default_rng(s), 300, 300, options, None) for s in range(2000)])
        width, height = crops[:, 2] - crops[:, 0], crops[:, 3] - crops[:, 1]
        area = width * height / 300**2
        assert area.min() >= 0.2
        assert area.max() <= 0.4
        assert area.mean() == pytest.approx(0.3, abs=0.01)
        assert np.log(width / height).mean() == pytest.approx(0, abs=0.04)
        assert np.log(width / height).std() == pytest.approx(math.log(4) / math.sqrt(12), abs=0.02)

    def test_every_corner_of_a_kept_object_is_in_view(self) -> None:
        corners = np.array([[61.0, 31.0, 1.0], [149.0, 31.0, 1.0], [61.0, 89.0, 1.0], [149.0, 89.0, 1.0]])
        box = np.array([60.0, 30.0, 90.0, 60.0])
        for seed in range(100):
            options = ImageAugment(min_scale=0.1, keep_object=1.0)
            view = training_view(noise(120, 160), size=32, options=options, seed=seed, box=box, keypoints=corners)
            assert view.keypoints is not None
            assert view.keypoints[:, 2].all()


class TestDeterminism:
    OPTIONS = ImageAugment(color=0.4, trivial=True, erasing=0.5)

    def test_a_function_of_the_seed(self) -> None:
        pixels = noise(80, 100)
        views = [
            training_view(pixels, size=48, options=self.OPTIONS, seed=(0, 1, sample)).image for sample in range(20)
        ]
        again = [
            training_view(pixels, size=48, options=self.OPTIONS, seed=(0, 1, sample)).image for sample in range(20)
        ]
        assert all(torch.equal(a, b) for a, b in zip(views, again, strict=True))
        assert not any(torch.equal(a, b) for a, b in itertools.combinations(views, 2))

    def test_global_generators_are_neither_read_nor_written(self) -> None:
        torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()[1].copy()
        first = training_view(noise(80, 100), size=48, options=self.OPTIONS, seed=3).image
        assert torch.equal(torch_state, torch.get_rng_state())
        assert (numpy_state == np.random.get_state()[1]).all()
        torch.manual_seed(99)
        assert torch.equal(first, training_view(noise(80, 100), size=48, options=self.OPTIONS, seed=3).image)

    def test_inputs_are_left_alone(self) -> None:
        pixels, box, points = noise(80, 100), np.array([1.0, 2, 30, 40]), np.array([[5.0, 6, 1]])
        copies = pixels.copy(), box.copy(), points.copy()
        training_view(pixels, size=48, options=self.OPTIONS, seed=3, box=box, keypoints=points)
        assert all((a == b).all() for a, b in zip((pixels, box, points), copies, strict=True))


TORCHVISION_NAMES = {"shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX", "translate_y": "TranslateY"}
TORCHVISION_NAMES["autocontrast"] = "AutoContrast"


class TestTrivialAugment:
    @pytest.mark.parametrize("name", module._TRIVIAL)
    @pytest.mark.parametrize("step", [0, 7, 30])
    def test_is_torchvisions(self, name: str, step: int) -> None:
        picture = Image.fromarray(noise(224, 224, seed=5))
        reference = v2.TrivialAugmentWide()
        their_name = TORCHVISION_NAMES.get(name, name.capitalize())
        magnitudes, signed = reference._AUGMENTATION_SPACE[their_name]
        values = magnitudes(31, 224, 224)
        magnitude = 0.0 if values is None else float(values[step])

        def expected(sign: int) -> np.ndarray:
            size = magnitude * (sign if signed else 1)
            nearest = InterpolationMode.NEAREST
            return np.asarray(
                reference._apply_image_or_video_transform(picture, their_name, size, nearest, {Image.Image: None})
            )

        if name in module._PHOTOMETRIC:
            for sign in (1, -1):
                got = np.asarray(module._PHOTOMETRIC[name](picture, sign * step / 30))
                # a strength is rounded to float32 there
                assert np.abs(got.astype(int) - expected(sign)).max() <= 1
        else:  # either direction is drawn equally often, so which one is called positive is free
            got = np.asarray(module._warped(picture, module._GEOMETRIC[name](step / 30, 224)))
            # torchvision drops the fraction of a shift, we round it
            assert max((got == expected(sign)).all(axis=2).mean() for sign in (1, -1)) > (
                0.9 if "trans" in name else 0.97
            )

    def test_every_operation_is_drawn(self) -> None:
        rng = np.random.default_rng(0)
        drawn = [module._trivial(Image.new("RGB", (64, 64)), rng)[1] for _ in range(700)]
        stays = sum(np.array_equal(move, module._STAY) for move in drawn)
        assert 0.6 < stays / 700 < 0.76  # 9 of 14 leave pixels in place, and the weakest of the others do


class TestColour:
    @settings(max_examples=20, deadline=None)
    @given(seed=SEEDS)
    def test_one_pass_is_the_sequence_of_four(self, seed: int) -> None:
        pixels = (noise(32, 32, seed=1) // 4 + 96).astype(np.uint8)  # far from black and white: nothing is clipped
        got = np.asarray(module._jittered(Image.fromarray(pixels), 0.2, np.random.default_rng(seed)))
        rng = np.random.default_rng(seed)
        brightness, contrast, saturation = rng.uniform(0.8, 1.2, 3)
        matrix = torch.from_numpy(module._hue(rng.uniform(-0.2, 0.2) / 10)).float()
        changes = {
            "brightness": lambda image: F.adjust_brightness(image, brightness),
            "contrast": lambda image: F.adjust_contrast(image, contrast),
            "saturation": lambda image: F.adjust_saturation(image, saturation),
            "hue": lambda image: torch.einsum("ij,jhw->ihw", matrix, image),
        }
        image = torch.from_numpy(pixels).permute(2, 0, 1).float() / 255
        for name in rng.permutation(("brightness", "contrast", "saturation", "hue")):
            image = changes[str(name)](image)
        assert np.abs(got - 255 * image.permute(1, 2, 0).numpy()).max() < 1.5

    def test_hue_turns_colours_and_leaves_greys(self) -> None:
        assert module._hue(0.0) == pytest.approx(np.eye(3), abs=1e-9)
        assert module._hue(0.04) @ np.full(3, 0.5) == pytest.approx(np.full(3, 0.5), abs=2e-3)
        colour = np.array([0.6, 0.4, 0.3])
        turned = module._hue(0.04) @ colour
        assert module._LUMA @ turned == pytest.approx(module._LUMA @ colour, abs=1e-9)
        change = colorsys.rgb_to_hsv(*turned)[0] - colorsys.rgb_to_hsv(*colour)[0]
        assert abs((change + 0.5) % 1 - 0.5) == pytest.approx(0.04, abs=0.02)

    def test_strength_zero_changes_nothing(self) -> None:
        pixels = noise(32, 32)
        assert (np.asarray(module._jittered(Image.fromarray(pixels), 0.0, np.random.default_rng(0))) == pixels).all()


class TestErasing:
    def test_one_rectangle_and_the_points_in_it(self) -> None:
        grid = np.array([[x, y, 1.0] for x in range(5, 100, 10) for y in range(5, 100, 10)])
        shares = []
        for seed in range(60):
            arguments = {"size": 96, "seed": seed, "keypoints": grid}
            before = training_view(noise(100, 100), options=ImageAugment(), **arguments)
            after = training_view(noise(100, 100), options=ImageAugment(erasing=1.0), **arguments)
            assert before.keypoints is not None
            assert after.keypoints is not None
            changed = (before.image != after.image).any(dim=0)
            rows, columns = torch.nonzero(changed).unbind(1)
            top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
            assert changed[top:bottom, left:right].float().mean() > 0.99  # noise can hit the old colour
            shares.append(float((bottom - top) * (right - left) / 96**2))
            x, y, seen = before.keypoints.unbind(1)
            hit = (seen > 0) & (x >= left) & (x < right) & (y >= top) & (y < bottom)
            assert (after.keypoints[hit] == 0).all()
            assert torch.equal(after.keypoints[~hit], before.keypoints[~hit])
        assert 0.01 < min(shares) < max(shares) <= 0.4

    def test_probability(self) -> None:
        pixels = np.full((40, 40, 3), 128, dtype=np.uint8)
        erased = [
            bool((training_view(pixels, size=16, options=ImageAugment(erasing=0.25), seed=s).image != 128).any())
            for s in range(400)
        ]
        assert np.mean(erased) == pytest.approx(0.25, abs=0.06)

    def test_view_too_small_to_erase(self) -> None:
        assert training_view(noise(9, 9), size=1, options=ImageAugment(erasing=1.0), seed=0).image.shape == (3, 1, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_scale": 0.0}, "min_scale = 0.0, max_scale = 1.0. Expected 0 < min_scale <= max_scale <= 1."),
        ({"max_scale": 0.2}, "min_scale = 0.35, max_scale = 0.2"),
        ({"min_scale": math.nan}, "min_scale = nan"),
        ({"min_ratio": 2.0}, "Expected 0 < min_ratio <= max_ratio"),
        ({"color": 1.5}, "Augmentation cannot have color = 1.5. Expected 0 <= color <= 1."),
        ({"erasing": -0.1}, "Augmentation cannot have erasing = -0.1"),
        ({"keep_object": 1.1}, "Augmentation cannot have keep_object = 1.1"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, float], message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        ImageAugment(**options)
    assert message in str(caught.value)
