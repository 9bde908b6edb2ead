"""What is kept of a run is small, whole, and of the same data wherever that lies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.comparison import Result
from fieldmark.comparison.result import answered_rows, data_digest
from fieldmark.core.errors import RunError
from fieldmark.core.recipe import Recipe
from fieldmark.data.catalog import Catalog
from fieldmark.model.choosing import weights_name

MadeUp = Callable[..., Result]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 70)), min_size=1, max_size=40))
def test_a_result_reads_back(
    made_up: MadeUp, tmp_path_factory: pytest.TempPathFactory, answers: list[tuple[bool, float]]
) -> None:
    correct, nll = map(np.array, zip(*answers, strict=True))
    result = made_up(right=correct, nll=nll.astype(np.float16).astype(np.float32))
    file = tmp_path_factory.mktemp("kept") / "finetune-0.json"
    result.save(file)
    again = Result.load(file)
    for name, value in vars(result).items():
        assert np.array_equal(getattr(again, name), value), name


@pytest.mark.parametrize(("num", "most"), [(1000, 6_000), (6149, 20_000)])
def test_a_result_is_small(made_up: MadeUp, tmp_path: Path, num: int, most: int) -> None:
    settings = Recipe().model_dump(mode="json", exclude_none=True)
    made_up(num=num, settings=settings, curve=(0.1234,) * 20).save(tmp_path / "one.json")
    assert (tmp_path / "one.json").stat().st_size < most


@pytest.mark.parametrize(
    "damage",
    [lambda text: text[:100], lambda text: text.replace('"format": 2', '"format": 9'),
     lambda text: text.replace('"num_images": 300', '"num_images": 299'), lambda text: text.replace("seed", "sead")],
    ids=["torn", "version", "length", "key"],
)  # fmt: skip
def test_a_damaged_result_says_so(made_up: MadeUp, tmp_path: Path, damage: Callable[[str], str]) -> None:
    file = tmp_path / "one.json"
    made_up().save(file)
    file.write_text(damage(file.read_text()))
    with pytest.raises(RunError, match=rf"The result in {file} cannot be read .*Remove the file"):
        Result.load(file)


def catalog(root: Path, **changes: Any) -> Catalog:
    paths = tuple(f"{split}/{k}.jpg" for split in ("train", "val", "test") for k in range(2))
    made = Catalog(
        "birds", root, paths, np.array([0, 1] * 3), ("finch", "gull"),
        np.repeat(["train", "val", "test"], 2), np.full(6, ""),
    )  # fmt: skip
    return replace(made, **changes)


def test_the_data_are_the_same_wherever_they_lie(tmp_path: Path) -> None:
    here = catalog(tmp_path / "here")
    digest = data_digest(here)
    assert data_digest(catalog(tmp_path / "there" / "deep")) == digest
    absolute = tuple(str(tmp_path / "here" / path) for path in here.paths)  # as a table elsewhere names them
    assert data_digest(replace(here, root=tmp_path / "elsewhere", paths=absolute)) == digest
    assert data_digest(here.select(np.arange(6)[::-1])) == digest
    for change in (
        {"labels": np.array([1, 0, 0, 1, 0, 1])},
        {"splits": np.repeat(["val", "train", "test"], 2)},
        {"paths": ("train/x.jpg", *here.paths[1:])},
    ):
        assert data_digest(replace(here, **change)) != digest


def test_which_images_are_answered(tmp_path: Path) -> None:
    shuffled = catalog(tmp_path).select(np.array([5, 3, 1, 0, 2, 4]))
    assert [shuffled.paths[row] for row in answered_rows(shuffled, "val")] == ["val/0.jpg", "val/1.jpg"]
    both = [shuffled.paths[row] for row in answered_rows(shuffled, "crossfit")]
    assert both == ["train/0.jpg", "train/1.jpg", "val/0.jpg", "val/1.jpg"]


def test_weights_are_known_by_what_is_in_them(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "net.safetensors").write_bytes(b"abc")
    names = [
        weights_name(Recipe().backbone.model_copy(update={"weights": str(tmp_path / folder / "net.safetensors")}))
        for folder in ("a", "b")
    ]
    assert names == ["net.safetensors (sha256 ba7816bf8f01cfea)"] * 2  # of "abc", as in the standard
    assert weights_name(Recipe().backbone.model_copy(update={"weights": "hub"})) == "hub"
