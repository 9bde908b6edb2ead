"""Where two pictures agree, against the sum over cells that it stands for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from conftest import paint
from fieldmark.answering.explaining import agreement as module
from fieldmark.answering.explaining.agreement import agreement
from fieldmark.answering.explaining.taps import last_map
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.things import Thing
from fieldmark.core.errors import ImageError
from fieldmark.evaluation.plda import Plda
from fieldmark.runs.run import Run


@pytest.fixture
def predictor(trained: Run) -> Predictor:
    return Predictor.load(trained.folder)


def learnt(predictor: Predictor) -> Plda:
    kept = predictor.bundle.read_kept()
    assert kept is not None
    return kept.plda()


def drawn(seed: int, colour: tuple[int, int, int] = (40, 160, 110)) -> Thing:
    return Thing(f"{seed}", paint(colour, seed))


def test_cells_add_up_to_what_a_picture_adds_to_the_likeness(predictor: Predictor) -> None:
    plda, things = learnt(predictor), (drawn(1), drawn(2))
    sides = agreement(predictor, plda, *things)
    own = plda.coordinates(predictor.embed([thing.source for thing in things]).astype(np.float64))
    nothing = np.zeros_like(own[:1])
    for side, mine, theirs in zip(sides, own, own[::-1], strict=True):
        gained = plda.same(mine[None], theirs[None]) - plda.same(nothing, theirs[None])
        assert side.cells.sum() == pytest.approx(gained[0], rel=1e-3)
        assert side.pixels.shape == (32, 32, 3)
    assert [side.name for side in sides] == ["1", "2"]


def test_of_pooled_cells_it_is_exact(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "tap", lambda network, size: last_map(network))
    plda, things = learnt(predictor), (drawn(3), drawn(4, (220, 160, 40)))
    side, _ = agreement(predictor, plda, *things)
    view = torch.from_numpy(predictor.see(things[0]).view)[None]
    found = predictor.model.backbone(predictor.model.backbone.normalization(view)).map[0].detach().double().numpy()
    outputs = predictor.outputs([thing.source for thing in things]).embedding.astype(np.float64)
    np.testing.assert_allclose(found.mean(axis=(1, 2)), outputs[0], atol=1e-4)
    length = np.linalg.norm(outputs[0])
    mine, theirs = plda.coordinates(outputs / np.linalg.norm(outputs, axis=1, keepdims=True))
    own, common, _ = plda.terms
    weight = plda.axes @ (common * theirs + own * mine)
    cells = found.shape[1] * found.shape[2]
    expected = (np.einsum("chw,c->hw", found / length, weight) - plda.centre @ weight) / cells
    np.testing.assert_allclose(side.cells, expected, atol=1e-3 * np.abs(expected).max())


def test_regions_of_either_kind(predictor: Predictor) -> None:
    side, _ = agreement(predictor, learnt(predictor), drawn(5), drawn(6))
    strongest = np.abs(side.cells).max()
    for sign in (1, -1):
        for region in side.regions(sign):
            assert (sign * side.cells[region.cells]).max() >= 0.3 * strongest
    assert side.regions(1) or side.regions(-1)


def test_a_picture_that_cannot_be_read(predictor: Predictor, tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "cut.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "cut.png").read_bytes()[:40])
    with pytest.raises(ImageError):
        agreement(predictor, learnt(predictor), drawn(7), Thing("cut", tmp_path / "cut.png"))
