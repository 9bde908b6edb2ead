"""What stays as it is is computed once, and nothing that is learnt or answered depends on that."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from fieldmark.commands.train import train
from fieldmark.core.errors import RecipeError
from fieldmark.learning.fitting import kept
from fieldmark.learning.fitting.fit import Fit
from fieldmark.learning.fitting.kept import Kept
from fieldmark.model.fronts import Keeper
from fieldmark.model.model import Model
from fieldmark.runs.run import Run
from support.hearing import Heard
from support.weights import identical, weights

SMALL = {"backbone": "test_resnet", "weights": "fieldguide"}
SETTINGS = ["images.size=32", "backbone.mean=[0.5, 0.5, 0.5]"]
STEPS = ["train.solver=gradient", "train.epochs=3", "train.precision=fp32", "augment.flip=true", "augment.views=2"]


def trained(pictures: Path, out: Path, *overrides: str, recipe: str = "finetune") -> tuple[Run, list[str]]:
    heard = Heard()
    settings = [*SETTINGS, *(STEPS if recipe != "probe" else []), *overrides]
    return train(pictures, recipe, out=out, overrides=settings, listener=heard, **SMALL), heard.notes


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How often each row is looked at to be answered."""
    counted: Counter[int] = Counter()
    see = Fit.see

    def seeing(self: Fit, model: Model) -> object:
        inner = see(self, model)

        def one(row: int) -> object:
            counted[row] += 1
            return inner(row)

        return one

    monkeypatch.setattr(Fit, "see", seeing)
    return counted


@pytest.mark.parametrize("protocol", ["holdout", "crossfit"])
def test_a_probe_looks_once_at_each_picture(
    protocol: str, pictures: Path, tmp_path: Path, looks: Counter[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = [f"protocol={protocol}", "folds=3"]
    run, _ = trained(pictures, tmp_path / "once", *options, recipe="probe")
    assert [row for row, times in looks.items() if times > 1] == [0]  # by which it was found out what is read
    monkeypatch.setattr(kept, "_SHARE", 0.0)
    again, _ = trained(pictures, tmp_path / "again", *options, recipe="probe")
    assert max(looks.values()) > 2
    one, other = weights(run), weights(again)
    assert all(torch.allclose(one[key].float(), other[key].float(), atol=1e-4) for key in one)


@pytest.mark.parametrize(
    "options",
    [
        ["train.freeze_stages=all"],
        ["train.freeze_stages=all", "neck.name=attention", "head.name=arcface", "images.size=64"],
        ["train.freeze_stages=all", "method.name=part_selection", "images.size=64"],
        ["train.freeze_stages=2"],
        ["train.freeze_stages=2", "augment.crop=false"],
    ],
    ids=["pooled", "neck", "levels", "stages", "one view"],
)
def test_kept_views_train_the_same_weights(
    options: list[str], pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, said = trained(pictures, tmp_path / "kept", *options)
    assert [text for text in said if "once for" in text]
    monkeypatch.setattr(kept, "_SHARE", 0.0)
    plain, said = trained(pictures, tmp_path / "plain", *options)
    assert [text for text in said if "GB of memory" in text]
    one, other = weights(run), weights(plain)
    assert one.keys() == other.keys()
    assert all(torch.allclose(one[key].float(), other[key].float(), atol=1e-5) for key in one)


def test_pictures_of_a_frozen_backbone_are_not_read_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the views were computed, steps read no pixels; and the backbone ends as it began."""
    images: list[int] = []
    keep = Keeper.keep

    def counting(self: Keeper, *given: torch.Tensor) -> torch.Tensor:
        images.append(self.width)
        return keep(self, *given)

    monkeypatch.setattr(Keeper, "keep", counting)
    run, _ = trained(pictures, tmp_path / "three", "train.freeze_stages=all", "train.batchnorm=plain")
    number = len(images)
    images.clear()
    other, _ = trained(
        pictures, tmp_path / "five", "train.freeze_stages=all", "train.batchnorm=plain", "train.epochs=5"
    )
    assert len(images) == number
    one, two = weights(run), weights(other)
    assert all(torch.equal(one[key], two[key]) for key in one if key.startswith("backbone.model."))
    assert not identical(one, two)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["augment.views=0"], "each epoch has views of its own"),
        (["augment.mix=mixup"], "augment.mix = 'mixup' mixes images"),
        (["method.name=bilinear_attention", "images.size=64"], "the method looks at parts of images, too"),
    ],
    ids=["new views", "mixed", "crops"],
)
def test_what_cannot_be_kept_is_told(options: list[str], why: str, pictures: Path, tmp_path: Path) -> None:
    _, said = trained(pictures, tmp_path / "run", "train.freeze_stages=all", *options)
    assert [text for text in said if why in text]


def test_a_budget_needs_a_backbone_that_learns(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="A budget is for a backbone that learns"):
        train(pictures, "finetune", out=tmp_path / "run", overrides=["train.freeze_stages=all"], budget="2m", **SMALL)


def test_rows_are_found_by_what_they_are_of() -> None:
    table, rows = Kept(limit=1e6), torch.from_numpy(np.arange(12, dtype=np.float32).reshape(4, 3))
    table.put("one", [(0, 7), (1, 7), (0, 9), (1, 9)], rows)
    assert table.lacks("one", [(0, 7), (2, 7)]) == [1]
    assert table.lacks("other", [(0, 7)]) == [0]
    assert table.get("one", [(1, 9), (0, 7)]).tolist() == [[9, 10, 11], [0, 1, 2]]
