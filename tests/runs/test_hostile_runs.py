"""Files of a run that were damaged or written to do harm are refused in one line, and nothing else is opened."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import matplotlib
import numpy as np
import pytest

from fieldmark.commands.evaluate import evaluate
from fieldmark.core.arrays import Array, parse_arrays
from fieldmark.core.errors import FieldmarkError, RunError
from fieldmark.core.reading import parse_json, read_json
from fieldmark.core.storage import array_bytes, as_json, read_rows, write_json, write_rows
from fieldmark.evaluation.metrics import Score
from fieldmark.reporting.background import background
from fieldmark.reporting.composition import compose
from fieldmark.reporting.material import gather
from fieldmark.reporting.training import model, time
from fieldmark.runs.record import CLASS_COLUMNS, read_scores
from fieldmark.runs.run import Run
from support.watching import watched

STRANGE: list[Any] = [None, -1, 2**70, "\x1b[2J", [], {"a": 1}, [[[]]], True, 1e308, "../../../etc/passwd"]
RAW = [b"", b"[" * 100_000, b"null", b'{"format": NaN}', b"\xff\xfe", b"9" * 10_000, b'{"format": 1, "format": 1}']
TABLES = ["splits.csv", "evaluation/val/predictions.csv", "evaluation/val/classes.csv"]
FILES = ["environment.json", "data.json", "times.json", "memory.json", "log.jsonl", "evaluation/val/scores.json"]


def look(run: Run, pictures: Path, *, whole: bool = False) -> None:
    """Read all of a run, as a report does, which makes plots too if it is `whole`."""
    with watched(run.folder, Path(matplotlib.get_cachedir()), pictures) as seen:
        try:
            material = gather(run, None)
            model(material), time(material), background(material), material.run.history()
            if whole:
                compose(material)
            run.machine()
        except FieldmarkError as error:
            text = str(error)
        else:
            text = ""
    assert seen == []
    assert "\n" not in text
    assert len(text) < 1000


@pytest.mark.parametrize("name", FILES)
def test_strange_values(trained: Run, pictures: Path, name: str) -> None:
    path = trained.folder / name
    before = path.read_bytes()
    for data in RAW:
        path.write_bytes(data)
        look(trained, pictures)
    values, rng = json.loads(before.splitlines()[0] if name.endswith("l") else before), np.random.default_rng(0)
    for key in values:
        strange = STRANGE[rng.integers(len(STRANGE))]
        path.write_text(json.dumps(values | {key: strange}))
        look(trained, pictures)
        path.write_text(json.dumps({k: v for k, v in values.items() if k != key}))
        look(trained, pictures)
    path.write_bytes(before)
    look(trained, pictures)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "it has no column "),
        (b"caf\xe9,split\n", "it is not UTF-8"),
        (b"a,b\n1,2\n", "it has no column "),
        (b'a,"' + b"x" * 200_000 + b'"\n', "field larger than field limit"),
        (None, "it is not a regular file"),
    ],
)
@pytest.mark.parametrize("name", TABLES)
def test_damaged_tables(trained: Run, name: str, data: bytes | None, problem: str) -> None:
    path = trained.folder / name
    path.unlink(missing_ok=True)
    if data is None:
        if not hasattr(os, "mkfifo"):
            pytest.skip("no pipes on this system")
        os.mkfifo(path)
    else:
        path.write_bytes(data)
    with pytest.raises(RunError) as caught:
        assert gather(trained, None).images
    assert str(caught.value).startswith(f"{path} cannot be read: {problem}")
    assert caught.value.hint
    with pytest.raises(RunError):
        compose(gather(trained, None))


def test_a_row_that_was_cut_short(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("path,split\na.jpg,train\nb.j")
    with pytest.raises(RunError, match=r"row 2 below the header has 1 cell, but there are 2 columns\. Do it again"):
        read_rows(path, ["path"], hint="Do it again.")


@pytest.mark.parametrize("column", CLASS_COLUMNS[1:])
@pytest.mark.parametrize("cell", ["zero", "nan"])
def test_a_score_of_a_class_is_a_number(trained: Run, column: str, cell: str) -> None:
    row = dict.fromkeys(CLASS_COLUMNS, "") | {"class": "jade", column: cell}
    write_rows(trained.evaluation("val") / "classes.csv", CLASS_COLUMNS, [list(row.values())])
    with pytest.raises(RunError, match=cell):
        gather(trained, None)


@pytest.mark.parametrize("change", [{"promises": {"x": 0.5}}, {"promises": {"nan": 0.5}}, {"risk": []}])
def test_what_a_report_says_of_verdicts_is_checked(trained: Run, change: dict[str, Any]) -> None:
    path = trained.evaluation("val") / "scores.json"
    verdicts = {"risk": [0.5], "shares": {}, "promised": 0.95, "promises": {"0.9": None, "0.95": 0.5}}
    write_json(path, json.loads(path.read_text()) | {"verdicts": verdicts})
    assert compose(gather(trained, None))
    write_json(path, json.loads(path.read_text()) | {"verdicts": verdicts | change})
    with pytest.raises(RunError, match=rf"verdicts\.{next(iter(change))}"):
        gather(trained, None)


@pytest.mark.parametrize("found", [5, {"bits": "a"}, {"bits": 0}, {}])
def test_the_depth_of_greys_is_checked(trained: Run, found: Any) -> None:
    trained.decide("grey_bits", {"bits": 12, "largest": 4095, "pictures": 3})
    assert gather(trained, None)
    trained.decide("grey_bits", found)
    with pytest.raises(RunError, match=r"environment\.json cannot be read: .*grey_bits"):
        gather(trained, None)


def test_splits_that_are_lost(trained: Run) -> None:
    path = trained.folder / "splits.csv"
    path.unlink()
    with pytest.raises(RunError, match=r"splits\.csv cannot be read: .*Put back the splits\.csv that training wrote"):
        evaluate(trained.folder)
    (trained.folder / "data.json").unlink()
    assert trained.images() == []


@pytest.mark.parametrize("old", ["train", "jade/"])
def test_splits_that_were_edited(trained: Run, old: str) -> None:
    path = trained.folder / "splits.csv"
    path.write_text(path.read_text().replace(old, "test" if old == "train" else "plum/"))
    with pytest.raises(RunError, match=r"splits\.csv is not what training wrote: train"):
        evaluate(trained.folder)
    path.write_text("path,split,label\n")
    with pytest.raises(RunError, match="is not what training wrote: train, val, test changed"):
        trained.splits()


def test_splits_of_before_have_no_label(trained: Run) -> None:
    known = trained.splits()
    write_rows(trained.folder / "splits.csv", ["path", "split"], list(known.items()))
    assert trained.splits() == known


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("environment.json", {"machine": None}, "machine is None, but it should be a valid dictionary"),
        ("environment.json", {"started": 3}, "started is 3, but it should be a valid string"),
        ("data.json", {"classes": [1]}, "classes.0 is 1, but it should be a valid string"),
        ("data.json", {"num_images": 2**70}, "num_images is 1180591620717411303424, but it should be less than"),
    ],
)
def test_the_line_says_what_is_wrong_where(trained: Run, name: str, change: dict[str, Any], problem: str) -> None:
    path = trained.folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    read: Callable[[], object] = trained.data if name == "data.json" else trained.environment
    with pytest.raises(RunError) as caught:
        read()
    assert str(caught.value).startswith(f"{path} cannot be read: {problem}")


def test_what_a_later_version_adds_is_kept(trained: Run) -> None:
    path = trained.folder / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"later": {"a": 1}}))
    trained.decide("other", {"b": 2})
    trained.move(trained.machine())
    assert trained.decided("other") == {"b": 2}
    assert json.loads(path.read_text())["later"] == {"a": 1}


def test_a_figure_that_is_no_number_comes_back_as_one(trained: Run) -> None:
    path = trained.evaluation("val") / "scores.json"
    scores = json.loads(path.read_text())
    write_json(path, scores | {"nll": Score(float("nan"), float("-inf"), 1.0).as_dict()})
    assert "NaN" not in path.read_text()
    assert "Infinity" not in path.read_text()
    found = Score.of(read_scores(trained.evaluation("val"))["nll"])
    assert np.isnan([found.value, found.low]).all()
    assert found.high == 1
    assert as_json([float("inf"), {"a": (1.0, float("nan"))}]) == '[null, {"a": [1.0, null]}]'


def test_pictures_of_a_page_lie_in_the_run(trained: Run) -> None:
    folder = trained.evaluation("val")
    score = {"value": 0.5, "low": 0.4, "high": 0.6}
    example = {"path": "a.png", "label": "a", "files": {"whole": "../../../../x.jpg"}, "said": {"whole": "a"}}
    found = {"accuracy": {"whole": score}, "chance": 0.3, "num_images": 3, "known_by": "boxes", "advice": "Good"}
    (folder / "background.json").write_text(json.dumps(found | {"examples": [example]}))
    with pytest.raises(RunError, match=r"examples\.0\.files\.whole is '\.\./\.\./\.\./\.\./x\.jpg', but "):
        background(gather(trained, None))
    example["files"] = {"whole": "background/0-whole.jpg"}
    (folder / "background.json").write_text(json.dumps(found | {"examples": [example]}))
    assert background(gather(trained, None)) is not None


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b'{"a": 1, "a": 2}', "the key 'a' occurs twice"),
        (b'{"a": NaN}', "'NaN' is not a finite number"),
        (b'{"a": -Infinity}', "'-Infinity' is not a finite number"),
        (b'{"a": 1e999}', "'1e999' is not a finite number"),
        (b'{"a": ' + b"1" * 2000 + b"}", "has too many digits"),
        (b"[" * 100_000, "it is nested too deeply"),
        (b"\xff", "it is not UTF-8"),
        (b'{"\\ud800": 1}', "a text in it has half a character"),
        (b"{", "it is not JSON"),
        (b'{"a": true}', "a is True, but it should be a valid integer"),
        (b'{"a": 1.0}', "a is 1.0, but it should be a valid integer"),
        (b"3", "its content is 3, but it should be a valid dictionary"),
    ],
)
def test_what_json_must_be(data: bytes, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_json(data, dict[str, int])


def test_keys_that_occur_twice_are_found_in_time() -> None:
    """Among many: whoever sends them to a service would else keep it at work for hours."""
    keys = [f"{number}" for number in range(100_000)]
    begun = monotonic()
    with pytest.raises(ValueError, match="the key '99999' occurs twice"):
        parse_json("{" + ",".join(f'"{key}":0' for key in [*keys, keys[-1]]) + "}", dict[str, int])
    assert monotonic() - begun < 10


def test_absent_is_not_damaged(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "absent.json", dict[str, int])


SHAPES = {
    "a": Array("float", ("K", "D"), least=0, most=1),
    "b": Array("int64", ("N",), least=0, most="K"),
    "c": Array("float", ("D",), ascending=True, optional=True),
    "d": Array("float", ("T",), optional=True, shortest=1),
}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"a": np.zeros((2, 3))}, "the array 'a' is of shape (2, 3), where (3, 3) was expected"),
        ({"a": np.zeros(3)}, "the array 'a' is of shape (3,), where (3, 'D') was expected"),
        ({"a": np.zeros((3, 2), np.int64)}, "the array 'a' is of type int64, where float was expected"),
        ({"a": np.full((3, 2), np.nan)}, "the array 'a' has values from nan to nan, where 0 to 1 was expected"),
        ({"b": np.array([3])}, "the array 'b' has values from 3 to 3, where 0 to 2 was expected"),
        ({"d": np.zeros(0)}, "the array 'd' has 0 values, where at least 1 was expected"),
        ({"c": np.zeros(5)}, "the array 'c' is of shape (5,), where (2,) was expected"),
        ({"c": np.array([1.0, 0.5])}, "the array 'c' is not in ascending order"),
        ({"c": np.array([0.0, np.inf])}, "the array 'c' has values from 0 to inf"),
    ],
)
def test_what_arrays_must_be(change: dict[str, Any], problem: str) -> None:
    right = {"a": np.zeros((3, 2)), "b": np.array([0, 2]), "further": np.zeros(9)}
    assert set(parse_arrays(array_bytes(right), SHAPES, {"K": 3})) == {"a", "b"}
    with pytest.raises(ValueError, match=re.escape(problem)):
        parse_arrays(array_bytes(right | change), SHAPES, {"K": 3})
