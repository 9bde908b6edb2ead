"""`fieldmark predict --out`: any number of photographs, each answered once, whatever happens meanwhile."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import fieldmark
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.record import read_answers
from fieldmark.answering.stream import BATCH
from fieldmark.commands.predict import predict
from fieldmark.commands.predict_into import predict_into
from fieldmark.core.errors import DataError, FieldmarkError, RunError, StorageError
from fieldmark.core.listener import Advanced, Event, Listener
from fieldmark.data.bursts import taken
from fieldmark.evaluation.verdict import Verdict
from fieldmark.runs.run import Run

Cli = Callable[..., Any]
ODD = [
    "a b.jpg",
    "quo'te.jpg",
    "new\nline.jpg",
    "<script>alert(1)<.jpg",
    "=1+1.jpg",
    "é.jpg",
    "[1].jpg",
    "-x.jpg",
]


@pytest.fixture
def photographs(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """new/ in the current folder: 12 pictures in two cameras' folders and two that are none."""
    monkeypatch.chdir(tmp_path)
    for number, source in enumerate(sorted(pictures.rglob("*.png"))[::3][:12]):
        camera = tmp_path / "new" / f"camera {number % 2}"
        camera.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, camera / f"{number}.png")
    (tmp_path / "new/camera 0/broken.jpg").write_bytes(b"no picture")
    (tmp_path / "new/empty.jpg").touch()
    return tmp_path / "new"


def rows_of(file: Path) -> list[dict[str, str]]:
    with file.open(newline="", encoding="utf-8") as opened:
        return list(csv.DictReader(opened))


# ---- what is written


def test_the_answers_are_those_of_the_terminal(photographs: Path, trained: Run) -> None:
    done = predict_into(trained.folder, ["new"], "season.jsonl")
    assert done.finished
    assert done.num_pictures == 14
    assert sorted(done.skipped) == ["new/camera 0/broken.jpg", "new/empty.jpg"]
    lines = [json.loads(line) for line in Path("season.jsonl").read_text().splitlines()]
    verdicts = {one.path: one.as_dict() for one in predict(trained.folder, ["new"]) if isinstance(one, Verdict)}
    assert {line["path"]: line for line in lines if "skipped" not in line} == verdicts
    assert {line["path"]: line["skipped"] for line in lines if "skipped" in line} == done.skipped
    assert [line["path"] for line in lines] == sorted([*verdicts, *done.skipped], key=os.path.split)


def test_a_table_has_every_picture_and_a_column_per_class(photographs: Path, trained: Run) -> None:
    predict_into(trained.folder, ["new"], "season.csv", probabilities=True)
    rows, predictor = rows_of(Path("season.csv")), Predictor.load(trained.bundle)
    read = [row for row in rows if not row["skipped"]]
    assert (len(rows), len(read)) == (14, 12)
    for row, numbers in zip(read, predictor.predict_proba([row["path"] for row in read]), strict=True):
        for name, number in zip(predictor.classes, numbers, strict=True):
            assert float(row[f"probability.{name}"]) == pytest.approx(number, abs=1e-5)


def test_the_record_is_written_again_without_the_photographs(photographs: Path, trained: Run) -> None:
    predict_into(trained.folder, ["new"], "season.csv")
    rows = rows_of(Path("season.csv"))
    shutil.rmtree("new")
    predict_into(trained.folder, "season.answers.jsonl", "again.csv")
    assert rows_of(Path("again.csv")) == rows
    predict_into(trained.folder, ["season.answers.jsonl"], "few.csv", candidates=1, among=["jade", "plum"])
    assert {row["label"] for row in rows_of(Path("few.csv"))} <= {"jade", "plum", ""}
    assert all(";" not in row["candidates"] for row in rows_of(Path("few.csv")))


def test_folders_and_bursts_get_answers_of_their_own(photographs: Path, trained: Run) -> None:
    for number, seconds in enumerate((0, 5, 40, 41)):
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2026:05:01 06:00:{seconds:02}"
        with Image.open(next(photographs.rglob("*.png"))) as image:
            image.convert("RGB").save(photographs / "camera 1" / f"burst{number}.jpg", exif=exif)
    predict_into(trained.folder, ["new"], "folders.csv", bursts=True)
    folders = [row for row in rows_of(Path("folders.csv")) if row["frames"] not in ("", "1")]
    assert [(row["path"], row["frames"]) for row in folders] == [("new/camera 0", "6"), ("new/camera 1", "10")]
    predict_into(trained.folder, ["folders.answers.jsonl"], "bursts.csv", gap=10)
    bursts = [row for row in rows_of(Path("bursts.csv")) if row["frames"] not in ("", "1")]
    first = "new/camera 1/burst0.jpg – burst1.jpg", "new/camera 1/burst2.jpg – burst3.jpg"
    assert [(row["path"], row["frames"]) for row in bursts] == [(first[0], "2"), (first[1], "2")]
    told = [one for one in predict(trained.folder, ["new"], gap=10) if isinstance(one, Verdict) and one.frames == 2]
    assert [(one.path, one.label) for one in told] == [(row["path"], row["label"]) for row in bursts]
    with pytest.raises(FieldmarkError, match="contradict"):
        predict_into(trained.folder, ["new"], "x.csv", bursts=True, gap=1)


def photograph(path: Path, *, zone: str = "", seconds: int | None = None) -> str:
    exif = Image.Exif()
    details = exif.get_ifd(0x8769)
    details |= {0x9011: zone} if zone else {}
    if seconds is not None:
        details[0x9003] = f"2026:05:01 06:00:{seconds:02}"
    Image.new("RGB", (24, 24)).save(path, exif=exif)
    return str(path)


@pytest.mark.parametrize(("zone", "known"), [("+02:00", True), ("-23:59", True), ("+25:00", False), ("+02:60", False)])
def test_zones_that_no_clock_has_are_passed_over(tmp_path: Path, zone: str, known: bool) -> None:
    found = taken(Path(photograph(tmp_path / "a.jpg", zone=zone, seconds=1)))
    assert found is not None
    assert found.zone == (zone if known else "")


@pytest.mark.parametrize("seconds", [None, 1])
def test_a_photograph_that_is_named_often_is_no_burst(trained: Run, tmp_path: Path, seconds: int | None) -> None:
    paths = [photograph(tmp_path / "a.png", seconds=seconds)] * (BATCH + 1)
    assert [one.path for one in predict(trained.folder, paths, gap=10)] == paths
    *_, folder = predict(trained.folder, paths, bursts=True)
    assert isinstance(folder, Verdict)
    assert folder.frames == 1


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows none of these names")
def test_odd_names_come_out_whole(photographs: Path, trained: Run) -> None:
    source = next(photographs.rglob("*.png")).read_bytes()
    shutil.rmtree(photographs)
    odd = [*ODD, *([os.fsdecode(b"latin \xe9.jpg")] if sys.platform == "linux" else [])]
    (photographs / "<b>").mkdir(parents=True)
    for name in odd:
        (photographs / "<b>" / name).write_bytes(source)
    predict_into(trained.folder, ["new"], "season.csv")
    written = {row["path"] for row in rows_of(Path("season.csv"))}
    assert {f"new/<b>/{name}" for name in ODD} <= written
    assert ("new/<b>/latin \\xe9.jpg" in written) == (sys.platform == "linux")
    again = predict_into(trained.folder, ["new"], "season.csv", resume=True)
    assert again.num_pictures == len(odd)
    predict_into(trained.folder, ["new"], "season.jsonl", resume=True)
    lines = [json.loads(line) for line in Path("season.jsonl").read_text().splitlines()]
    assert {line["path"] for line in lines} == written


# ---- going on


class StopAfter(Listener):
    """Asks to stop after so many batches."""

    def __init__(self, batches: int) -> None:
        self.batches, self.heard = batches, list[Event]()

    def hear(self, event: Event) -> None:
        self.heard.append(event)
        self.batches -= isinstance(event, Advanced)

    def stoppable(self) -> Any:
        from contextlib import nullcontext

        return nullcontext(lambda: self.batches <= 0)


def test_what_was_stopped_goes_on(
    pictures: Path, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    total = len(list(pictures.rglob("*.png")))
    assert total > 32
    stopped = predict_into(trained.folder, [pictures], "a.csv", listener=StopAfter(1))
    assert not stopped.finished
    assert stopped.num_pictures == 32
    assert not Path("a.csv").exists()
    with pytest.raises(RunError, match="holds answers already"):
        predict_into(trained.folder, [pictures], "a.csv")
    engine = Counting(trained)
    done = predict_into(engine.predictor, [pictures], "a.csv", resume=True)
    assert done.num_pictures == total
    assert engine.seen == total - 32
    assert len({row["path"] for row in rows_of(Path("a.csv"))}) == len(rows_of(Path("a.csv"))) == total
    predict_into(engine.predictor, [pictures], "a.csv", resume=True)
    assert engine.seen == total - 32


class Counting:
    """A predictor that counts what its network sees."""

    def __init__(self, run: Run) -> None:
        loaded = Predictor.load(run.folder)
        self.seen = 0

        def count(images: Any) -> Any:
            self.seen += len(images)
            return loaded.engine(images)

        self.predictor = Predictor(loaded.bundle, engine=count)


def test_a_folder_may_change_meanwhile(photographs: Path, trained: Run) -> None:
    files = sorted(photographs.rglob("*.png"))
    engine = Counting(trained)
    show = engine.predictor.see

    def see(thing: Any) -> Any:
        files[-1].unlink(missing_ok=True)
        return show(thing)

    engine.predictor.see = see  # type: ignore[method-assign]  # a stand-in
    done = predict_into(engine.predictor, ["new"], "a.csv")
    assert done.num_pictures == 14
    assert len(done.skipped) == 3
    shutil.copy(files[0], photographs / "later.png")
    done = predict_into(trained.folder, ["new"], "a.csv", resume=True)
    assert done.num_pictures == 15
    assert "new/later.png" in {row["path"] for row in rows_of(Path("a.csv"))}


def test_what_was_skipped_is_tried_again_without_its_lines(photographs: Path, trained: Run) -> None:
    predict_into(trained.folder, ["new"], "a.csv")
    shutil.copy(next(photographs.rglob("*.png")), photographs / "empty.jpg")
    assert "new/empty.jpg" in predict_into(trained.folder, ["new"], "a.csv", resume=True).skipped
    lines = Path("a.answers.jsonl").read_bytes().splitlines(keepends=True)
    Path("again.answers.jsonl").write_bytes(b"".join(line for line in lines if b'"skipped":' not in line))
    again = predict_into(trained.folder, ["new"], "again.csv", resume=True)
    assert list(again.skipped) == ["new/camera 0/broken.jpg"]
    assert again.num_pictures == 14


def test_shards_share_the_pictures_and_are_joined(photographs: Path, trained: Run, cli: Cli) -> None:
    whole = predict_into(trained.folder, ["new"], "whole.csv")
    for number in (1, 2, 3):
        answer = cli("predict", trained.folder, "new", "--out", "s.csv", "--shard", f"{number}/3")
        assert answer.status in (0, 1)
        assert "Next, when all shards are there" in answer.err
        assert not Path("s.csv").exists()
    records = sorted(Path().glob("s.*.answers.jsonl"))
    assert sum(len(read_answers([record])) for record in records) == whole.num_pictures
    answer = cli("predict", trained.folder, *records, "--out", "s.csv")
    assert answer.status == 1
    assert rows_of(Path("s.csv")) == rows_of(Path("whole.csv"))
    answer = cli("predict", trained.folder, *reversed(records), "--out", "s.csv", "--candidates", "1")
    assert answer.status == 1, answer.err  # what was written from records together is replaced
    answer = cli("predict", trained.folder, *records[:2], "--out", "t.csv")
    assert "warning: Of 3 shards these are missing: 3/3." in answer.err
    with pytest.raises(FieldmarkError, match="when the shards are joined"):
        predict_into(trained.folder, ["new"], "x.csv", shard="1/2", bursts=True)
    with pytest.raises(FieldmarkError, match="not understood"):
        predict_into(trained.folder, ["new"], "x.csv", shard="3/2")
    with pytest.raises(FieldmarkError, match="not all that was given is one"):
        predict_into(trained.folder, ["new", str(records[0])], "x.csv")


def test_a_record_replaces_what_was_written_from_it(photographs: Path, trained: Run, cli: Cli) -> None:
    """The commands of the guide, one after another."""
    cli("predict", trained.folder, "new", "--out", "season.csv")
    for options in (["--sort-into", "sorted"], ["--candidates", "1"], []):
        answer = cli("predict", trained.folder, "season.answers.jsonl", "--out", "season.csv", *options)
        assert answer.status == 1, answer.err
    assert len([path for path in Path("sorted").rglob("*") if path.is_symlink()]) == 14
    Path("season.csv").write_text("precious")
    assert "is in the way" in cli("predict", trained.folder, "season.answers.jsonl", "--out", "season.csv").complaint


def test_what_is_missing_from_a_record_is_told(photographs: Path, trained: Run, cli: Cli) -> None:
    predict_into(trained.folder, ["new"], "a.csv")
    record = Path("a.answers.jsonl")
    record.write_bytes(record.read_bytes().replace(b"new/empty.jpg", b"new/Empty.jpg", 1))
    told = cli("predict", trained.folder, record, "--out", "b.csv").err
    assert "warning: These records are not finished; pictures are missing from them: a.answers.jsonl." in told
    assert "warning: 1 line of them cannot be read: run again with --resume to answer their pictures." in told


# ---- what is refused


def test_nothing_of_the_users_is_replaced(photographs: Path, trained: Run) -> None:
    Path("mine.csv").write_text("precious")
    with pytest.raises(StorageError, match="is in the way"):
        predict_into(trained.folder, ["new"], "mine.csv")
    assert Path("mine.csv").read_text() == "precious"
    predict_into(trained.folder, ["new"], "a.csv")
    predict_into(trained.folder, ["new"], "a.csv", resume=True, candidates=1)
    Path("a.csv").write_text(Path("a.csv").read_text() + "precious\n")
    with pytest.raises(StorageError, match="or it changed since"):
        predict_into(trained.folder, ["new"], "a.csv", resume=True)
    assert Path("a.csv").read_text().endswith("precious\n")


def test_what_makes_no_sense_is_refused(photographs: Path, trained: Run, cli: Cli) -> None:
    with pytest.raises(DataError, match="is no file"):
        predict_into(trained.folder, [b"bytes"], "a.csv")
    assert "does not say what to write" in cli("predict", trained.folder, "new", "--out", "a.txt").complaint
    assert "--shard needs a file to write to" in cli("predict", trained.folder, "new", "--shard", "1/2").complaint
    assert "is not for the terminal" in cli("predict", trained.folder, "new", "--format", "megadetector").complaint
    assert "is for the terminal" in cli("predict", trained.folder, "new", "--out", "a.csv", "--format=table").complaint
    refused = cli("predict", trained.folder, "new", "--out", "a.csv", "--accuracy", "0.99999").complaint
    assert "cannot be promised" in refused
    assert not list(Path().glob("a*"))
    both = cli("predict", trained.folder, "new", "--bursts", "--gap", "2").complaint
    assert "--bursts and --gap contradict each other" in both


@pytest.mark.parametrize(
    ("option", "value"),
    [("shard", "1/2"), ("boxes", "md.json"), ("resume", True), ("confidence", 0.5), ("columns", {"path": "file"})],
)
def test_records_have_no_options_of_photographs(tmp_path: Path, option: str, value: Any) -> None:
    with pytest.raises(FieldmarkError, match=f"--{option} cannot be given with records of answers"):
        predict_into(tmp_path, ["a.answers.jsonl"], tmp_path / "a.csv", **{option: value})


def test_a_shard_is_understood_before_anything_is_loaded(tmp_path: Path) -> None:
    with pytest.raises(FieldmarkError, match="not understood"):
        predict_into(tmp_path / "no run", ["new"], "x.csv", shard="3/2")


def test_wrong_places_are_refused_before_the_work(photographs: Path, trained: Run) -> None:
    for name in ("a.csv", "mine"):
        (Path(name) / "precious").mkdir(parents=True)
    engine = Counting(trained)
    with pytest.raises(StorageError, match="is a folder, and a file is to be written there"):
        predict_into(engine.predictor, ["new"], "a.csv")
    with pytest.raises(StorageError, match="did not make it for links of photographs"):
        predict_into(engine.predictor, ["new"], "b.csv", sort_into="mine")
    assert engine.seen == 0
    assert [path.name for path in Path("mine").iterdir()] == ["precious"]
    assert not list(Path().glob("*.answers.jsonl"))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_place_that_may_only_be_read(photographs: Path, trained: Run) -> None:
    Path("locked").mkdir(mode=0o500)
    with pytest.raises(StorageError, match="permission denied"):
        predict_into(trained.folder, ["new"], "locked/a.csv")


# ---- killed

_WORK = """
import sys, time
from pathlib import Path
import numpy as np
from fieldmark.answering.predictor import Predictor
from fieldmark.commands.predict_into import predict_into
from fieldmark.evaluation.outputs import Outputs
from fieldmark.runs.bundle import Bundle

bundle = Bundle.load(sys.argv[1])
width = bundle.calibration.means.shape[1] if bundle.calibration else 4

def engine(images):
    time.sleep(0.03)
    means = images.reshape(len(images), -1).mean(1, keepdims=True)
    return Outputs((means * np.arange(len(bundle.classes))).astype("f4"), np.ones((len(images), width), "f4"))

print("ready", flush=True)
predict_into(Predictor(bundle, engine=engine), [sys.argv[2]], sys.argv[3], resume=True)
"""


def killed_until_done(bundle: Path, folder: Path, out: Path, *, kills: int, within: float) -> list[int]:
    """Answer with a network that takes no time, and kill the process at random moments within so many seconds.

    How many answers there were after each kill.
    """
    chance = random.Random(0)
    environment = os.environ | {"PYTHONPATH": str(Path(fieldmark.__file__).parent.parent)}
    command = [sys.executable, "-c", _WORK, str(bundle), str(folder), str(out)]
    there = []
    for _ in range(kills):
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(chance.uniform(0, within))
            process.send_signal(signal.SIGKILL)
        there.append(len(answered_in(out)))
    subprocess.run(command, env=environment, check=True)
    return there


def answered_in(out: Path) -> list[bytes]:
    """The lines of the answers for `out` in its record."""
    record = out.with_suffix(".answers.jsonl")
    lines = record.read_bytes().splitlines() if record.exists() else []
    return [line for line in lines if line.startswith(b'{"path"')]


def planted(folder: Path, count: int, *, one_in: int = 20) -> list[str]:
    """Tiny pictures in folders, one in 20 of them cut short; the paths of these."""
    bad = []
    for number in range(count):
        path = folder / f"{number % 7}" / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (24, 24), (number % 256, number // 256 % 256, 90)).save(path)
        if number % one_in == 3:
            path.write_bytes(path.read_bytes()[:100])
            bad.append(str(path))
    return bad


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
@pytest.mark.parametrize(
    ("count", "kills"), [(400, 3), pytest.param(10_000, 10, marks=pytest.mark.slow)], ids=["400", "10,000"]
)
def test_killed_at_random(trained: Run, tmp_path: Path, count: int, kills: int) -> None:
    bad = planted(tmp_path / "many", count)
    out = tmp_path / "many.csv"
    there = killed_until_done(trained.bundle, tmp_path / "many", out, kills=kills, within=count / 2500)
    assert any(0 < number < count for number in there), "no kill came in the midst of the work"
    rows = rows_of(out)
    assert sorted(row["path"] for row in rows) == sorted(map(str, (tmp_path / "many").rglob("*.jpg")))
    assert sorted(row["path"] for row in rows if row["skipped"]) == sorted(bad)
    assert all(row["label"] for row in rows if not row["skipped"])
    assert len(answered_in(out)) == count  # not one of them was answered twice on the way
