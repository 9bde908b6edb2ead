"""Where a part is."""

from __future__ import annotations

import pytest
import torch

from fieldmark.model.part_maps import part_centres, part_vectors


def test_the_centre_is_that_of_the_peak_not_of_all_mass() -> None:
    maps = torch.full((1, 2, 4, 8), 0.1)
    maps[0, 0, 3, 6:8] = 0.8
    maps[0, 1] = 1 - maps[0, 0]
    (x, y, visible) = part_centres(maps, has_background=True)[0, 0].tolist()
    assert (x, y, visible) == (pytest.approx(7 / 8), pytest.approx(3.5 / 4), 1)


def test_a_part_that_is_first_nowhere_is_not_visible_but_has_a_place() -> None:
    maps = torch.zeros(1, 3, 2, 2)
    maps[0, 0, 0, 0] = 0.4
    maps[0, 1, 1, 1] = 0.9
    maps[0, 2] = 1 - maps[0, :2].sum(dim=0)
    centres = part_centres(maps, has_background=True)[0]
    assert centres[0].tolist() == pytest.approx([0.25, 0.25, 0])
    assert centres[1].tolist() == pytest.approx([0.75, 0.75, 1])
    assert part_centres(maps, has_background=False)[0, :, 2].tolist() == [1, 1, 1]


def test_an_empty_map_is_in_the_middle_and_not_visible() -> None:
    assert part_centres(torch.zeros(1, 1, 3, 3), has_background=False).tolist() == [[[0.5, 0.5, 0]]]


def test_part_vectors_are_means_weighed_by_the_maps() -> None:
    """Against a loop; cells of another grid are brought to that of the maps first."""
    generator = torch.Generator().manual_seed(0)
    cells, maps = torch.rand(2, 5, 4, 4, generator=generator), torch.rand(2, 3, 4, 4, generator=generator)
    maps[1, 2] = 0
    vectors = part_vectors(cells, maps)
    for b in range(2):
        for m in range(3):
            weights = maps[b, m] / maps[b, m].sum().clamp_min(1e-12)
            assert torch.allclose(vectors[b, m], (cells[b] * weights).sum(dim=(1, 2)), atol=1e-6)
    assert not vectors[1, 2].any()
    constant = torch.arange(5.0)[None, :, None, None].expand(2, 5, 2, 2)
    assert torch.allclose(part_vectors(constant, maps)[0], torch.arange(5.0).expand(3, 5), atol=1e-5)
