"""The record of answers: wherever it is cut, no picture is answered twice and none is left out."""

from __future__ import annotations

import base64
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fieldmark.answering.answers import Answer, Look, Seen
from fieldmark.answering.lines import line_of
from fieldmark.answering.record import SUFFIX, Header, open_record, read_answers, remembering
from fieldmark.core.errors import RunError, StorageError
from fieldmark.data.bursts import Taken
from fieldmark.data.detections import Detection

HEADER = Header("0" * 64)
ODD = [
    "a b.jpg",
    "quo\"te's.jpg",
    "new\nline.jpg",
    "<script>alert(1)<.jpg",
    os.fsdecode(b"\xff\xfe.jpg"),
    "é.jpg",
]
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0/"), min_size=1) | st.sampled_from(ODD)


@st.composite
def answers(draw: st.DrawFn, path: str) -> Answer:
    if draw(st.booleans()):
        return Answer(path, skipped=draw(texts))
    numbers = st.floats(-30, 30, width=32)
    looks = []
    for _ in range(draw(st.integers(0, 2))):
        box = draw(st.none() | st.tuples(*[st.floats(0, 1)] * 4))
        seen = Seen(np.array(draw(st.lists(numbers, min_size=3, max_size=3)), np.float32), draw(st.floats(-1, 1)))
        looks.append(Look(box and Detection("animal", draw(st.floats(0, 1)), box), draw(st.sampled_from([seen, None]))))
    when = draw(st.none() | st.builds(Taken, st.floats(0, 2e9), texts, st.sampled_from(["", "+02:00"])))
    return Answer(path, tuple(looks), size=draw(st.sampled_from([None, (4, 3)])), taken=when, sequence=draw(texts))


def plain(one: Answer) -> object:
    looks = [
        (look.detection, look.seen and (look.seen.logits.tobytes(), look.seen.near, len(look.seen.attributes)))
        for look in one.looks
    ]
    return one.path, looks, one.skipped, one.size, one.taken, one.sequence


@given(st.data())
@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_answers_come_back_as_they_were(tmp_path: Path, data: st.DataObject) -> None:
    paths = data.draw(st.lists(names, unique=True, max_size=6))
    given_ = [data.draw(answers(path)) for path in paths]
    place = Path(tempfile.mkdtemp(dir=tmp_path)) / f"x{SUFFIX}"
    with open_record(place, HEADER, resume=False) as record:
        record.append(given_)
        record.finish()
    kept = read_answers([place])
    assert [one.path for one in kept] == sorted(paths, key=os.path.split)
    assert sorted(map(plain, kept), key=repr) == sorted(map(plain, given_), key=repr)
    assert kept.damaged == kept.twice == 0
    for line in place.read_bytes().splitlines():
        json.loads(line)  # JSON lines, whatever the names are


@given(st.data())
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_order_of_kills_ends_with_each_answer_once(tmp_path: Path, data: st.DataObject) -> None:
    """A kill may cut the file anywhere, and a dying disk may change what it has written."""
    asked = [f"{number} {ODD[number % len(ODD)]}" for number in range(data.draw(st.integers(1, 12)))]
    place = Path(tempfile.mkdtemp(dir=tmp_path)) / f"x{SUFFIX}"
    with open_record(place, HEADER, resume=False):
        begun = place.stat().st_size
    for _ in range(data.draw(st.integers(0, 4))):
        with open_record(place, HEADER, resume=True) as record:
            lacking = [path for path in asked if path not in record.answered]
            for path in lacking[: data.draw(st.integers(0, 5))]:
                record.append([Answer(path, skipped=path[:2])])
        size = place.stat().st_size
        os.truncate(place, data.draw(st.integers(begun, size)))
        if (size := place.stat().st_size) > begun and data.draw(st.booleans()):
            with place.open("r+b") as file:
                file.seek(data.draw(st.integers(begun, size - 1)))
                file.write(bytes([data.draw(st.integers(0, 255))]))
    with open_record(place, HEADER, resume=True) as record:
        record.append([Answer(path, skipped=path[:2]) for path in asked if path not in record.answered])
    kept = read_answers([place])
    assert sorted(kept.paths) == sorted(asked)
    assert {one.path: one.skipped for one in kept} == {path: path[:2] for path in asked}
    assert kept.twice == 0


def test_what_differs_is_named(tmp_path: Path) -> None:
    place = tmp_path / f"x{SUFFIX}"
    with open_record(place, Header("a", "1/2", root="x"), resume=True) as record:
        record.append([Answer("a.jpg", skipped="no")])
    with open_record(place, Header("a", "1/2", root="y"), resume=True) as record:
        assert record.answered == {"a.jpg"}
    with (
        pytest.raises(RunError, match="what differs: the model, or what is enrolled in it, --shard"),
        open_record(place, Header("b", "2/2"), resume=True),
    ):
        pass
    with pytest.raises(RunError, match="holds answers already"), open_record(place, Header("a", "1/2"), resume=False):
        pass


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    place = tmp_path / f"x{SUFFIX}"
    busy = pytest.raises(RunError, match="Another process is writing")
    with open_record(place, HEADER, resume=True), busy, open_record(place, HEADER, resume=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [f"x{SUFFIX}"]


def test_records_are_joined(tmp_path: Path) -> None:
    places = [tmp_path / f"{number}{SUFFIX}" for number in (1, 2)]
    for number, place in enumerate(places, 1):
        with open_record(place, Header("a", f"{number}/3"), resume=False) as record:
            record.append([Answer(path, skipped=str(number)) for path in (f"{number}.jpg", "both.jpg")])
            if number == 1:
                record.finish()
    kept = read_answers(places)
    assert {one.path: one.skipped for one in kept} == {"1.jpg": "1", "2.jpg": "2", "both.jpg": "1"}
    assert kept.twice == 1
    assert kept.shards == ("1/3", "2/3")
    assert kept.unfinished == (places[1],)
    (both := tmp_path / f"both{SUFFIX}").write_bytes(b"".join(place.read_bytes() for place in places))
    assert read_answers([both]).paths == kept.paths
    with open_record(tmp_path / f"o{SUFFIX}", Header("b"), resume=False):
        pass
    with pytest.raises(RunError, match="cannot be joined, since they differ in this: the model"):
        read_answers([places[0], tmp_path / f"o{SUFFIX}"])


@pytest.mark.parametrize(
    "content", [b"", b"hello\n", b'{"path": "a.jpg"}\n', b'{"fieldmark": "answers"}\n', b"\xff" * 50]
)
def test_what_is_no_record_is_refused(tmp_path: Path, content: bytes) -> None:
    (place := tmp_path / f"x{SUFFIX}").write_bytes(content)
    with pytest.raises(RunError, match="is no record of answers"):
        read_answers([place])
    with pytest.raises(RunError, match="is no record of answers"), open_record(place, HEADER, resume=True):
        pass
    assert place.read_bytes() == content


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no full device")
def test_a_full_disk_is_told(tmp_path: Path) -> None:
    place = tmp_path / f"x{SUFFIX}"
    with open_record(place, HEADER, resume=False) as record:
        place.unlink()
        place.symlink_to("/dev/full")
        with pytest.raises(StorageError, match="the disk is full"):
            record.append([Answer("a.jpg", skipped="no")])
        assert record.answered == set()


def test_any_version_that_was_written_is_ours(tmp_path: Path) -> None:
    """A kill may come after the hash of a new version was kept, and before the version itself was."""
    place = tmp_path / f"x{SUFFIX}"
    with open_record(place, HEADER, resume=False) as record:
        record.append_wrote("x.csv", "1" * 64)
        record.append_wrote("x.csv", "0" * 64)
    with open_record(place, HEADER, resume=True) as record:
        assert record.wrote == {("x.csv", "1" * 64), ("x.csv", "0" * 64)}


def test_errors_of_the_work_are_not_the_records(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"^a broken lens$"), open_record(tmp_path / f"x{SUFFIX}", HEADER, resume=False):
        raise OSError("a broken lens")


def test_work_that_is_refused_leaves_no_record(tmp_path: Path) -> None:
    def work(place: Path, *paths: str) -> None:
        with open_record(place, HEADER, resume=False) as record:
            record.append(Answer(path, skipped="no") for path in paths)
            raise OSError("not here")

    for paths in ((), ("a.jpg",)):
        with pytest.raises(OSError, match="not here"):
            work(tmp_path / f"x{SUFFIX}", *paths)
        assert (tmp_path / f"x{SUFFIX}").exists() == bool(paths)


def finished(place: Path, *paths: str) -> Path:
    with open_record(place, HEADER, resume=True) as record:
        record.append(Answer(path, skipped="no") for path in paths)
        record.finish()
    return place


def test_each_record_is_finished_by_itself(tmp_path: Path) -> None:
    empty, one, two = (
        finished(tmp_path / f"{number}{SUFFIX}", *paths)
        for number, paths in enumerate([(), ("a.jpg",), ("b.jpg", "c.jpg")])
    )
    assert read_answers([empty, one, two]).unfinished == ()
    (both := tmp_path / f"both{SUFFIX}").write_bytes(two.read_bytes() + one.read_bytes() + empty.read_bytes())
    assert read_answers([both]).unfinished == ()
    begun = one.read_bytes().splitlines(keepends=True)[0]
    both.write_bytes(begun + two.read_bytes() + begun)
    assert read_answers([both]).unfinished == (both,)


def test_a_damaged_line_is_missed_until_its_picture_is_answered(tmp_path: Path) -> None:
    place = finished(tmp_path / f"x{SUFFIX}", "a.jpg", "b.jpg")
    place.write_bytes(place.read_bytes().replace(b"a.jpg", b"A.jpg"))
    kept = read_answers([place])
    assert (kept.paths, kept.damaged, kept.unfinished) == (["b.jpg"], 1, (place,))
    assert read_answers([finished(place, "a.jpg")]).unfinished == ()


LOGITS = base64.b64encode(bytes(12)).decode()
TAKEN = {"seconds": 0.0, "camera": "c"}


@pytest.mark.parametrize(
    "values",
    [
        {"raw": "a"},
        {"raw": "é"},
        {"raw": "YS5qcGc=!"},
        {"taken": TAKEN | {"zone": "xx"}},
        {"taken": TAKEN | {"zone": "+24:00"}},
        {"taken": TAKEN | {"seconds": 1e300}},
        {"taken": TAKEN | {"seconds": 253402300800.0}},
        {"taken": TAKEN | {"seconds": -62135596801.0}},
        {"looks": [{"box": [0.0, 0.0, 1.0, 1.0]}]},
        {"looks": [{"box": [0.0, 0.0, 1.0, 1.0], "category": "animal"}]},
        {"looks": [{"logits": LOGITS}]},
    ],
    ids=str,
)
def test_a_line_that_says_nothing_sensible_is_damaged(tmp_path: Path, values: dict[str, object]) -> None:
    """Also if somebody wrote it with the right checksum."""
    place = finished(tmp_path / f"x{SUFFIX}", "b.jpg")
    with place.open("ab") as file:
        file.write(line_of({"path": "a.jpg", "looks": []} | values))
    kept = read_answers([place])
    assert (kept.paths, kept.damaged) == (["b.jpg"], 1)
    assert [one.path for one in kept] == ["b.jpg"]


def test_any_time_of_the_calendar_is_kept(tmp_path: Path) -> None:
    ends = (datetime.min, datetime(9999, 12, 31, 23, 59, 59))
    times = [Taken(one.replace(tzinfo=UTC).timestamp(), "c", "-23:59") for one in ends]
    with open_record(tmp_path / f"x{SUFFIX}", HEADER, resume=True) as record:
        record.append(Answer(str(number), taken=one) for number, one in enumerate(times))
    kept = read_answers([tmp_path / f"x{SUFFIX}"])
    assert [one.taken for one in kept] == times


def test_a_record_that_is_held_by_another_is_only_read(tmp_path: Path) -> None:
    place = finished(tmp_path / f"x{SUFFIX}", "a.jpg")
    kept = read_answers([place])
    with open_record(place, HEADER, resume=True), remembering(kept) as record:
        assert record is None
    with remembering(kept) as record:
        assert record is not None
        record.append_wrote("x.csv", "1" * 64)
    assert read_answers([place]).wrote == {("x.csv", "1" * 64)}
