"""`fieldmark audit`: each defect, planted, is found; the page is safe and small; the exit status says what it means."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.core.listener import Advanced
from fieldmark.data.auditing.class_counts import class_findings
from fieldmark.data.auditing.findings import Audit, Finding
from fieldmark.data.catalog import Catalog
from fieldmark.evaluation.backoff import ACCURACIES, images_for
from fieldmark.fieldguide import draw
from support.hearing import Heard

Cli = Callable[..., Any]
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw(tmp_path_factory.mktemp("guide") / "birds", species=4, images_per_species=24, size=96)


class Table:
    """A drawn guide whose rows can be changed and copied."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (folder / "catalog.csv").open(newline="") as file:
            self.rows: list[dict[str, str]] = list(csv.DictReader(file))

    def of(self, split: str) -> int:
        """The next row of this split that was not asked for yet."""
        for index, row in enumerate(self.rows):
            if row["split"] == split and not row["group"]:
                row["group"] = f"asked {index}"
                return index
        raise AssertionError(split)

    def image(self, index: int) -> Image.Image:
        return Image.open(self.folder / self.rows[index]["path"])

    def add(self, like: int, name: str, content: bytes | Image.Image, **changes: str) -> str:
        row = self.rows[like] | {"group": "", "path": f"images/{name}"} | changes
        path = self.folder / row["path"]
        path.parent.mkdir(exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content.save(path, quality=90, exif=content.getexif())
        self.rows.append(row)
        return row["path"]

    def audit(self, **options: Any) -> Audit:
        with (self.folder / "catalog.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, list(self.rows[0]))
            writer.writeheader()
            writer.writerows(self.rows)
        return fieldmark.audit(self.folder, **options)


@pytest.fixture
def table(guide: Path, tmp_path: Path) -> Table:
    return Table(shutil.copytree(guide, tmp_path / "birds"))


def one(found: Audit, kind: str) -> Finding:
    (finding,) = (finding for finding in found if finding.kind == kind)
    return finding


def paths(found: Audit, kind: str) -> list[list[str]]:
    return [[found.catalog.paths[row] for row in case.rows] for case in one(found, kind).cases]


def test_sound_data(guide: Path, cli: Cli, tmp_path: Path) -> None:
    answer = cli("audit", guide, "--out", tmp_path / "out")
    assert answer.status == 0
    assert "Nothing here would distort scores, but small splits give wide intervals." in answer.out
    assert answer.out.endswith(f"Written to {tmp_path}/out/index.html\n")
    found = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert (found["format"], found["version"], found["spoils"]) == ("fieldmark audit", 2, False)
    assert found["data"]["images"] == 96
    assert {finding["kind"] for finding in found["findings"]} <= {"few-to-test", "few-to-promise"}


def test_progress_is_told_through_all_of_the_work(guide: Path) -> None:
    heard = Heard()
    fieldmark.audit(guide, listener=heard)
    told: dict[str, list[tuple[int, int]]] = {}
    for event in heard.events:
        if isinstance(event, Advanced):
            told.setdefault(event.stage, []).append((event.done, event.total))
    assert list(told) == [
        "Looking at images",
        "Reading orientations",
        "Comparing pictures",
        "Searching for crops and turned copies",
        *(["Comparing pairs"] if "Comparing pairs" in told else []),  # there may be none
    ]
    for steps in told.values():
        assert steps == sorted(steps)
        assert steps[-1][0] == steps[-1][1]


@pytest.mark.parametrize("how", ["identical", "same picture", "cropped", "mirrored", "turned"])
def test_copies_across_splits(table: Table, how: str) -> None:
    row = table.of("train")
    picture = table.image(row)
    content = {
        "identical": (table.folder / table.rows[row]["path"]).read_bytes(),
        "same picture": picture.resize((70, 70)),
        "cropped": picture.crop((9, 4, 92, 90)),
        "mirrored": picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        "turned": picture.rotate(90),
    }[how]
    added = table.add(row, "copy.jpg", content, split="test")
    found = table.audit()
    assert found.spoils
    assert paths(found, "copies-across-splits") == [[table.rows[row]["path"], added]]
    finding = one(found, "copies-across-splits")
    assert finding.cases[0].note == how
    assert "test images (" in finding.text
    assert ("turned-copies" in {one.kind for one in found}) == (how == "turned")


def test_copies_within_a_split(table: Table) -> None:
    same, other = table.of("train"), table.of("train")
    label = next(row["label"] for row in table.rows if row["label"] != table.rows[other]["label"])
    table.add(same, "again.jpg", table.image(same))
    table.add(other, "otherwise.jpg", table.image(other), label=label)
    found = table.audit()
    assert not found.spoils
    assert paths(found, "copies") == [[table.rows[same]["path"], "images/again.jpg"]]
    assert paths(found, "copies-under-two-labels") == [[table.rows[other]["path"], "images/otherwise.jpg"]]
    table.rows[other]["split"] = table.rows[-1]["split"] = "test"
    found = table.audit()
    assert one(found, "copies-under-two-labels").severity == "spoils"


@pytest.mark.parametrize(("split", "severity"), [("train", "notice"), ("test", "spoils")])
def test_damaged_files(table: Table, split: str, severity: str) -> None:
    row = table.of(split)
    data = (table.folder / table.rows[row]["path"]).read_bytes()
    short = table.add(row, "short.jpg", data[: len(data) // 2])
    empty = table.add(row, "empty.jpg", b"")
    other = table.add(row, "text.jpg", b"no picture")
    found = table.audit()
    assert paths(found, "truncated") == [[short], [empty]]
    assert paths(found, "unreadable") == [[other]]
    assert {one(found, kind).severity for kind in ("truncated", "unreadable")} == {severity}


def test_nothing_can_be_read(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.jpg").write_bytes(b"no picture")
    assert paths(fieldmark.audit(tmp_path, out=tmp_path / "out"), "unreadable") == [["a/1.jpg"], ["b/1.jpg"]]


def test_groups_across_splits(table: Table) -> None:
    rows = [table.of("train"), table.of("test"), table.of("test")]
    for row in rows:
        table.rows[row]["group"] = "burst 7"
    found = table.audit()
    assert found.spoils
    assert [sorted(case) for case in paths(found, "groups-across-splits")] == [
        sorted(table.rows[row]["path"] for row in rows)
    ]
    assert one(found, "groups-across-splits").cases[0].note == "burst 7"


def test_small_and_empty_pictures(table: Table) -> None:
    row = table.of("train")
    tiny = table.add(row, "tiny.png", table.image(row).resize((16, 16)), x="", y="", width="", height="")
    grey = [table.add(row, f"grey{i}.png", Image.new("RGB", (96, 96), (90, 90, 90 + i))) for i in range(2)]
    found = table.audit()
    assert paths(found, "tiny") == [[tiny]]
    assert one(found, "tiny").cases[0].note == "16 × 16 pixels"
    assert paths(found, "one-colour") == [[grey[0]], [grey[1]]]


def test_orientation_and_annotations(table: Table) -> None:
    row, other, third = table.of("train"), table.of("train"), table.of("train")
    lying = table.image(row).resize((120, 60))
    lying.getexif()[0x0112] = 6  # upright, it is 60 wide and 120 high
    points = {key: "" for key in table.rows[row] if key.startswith("keypoint.")}
    bad = table.add(row, "lying.jpg", lying, x="20", y="5", width="90", height="50", **points)
    good = table.add(row, "right.jpg", lying, x="5", y="20", width="50", height="90", **points)
    table.rows[other] |= {"x": "50", "width": "60"}
    table.rows[third] |= {"x": "-0.5", "width": "96.2"}
    found = table.audit()
    assert paths(found, "annotations-unturned") == [[bad]]
    assert one(found, "annotations-unturned").severity == "spoils"
    assert "In all, 2 annotated images have such a flag" in one(found, "annotations-unturned").text
    assert paths(found, "annotations-outside") == [[table.rows[other]["path"]]]
    assert paths(found, "exif-orientation") == [[bad], [good]]


def test_numbers_of_classes(table: Table) -> None:
    rare, untaught, *_ = dict.fromkeys(row["label"] for row in table.rows)
    kept = [row for row in table.rows if row["label"] != rare][:]
    kept = [row for row in kept if row["label"] != untaught or row["split"] == "test"]
    table.rows = [*kept, next(row for row in table.rows if row["label"] == rare and row["split"] == "train")]
    found = table.audit()
    assert one(found, "not-in-train").severity == "spoils"
    assert one(found, "not-in-train").cases[0].note.startswith(f"{untaught}: ")
    assert [case.note for case in one(found, "few-to-learn").cases] == [f"{rare}: 1 image"]
    assert {case.note for finding in found if finding.kind == "not-measured" for case in finding.cases} == {rare}
    assert one(found, "unbalanced").cases[1].note == f"{rare}: 1 image"
    assert one(found, "reading").cases


def test_names_do_nothing_on_the_page(table: Table, tmp_path: Path, cli: Cli) -> None:
    row = table.of("train")
    table.add(row, "<img src=x onerror=alert(2)>.jpg", table.image(row), label=EVIL, split="test")
    table.audit()
    answer = cli("audit", table.folder, "--out", tmp_path / "out")
    assert answer.status == 1
    assert "✗" in answer.out
    page = (tmp_path / "out" / "index.html").read_text()
    assert "alert(2)" in page
    assert "<script" not in page
    assert "<img src=x" not in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)|@import|url\((?!#)', page)
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["spoils"] is True


def test_a_thousand_classes(tmp_path: Path) -> None:
    """Every class has a copy across splits, a name of two hundred letters, and one image to learn from."""
    generator = np.random.default_rng(0)
    names = tuple(f"{EVIL} {number:04d} {'x' * 170}" for number in range(1000))
    (tmp_path / "images").mkdir()
    for number in range(100):
        noise = generator.integers(0, 256, (8, 10, 3), dtype=np.uint8)
        picture = Image.fromarray(noise).resize((200, 160), Image.Resampling.BICUBIC)
        picture.save(tmp_path / "images" / f"{number}.jpg", quality=95)
    files = tuple(f"images/{number % 100}.jpg" for number in range(2000))
    labels, splits = np.arange(2000) % 1000, np.where(np.arange(2000) < 1000, "train", "test")
    catalog = Catalog("many", tmp_path, files, labels, names, splits, np.full(2000, ""))
    found = fieldmark.audit(catalog, out=tmp_path / "out")
    assert len(one(found, "copies-across-splits").cases) == 100
    page = (tmp_path / "out" / "index.html").read_bytes()
    assert len(page) < 5e6
    assert page.count(b"<figure>") < 250
    assert len(json.loads((tmp_path / "out" / "audit.json").read_text())["findings"][0]["cases"]) == 100


def test_bad_input(tmp_path: Path, cli: Cli, guide: Path) -> None:
    assert "There is nothing at" in cli("audit", tmp_path / "nowhere").complaint
    (tmp_path / "file").write_text("")
    assert str(tmp_path / "file") in cli("audit", guide, "--out", tmp_path / "file").complaint


def test_flowers(flowers: Path) -> None:
    """The four pairs of byte-identical photographs, among some others."""
    files = sorted(path for path in flowers.glob("jpg/*.jpg"))
    same = {7307, 7309, 7323, 7328, 7885, 7886, 8067, 8077}
    some = [file for file in files if int(file.stem[-5:]) in same or int(file.stem[-5:]) % 25 == 0]
    none = np.full(len(some), "")
    names = tuple(file.relative_to(flowers).as_posix() for file in some)
    catalog = Catalog("flowers", flowers, names, np.zeros(len(some), np.int64), ("a", "b"), none, none)
    found = one(fieldmark.audit(catalog), "copies")
    identical = [case.rows for case in found.cases if case.note == "identical"]
    assert {int(some[row].stem[-5:]) for rows in identical for row in rows} == same
    assert len(identical) == 4


@pytest.mark.parametrize(
    ("parts", "title"),
    [
        ({"": 500}, "about 75 images for validation, too few to promise 95 %"),  # 15 % of them
        ({"": 520}, ""),
        ({"train": 500, "test": 500}, "about 75 images for validation, too few to promise 95 %"),
        ({"train": 500, "val": 76, "test": 500}, "76 images for validation, too few to promise 95 %"),
        ({"train": 100, "val": 77}, ""),
    ],
)
def test_too_few_to_promise(parts: dict[str, int], title: str) -> None:
    splits = np.repeat(list(parts), list(parts.values()))
    paths = tuple(f"{row}.jpg" for row in range(len(splits)))
    catalog = Catalog(
        "made up", Path(), paths, np.arange(len(splits)) % 2, ("a", "b"), splits, np.full(len(splits), "")
    )
    found = [f for f in class_findings(catalog, np.arange(len(splits))) if f.kind == "few-to-promise"]
    assert [finding.title for finding in found] == ([title] if title else [])
    if found:  # the numbers that `train` and `evaluate` go by
        needed = {accuracy: images_for(accuracy) for accuracy in ACCURACIES}
        assert needed[0.95] == 77
        for accuracy, number in needed.items():
            assert re.search(rf"{100 * accuracy:g} % (of the given answers are right )?needs {number}\b", found[0].text)
    one_image = class_findings(catalog, np.zeros(len(splits), np.int64))  # copies of one picture in each class
    assert "few-to-promise" in {finding.kind for finding in one_image}
