"""`fieldmark shards`, and the commands that read what it writes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

import fieldmark
from fieldmark.core.listener import Listener
from fieldmark.data.loader import Sampled
from fieldmark.data.sharding import write_shards
from fieldmark.learning.training import loop
from fieldmark.runs.run import Run
from support.commands import Cli, settings
from support.ranks import forks, in_processes

Tiny = Callable[..., list[str]]


@pytest.fixture
def bucket() -> Iterator[str]:
    yield "memory://bucket/birds"
    fsspec.filesystem("memory").rm("/bucket", recursive=True)


def test_shards_stand_for_the_data(cli: Cli, parted: Path, tmp_path: Path, tiny: Tiny) -> None:
    """Written, trained on, scored and reported; the pictures themselves are gone."""
    shards, run = tmp_path / "shards", tmp_path / "run"
    wrote = cli("shards", parted, shards)
    assert wrote.status == 0
    assert "Wrote 42 pictures into 2 shards, 0.3 MB, at " in wrote.err.replace("\n", "")
    parted.rename(tmp_path / "away")
    assert cli("audit", shards, "--out", tmp_path / "audit").status in (0, 1)
    assert cli("train", shards, *tiny(), "--out", run).status == 0
    assert cli("evaluate", run).status == 0
    assert len((run / "evaluation" / "test" / "predictions.csv").read_text().splitlines()) == 13
    assert cli("report", run).status == 0
    assert "data:image/" in (run / "report" / "index.html").read_text()
    answered = cli("predict", run, shards, "--format", "csv")
    assert answered.status == 0
    assert answered.out.count(".tar/") == 42


def test_training_from_a_store_is_training_from_files(bucket: str, parted: Path, tmp_path: Path) -> None:
    """The same pictures, so the same scores, whether they come through a store or from a folder of shards."""
    fieldmark.shards(parted, bucket)
    fieldmark.shards(parted, tmp_path / "shards")
    runs = [
        fieldmark.train(data, "walkthrough", out=tmp_path / name, overrides=settings())
        for name, data in (("far", bucket), ("near", tmp_path / "shards"))
    ]
    far, near = (run.history() for run in runs)
    assert [line["loss"] for line in far] == [line["loss"] for line in near]
    assert far


def test_a_run_from_a_store_finds_its_data_again(cli: Cli, bucket: str, parted: Path, tmp_path: Path) -> None:
    """To be scored, reported, and gone on from with the shards of another season behind it."""
    run = tmp_path / "run"
    fieldmark.shards(parted, bucket)
    fieldmark.train(bucket, "walkthrough", out=run, overrides=settings())
    assert cli("evaluate", run).status == 0
    assert cli("report", run).status == 0
    assert "data:image/" in (run / "report" / "index.html").read_text()
    later = fieldmark.draw(tmp_path / "later", species=2, images_per_species=8, size=64)
    fieldmark.shards(later, f"{bucket}-later")
    onward = cli("train", f"{bucket}-later", "--from", run, "--out", tmp_path / "onward")
    assert onward.status == 0, onward.err
    assert cli("report", tmp_path / "onward").status == 0
    assert "data:image/" in (tmp_path / "onward" / "report" / "index.html").read_text()


def test_files_with_a_season_in_a_store_behind_them(cli: Cli, bucket: str, parted: Path, tmp_path: Path) -> None:
    """Paths and addresses in one catalogue: a third season knows which photographs are where they were."""
    run = fieldmark.train(parted, "walkthrough", out=tmp_path / "run", overrides=settings()).folder
    for number, name in enumerate(("second", "third")):
        season = fieldmark.draw(tmp_path / name, species=2, images_per_species=8, size=64, seed=number)
        fieldmark.shards(season, f"{bucket}-{name}")
        answer = cli("train", f"{bucket}-{name}", "--from", run, "--out", tmp_path / name / "run")
        assert answer.status == 0, answer.err
        assert "gone" not in answer.err
        run = tmp_path / name / "run"
    answer = cli("doubt", run)
    assert answer.status == 0, answer.err


def test_a_place_that_is_taken_is_refused(cli: Cli, parted: Path) -> None:
    assert "is not empty: it holds" in cli("shards", parted, parted).complaint
    assert "s3fs" in cli("shards", parted, "s3://bucket/birds").complaint


def order(run: Path, data: Path, epochs: int) -> list[list[int]]:
    """The rows that each step of this process has learnt from."""
    steps: list[list[int]] = []
    usual = loop.training_batches

    def noted(*arguments: Any, **options: Any) -> Iterator[Sampled]:
        for batch in usual(*arguments, **options):
            steps.append(batch.rows.tolist())
            yield batch

    loop.training_batches = noted  # type: ignore[assignment]  # in a process of its own
    changes = settings(train__epochs=str(epochs), train__batch_size="6")
    fieldmark.train(data, "walkthrough", out=run, overrides=changes, listener=Listener())
    return steps


@forks
@pytest.mark.parametrize("kilobytes", [10_000, 90], ids=["one shard", "unequal shards"])
def test_two_processes_share_any_shards(kilobytes: int, parted: Path, tmp_path: Path) -> None:
    """Each sample comes once in an epoch, in one of the two, however many shards there are and however long."""
    write_shards(fieldmark.read(parted), tmp_path / "shards", size=kilobytes * 1000)
    tars = sorted((tmp_path / "shards").glob("train-*.tar"))
    assert len(tars) == (1 if kilobytes > 100 else 3)
    both = in_processes(2, lambda: order(tmp_path / "run", tmp_path / "shards", 2))
    assert [len(steps) for steps in both] == [8, 8]
    for epoch in np.array_split(np.arange(len(both[0])), 2):
        seen = [row for steps in both for step in epoch for row in steps[step]]
        assert len(seen) == len(set(seen)) == len(epoch) * 6
    assert Run(tmp_path / "run").history()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="torchrun needs a POSIX system here")
def test_torchrun_trains_from_shards(parted: Path, tmp_path: Path, tiny: Tiny) -> None:
    """From one shard, with two processes: as one process does from the files' shards."""
    fieldmark.shards(parted, tmp_path / "shards")
    recipe = tiny(backbone__name="test_vit", train__epochs="2", train__batch_size="6", train__precision="fp32")
    source = Path(fieldmark.__file__).parents[1]
    environment = os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        "-m",
        "fieldmark",
    ]
    done = subprocess.run(
        [*command, "train", str(tmp_path / "shards"), *recipe, "--out", str(tmp_path / "two")],
        env=environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    fieldmark.train(tmp_path / "shards", "walkthrough", out=tmp_path / "one", overrides=[one[6:] for one in recipe[2:]])
    two, one = ([line["loss"] for line in Run(tmp_path / name).history()] for name in ("two", "one"))
    np.testing.assert_allclose(two, one, atol=2e-4)
    assert json.loads((tmp_path / "one" / "data.json").read_text()) == json.loads(
        (tmp_path / "two" / "data.json").read_text()
    )
