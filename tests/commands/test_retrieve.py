"""`fieldmark retrieve`: searches are scored."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fieldmark
from fieldmark.core.errors import DataError, FieldmarkWarning
from fieldmark.evaluation.open_set import open_set
from fieldmark.evaluation.retrieval import retrieval
from fieldmark.runs.run import Run

Cli = Callable[..., Any]


def test_it_scores_the_embeddings(trained: Run, pictures: Path, cli: Cli) -> None:
    files = sorted(pictures.rglob("*.png"))
    embedding = fieldmark.Predictor.load(trained.folder).embed(files)
    labels = np.unique([file.parent.name for file in files], return_inverse=True)[1]
    expected = retrieval(embedding, labels).scores()
    found = json.loads(cli("retrieve", trained.folder, pictures, "--format", "json").out)
    assert (found["pictures"], found["classes"], found["queries"]) == (42, 3, 42)
    for name, share in expected.items():
        assert found["scores"][name]["value"] == pytest.approx(share.value)
    lines = cli("retrieve", trained.folder, pictures).out.splitlines()
    assert lines[0] == "42 photographs with 3 labels, searched for 42 of them; 95 % intervals over labels"
    assert lines[1:] == [
        f"{title:<14} {expected[name]}"
        for title, name in zip(("Recall@1", "Recall@5", "Recall@10", "R-precision", "MAP@R"), expected, strict=True)
    ]


def test_groups_and_unread_files(trained: Run, pictures: Path, tmp_path: Path, cli: Cli) -> None:
    files = sorted(pictures.rglob("*.png"))
    (tmp_path / "broken.png").write_bytes(b"no picture")
    rows = [f"{file},{file.parent.name},{file.parent.name} {k % 2}" for k, file in enumerate(files)]
    table = tmp_path / "table.csv"
    table.write_text("\n".join(["path,label,group", *rows, f"{tmp_path / 'broken.png'},amber,alone"]))
    answer = cli("retrieve", trained.folder, table, "--format", "json")
    assert answer.status == 1
    found = json.loads(answer.out)
    assert found["pictures"] == 42
    assert [one["path"] for one in found["skipped"]] == [str(tmp_path / "broken.png")]
    embedding = fieldmark.Predictor.load(trained.folder).embed(files)
    labels = np.unique([file.parent.name for file in files], return_inverse=True)[1]
    groups = [row.split(",")[2] for row in rows]
    assert found["scores"]["map@r"]["value"] == pytest.approx(
        retrieval(embedding, labels, groups).scores()["map@r"].value
    )


def test_it_names_or_knows_nobody(trained: Run, pictures: Path, cli: Cli) -> None:
    files = sorted(pictures.rglob("*.png"))
    embedding = fieldmark.Predictor.load(trained.folder).embed(files)
    labels = np.unique([file.parent.name for file in files], return_inverse=True)[1]
    expected = open_set(embedding, labels).scores()
    found = json.loads(cli("retrieve", trained.folder, pictures, "--identify", "--format", "json").out)["identified"]
    assert found["fnir@0.01"] is None, "42 strangers are too few"
    for name in ("known", "auroc", "fnir@0.05"):
        assert found[name]["value"] == pytest.approx(vars(expected[name])["value"])
    lines = cli("retrieve", trained.folder, pictures, "--identify").out.splitlines()[6:]
    assert lines == [
        f"known: the right name first                     {expected['known']}",
        f"known or a stranger: AUROC                      {expected['auroc']}",
        "known: missed where 1 % of strangers get a name too few photographs",
        f"known: missed where 5 % of strangers get a name {expected['fnir@0.05']}",
    ]
    assert "identified" not in json.loads(cli("retrieve", trained.folder, pictures, "--format", "json").out)


def test_only_classes_that_are_new(trained: Run, pictures: Path, tmp_path: Path) -> None:
    for name in ("jade", "tern"):
        (tmp_path / "new" / name).mkdir(parents=True)
        for k, file in enumerate(sorted((pictures / "plum").glob("*.png"))[:4]):
            (tmp_path / "new" / name / f"{k}.png").write_bytes(file.read_bytes())
    found = fieldmark.retrieve(trained.folder, tmp_path / "new", unseen=True)
    assert (found.num_pictures, found.num_classes) == (4, 1)


def test_what_cannot_be_scored(trained: Run, pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="There is no picture of a class that the run does not know"):
        fieldmark.retrieve(trained.folder, pictures, unseen=True)
    files = sorted(pictures.rglob("*.png"))
    with pytest.raises(DataError, match="There is no picture with a label"):
        fieldmark.retrieve(trained.folder, files)
    table = tmp_path / "table.csv"
    table.write_text(f"path,label\n{files[0]},amber\n{files[-1]},plum")
    with pytest.raises(DataError, match="There is nothing to find"):
        fieldmark.retrieve(trained.folder, table)
    table.write_text(f"path,label\n{files[0]},amber\n{files[1]},amber")
    with pytest.warns(FieldmarkWarning, match="1 picture without a label left out"):
        fieldmark.retrieve(trained.folder, [str(table), str(files[2])])
