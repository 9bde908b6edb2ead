"""A region is found again in another image; exchanging it does what algebra says."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from fieldmark.answering.explaining.evidence import Contrast, find_evidence
from fieldmark.answering.explaining.examples import Counterpart, Known, counterparts, points_inside
from fieldmark.answering.explaining.explanation import exchange, explain_view
from fieldmark.answering.explaining.taps import last_map, tap
from fieldmark.model.method import Method
from support.known import known_noise

Make = Callable[[str], Method]


def random_map(seed: int, channels: int, side: int) -> Tensor:
    return torch.randn(channels, side, side, generator=torch.Generator().manual_seed(seed))


def test_the_counterpart_is_the_best_of_all_windows() -> None:
    """Against a plain loop over all places."""
    own, last = random_map(0, 6, 7), random_map(1, 9, 4)
    cells = np.zeros((7, 7), bool)
    cells[1, 1:3] = cells[2, 2] = True
    others = torch.stack([random_map(s, 6, 7) for s in (2, 3)]), torch.stack([random_map(s, 9, 4) for s in (4, 5)])
    known = Known("b", ("one", "two"), others[0].half(), others[1].half())
    found = {one.path: one for one in counterparts(own, last, cells, known)}

    def described(fine: Tensor, coarse: Tensor) -> Tensor:
        enlarged = F.interpolate(F.normalize(coarse, dim=0)[None], size=(7, 7), mode="bilinear", align_corners=False)
        return torch.cat([F.normalize(fine, dim=0), enlarged[0]])

    wanted = described(own, last)[:, torch.from_numpy(cells)].mean(1)
    for number, path in enumerate(known.paths):
        theirs = described(known.maps[number].float(), known.last[number].float())
        best: tuple[float, np.ndarray] = (-np.inf, cells)
        for window in (cells[1:3, 1:3], cells[1:3, 2:0:-1]):
            for row in range(6):
                for column in range(6):
                    there = np.zeros((7, 7), bool)
                    there[row : row + 2, column : column + 2] = window
                    score = float(theirs[:, torch.from_numpy(there)].mean(1) @ wanted)
                    best = max(best, (score, there), key=lambda pair: pair[0])
        np.testing.assert_array_equal(found[path].cells, best[1])
        mean = theirs[:, torch.from_numpy(best[1])].mean(1)
        assert found[path].likeness == pytest.approx(float(F.cosine_similarity(mean, wanted, dim=0)), abs=1e-4)
        assert found[path].features.shape == (6, 3)


def test_an_image_finds_itself_and_can_be_left_out() -> None:
    own, last = random_map(0, 6, 7).half().float(), random_map(1, 9, 4).half().float()
    cells = np.zeros((7, 7), bool)
    cells[3:5, 2:5] = True
    known = Known("a", ("other", "self"), torch.stack([random_map(3, 6, 7), own]).half(),
                  torch.stack([random_map(4, 9, 4), last]).half())  # fmt: skip
    nearest = counterparts(own, last, cells, known)[0]
    assert nearest.path == "self"
    assert nearest.likeness == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(nearest.cells, cells)
    torch.testing.assert_close(nearest.features, own[:, torch.from_numpy(cells)])
    assert [one.path for one in counterparts(own, last, cells, known, besides={"self"})] == ["other"]


def test_an_exchange_on_the_last_map_is_algebra(make: Make, image: Tensor) -> None:
    method, contrast = make("test_resnet"), Contrast(0, 1)
    place = last_map(method)
    found = find_evidence(method, image, contrast, place)
    cells = np.zeros(found.cells.shape, bool)
    cells[0, 1] = True
    donor = Counterpart("b", "b", 1.0, cells, torch.randn(found.map.shape[0], 1))
    weight = method.head.classifier.linear.weight.detach()
    expected = float((weight[0] - weight[1]) @ (donor.features[:, 0] - found.map[:, 0, 1])) / cells.size
    result = exchange(method, image, contrast, place, found.map, cells, [donor])
    assert result is not None
    assert result.margin - found.margin == pytest.approx(expected, abs=1e-5)
    assert exchange(method, image, contrast, place, found.map, cells, []) is None


@pytest.mark.parametrize("name", ["test_resnet", "vit_tiny_patch16_224"])
def test_everything_together(name: str, make: Make, image: Tensor) -> None:
    method = make(name)
    place = tap(method, image.shape[-1])
    known = [known_noise(method, place, label, 6) for label in "ab"]
    evidence, found, whole = explain_view(method, image, Contrast(0, 1), (known[0], known[1]))
    assert found
    assert found[0].as_second is not None
    assert found[0].as_second.num_examples == 3
    assert [one.label for one in found[0].second] == ["b"] * 3
    assert whole is not None
    assert whole.exchange.num_examples == 3
    assert whole.cells.shape == evidence.cells.shape
    likeness = [one.likeness for one in found[0].first]
    assert likeness == sorted(likeness, reverse=True)
    _, alone, nothing = explain_view(method, image, Contrast(0, 1))
    assert nothing is None
    assert alone[0].as_second is None
    assert alone[0].first == ()
    np.testing.assert_array_equal(alone[0].region.cells, found[0].region.cells)


def test_key_points_give_a_region_its_name() -> None:
    cells = np.zeros((4, 4), bool)
    cells[1, 2] = True
    points = np.full((3, 3, 2), np.nan, np.float32)
    points[0, 0], points[1, 1], points[2, 2] = (0.6, 0.3), (0.6, 0.3), (0.1, 0.1)
    names = ("left eye", "right eye", "tail")
    known = Known("a", ("1", "2", "3"), torch.zeros(3), torch.zeros(3), names, points)
    found = [Counterpart(path, "a", 1.0, cells, torch.zeros(1)) for path in known.paths]
    assert points_inside(found, known) == ("eye",)
