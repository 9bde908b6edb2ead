"""The folder of a run."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.machine import Machine
from fieldmark.core.recipe import Recipe
from fieldmark.data.catalog import Catalog
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.runs.opening import is_source
from fieldmark.runs.run import Run

MACHINE = Machine("cpu", 2, 0, "fp32")
PICTURES = np.array([7, 8, 2**63], np.uint64)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(
        name="birds",
        root=tmp_path / "data",
        paths=("a.jpg", "b, c.jpg", "ü.jpg"),
        labels=np.array([0, 1, 1]),
        classes=("finch", "gull"),
        splits=np.array(["train", "val", "test"]),
        groups=np.array(["", "", ""]),
        taxonomy=Taxonomy.of(("finch", "gull"), {"genus": ("x", "y")}),
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return Run.create(tmp_path / "run", Recipe(), MACHINE)


def one_line(error: pytest.ExceptionInfo[Exception]) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_a_new_run_holds(run: Run) -> None:
    assert {path.name for path in run.folder.iterdir()} == {"recipe.toml", "environment.json"}
    assert run.exists
    assert not run.is_finished
    assert repr(run) == f"Run({str(run.folder)!r}, not finished)"
    environment = json.loads((run.folder / "environment.json").read_text())
    assert environment["format"] == 1
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    machine = {"device": "cpu", "threads": 2, "workers": 0, "precision": "fp32"}
    assert environment["machine"] == machine | {"layout": "channels_last", "compiled": False}


def test_what_was_decided_comes_back(tmp_path: Path) -> None:
    recipe = Recipe().with_overrides(["seed=4", "train.lr=0.5", "method.dropout=0.1"])
    Run.create(tmp_path / "run", recipe, MACHINE)
    run = Run.open(tmp_path / "run")
    assert run.recipe() == recipe
    assert run.machine() == MACHINE


@pytest.mark.parametrize("change", [lambda said: said.pop("layout"), lambda said: said.update(fans=3)])
def test_the_machine_of_another_version(run: Run, change: Callable[[dict[str, Any]], Any]) -> None:
    file = run.folder / "environment.json"
    environment = json.loads(file.read_text())
    change(environment["machine"])
    file.write_text(json.dumps(environment))
    assert run.machine() == MACHINE


def test_where_things_are(run: Run) -> None:
    assert run.bundle == run.folder / "bundle"
    assert run.checkpoint() == run.folder / "checkpoints" / "last.safetensors"
    assert run.checkpoint("fold 1") == run.folder / "checkpoints" / "fold 1.safetensors"
    assert run.evaluation("val") == run.folder / "evaluation" / "val"
    run.bundle.mkdir()
    (run.bundle / "model.json").touch()
    assert run.is_finished
    assert repr(run).endswith("finished)")
    assert "not finished" not in repr(run)


def test_a_folder_that_is_not_empty(tmp_path: Path, run: Run) -> None:
    with pytest.raises(RunError) as caught:
        Run.create(run.folder, Recipe(), MACHINE)
    assert one_line(caught) == (
        f"{run.folder} is not empty. Add --resume to continue the run in it, or choose another --out."
    )
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.docx").touch()
    with pytest.raises(RunError, match="is not empty"):
        Run.create(tmp_path / "mine", Recipe(), MACHINE)
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.docx"]


def test_what_is_no_runs_is_never_taken_for_one(tmp_path: Path) -> None:
    for name, text in (("recipe.toml", "seed = 1\n"), ("environment.json", '{"name": "staging"}'), (".hidden", "")):
        folder = tmp_path / name.strip(".")
        folder.mkdir()
        (folder / name).write_text(text)
        with pytest.raises(RunError) as caught:
            Run.create(folder, Recipe(), MACHINE)
        assert one_line(caught) == (
            f"{folder} is not empty, and holds no run: it holds {name}. "
            "Choose a new folder, or an empty one, with --out."
        )
        with pytest.raises(StorageError, match=f"it holds {name}"), Run(folder).held():
            pass
        assert {path.name: path.read_text() for path in folder.iterdir()} == {name: text}


def test_a_beginning_that_was_killed_may_be_begun_again(run: Run) -> None:
    (run.folder / "recipe.toml").unlink()  # the second file that is written
    (run.folder / ".recipe.toml.abcdefgh.part").touch()
    (run.folder / ".DS_Store").touch()
    (run.folder / ".fieldmark").write_text("Fieldmark made this folder for a run, and replaces its own files in it.\n")
    assert not run.exists
    with run.held():
        assert Run.create(run.folder, Recipe(seed=2), MACHINE).recipe().seed == 2
    assert {path.name for path in run.folder.iterdir()} == {
        ".DS_Store", ".fieldmark", ".lock", "environment.json", "recipe.toml"
    }  # fmt: skip


def test_what_killed_trainings_left_is_swept(run: Run) -> None:
    places = [run.folder, run.bundle, run.folder / "checkpoints", run.evaluation("val")]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
        (place / ".model.json.a_3bcdef.part").touch()
    (run.folder / "report").mkdir()
    (run.folder / "report" / ".index.html.abcdefgh.part").touch()  # of another command, which may be at work
    with run.held():  # a run without a mark is known by what its files say
        assert [path for path in run.folder.rglob("*.part") if path.parent.name != "report"] == []
    assert len(list(run.folder.rglob("*.part"))) == 1


def test_a_file_stands_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("here first")
    with pytest.raises(StorageError) as caught:
        Run.create(tmp_path / "run", Recipe(), MACHINE)
    assert "there is a file where a folder is needed" in one_line(caught)


@pytest.mark.parametrize("text", [None, "", "{", "[]"])
def test_a_folder_that_is_no_run(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "environment.json").write_text(text)
    with pytest.raises(RunError) as caught:
        Run.open(tmp_path)
    assert one_line(caught) == (
        f"{tmp_path} is not a run folder: it has no readable environment.json. "
        "Give the folder that was named with `fieldmark train … --out`."
    )


def test_a_run_of_another_format(run: Run) -> None:
    (run.folder / "environment.json").write_text('{"format": 7}')
    with pytest.raises(RunError) as caught:
        Run.open(run.folder)
    assert one_line(caught) == (
        f"{run.folder} is a run of format 7, but this version of Fieldmark reads 1. "
        "Use the version that wrote it, or train again."
    )


def test_a_damaged_recipe(run: Run) -> None:
    (run.folder / "recipe.toml").write_text("[train\n")
    with pytest.raises(RunError, match=r"recipe\.toml cannot be read"):
        run.recipe()


def test_the_data_is_remembered(tmp_path: Path, run: Run, catalog: Catalog) -> None:
    assert run.data() == {}
    run.write_data(tmp_path / "data", catalog, PICTURES)
    data = run.data()
    assert (data["name"], data["classes"], data["num_images"]) == ("birds", ["finch", "gull"], 3)
    assert data["counts"] == {"train": 1, "val": 1, "test": 1}
    assert data["taxonomy"] == {"genus": ["x", "y"]}
    assert data["source"] == str((tmp_path / "data").resolve())
    assert run.splits() == {"a.jpg": "train", "b, c.jpg": "val", "ü.jpg": "test"}
    assert [row["copy_of"] for row in run.images()] == ["", "", ""]
    run.write_data(tmp_path / "data", catalog, PICTURES, copy_of=["", "", "b, c.jpg"])  # the same again
    assert [row["copy_of"] for row in run.images()] == ["", "", "b, c.jpg"]


def test_an_address_is_remembered_as_one(run: Run, catalog: Catalog) -> None:
    run.write_data(Path("s3://bucket/birds"), catalog, PICTURES)
    assert run.data()["source"] == "s3://bucket/birds"
    for same in (Path("s3://bucket/birds"), "s3://bucket/birds", "s3://bucket/birds/"):
        assert is_source(run.data(), same)
    assert not is_source(run.data(), "s3:/bucket/other")


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"paths": ("z.jpg", "b, c.jpg", "ü.jpg")}, "train changed"),
        ({"splits": np.array(["train", "test", "val"])}, "val, test changed"),
        ({"labels": np.array([1, 1, 1])}, "train changed"),
        ({"classes": ("finch", "tern"), "taxonomy": None}, "val, test changed"),
        ({"classes": ("finch", "gull", "tern"), "taxonomy": None}, "the class names changed"),
    ],
)
def test_data_that_has_changed(tmp_path: Path, run: Run, catalog: Catalog, change: dict[str, Any], what: str) -> None:
    run.write_data(tmp_path / "data", catalog, PICTURES)
    with pytest.raises(RunError) as caught:
        run.write_data(tmp_path / "data", replace(catalog, **change), PICTURES)
    assert one_line(caught) == (
        f"The data is not what this run began with: {what}. "
        f"Put {tmp_path / 'data'} back as it was, or start a new run with another --out."
    )


def test_pictures_that_were_exchanged(tmp_path: Path, run: Run, catalog: Catalog) -> None:
    run.write_data(tmp_path / "data", catalog, PICTURES)
    with pytest.raises(RunError) as caught:
        run.write_data(tmp_path / "data", catalog, PICTURES[[1, 0, 2]])
    assert one_line(caught) == (
        "The data is not what this run began with: other pictures have the names of those in train, val. "
        f"Put {tmp_path / 'data'} back as it was, or start a new run with another --out."
    )


def test_the_log(run: Run) -> None:
    assert run.history() == []
    for fit, epoch, loss in (("model", 1, 0.9), ("model", 2, 0.5), ("fold 0", 1, 0.8), ("model", 2, 0.4)):
        run.log({"fit": fit, "epoch": epoch, "step": 1, "seconds": 2.0, "loss": loss})
    assert [(line["fit"], line["epoch"], line["loss"]) for line in run.history()] == [
        ("fold 0", 1, 0.8),
        ("model", 1, 0.9),
        ("model", 2, 0.4),  # an epoch that was done twice: the last counts
    ]


@pytest.mark.parametrize("torn", [b'{"fit": "mod', b'{"fit": "f\xc3', b"\x00\x00\x00", b""])
def test_a_log_whose_last_line_was_torn(run: Run, torn: bytes) -> None:
    run.log({"fit": "model", "epoch": 1, "step": 1, "seconds": 2.0})
    with (run.folder / "log.jsonl").open("ab") as file:
        file.write(torn)
    assert [line["epoch"] for line in run.history()] == [1]
    run.log({"fit": "model", "epoch": 2, "step": 2, "seconds": 4.0})
    assert [line["epoch"] for line in run.history()] == [1, 2]


def test_memory_is_the_most_over_all_sittings(tmp_path: Path) -> None:
    run = Run.create(tmp_path / "run", Recipe(), MACHINE)
    assert run.memory() == {}
    run.keep_memory()
    taken = run.memory()["process"]
    assert 50e6 < taken < 1e12  # torch alone takes more
    (run.folder / "memory.json").write_text(json.dumps({"process": 10**13}))
    run.keep_memory()
    assert run.memory()["process"] == 10**13


def test_a_finished_run_leaves_alone_what_an_evaluation_is_writing(run: Run) -> None:
    left = [place / ".scores.json.abcdefgh.part" for place in (run.evaluation("val"), run.folder)]
    run.evaluation("val").mkdir(parents=True)
    run.bundle.mkdir()
    (run.bundle / "model.json").touch()
    for path in left:
        path.touch()
    with run.held():
        assert [path.exists() for path in left] == [True, False]


def test_a_run_of_before_does_not_know_its_pictures(run: Run, catalog: Catalog) -> None:
    run.write_data(catalog.root, catalog, PICTURES)
    facts = json.loads((run.folder / "data.json").read_text())
    del facts["pictures"]
    (run.folder / "data.json").write_text(json.dumps(facts))
    run.write_data(catalog.root, catalog, PICTURES)
    assert "pictures" in run.data()
