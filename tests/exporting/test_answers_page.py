"""The page for looking through answers, in a real browser: verdicts, paging, and names that stay text."""

from __future__ import annotations

import itertools
import json
import os
import re
import sys
from pathlib import Path

import pytest
from PIL import Image

from fieldmark.commands.predict_into import predict_into
from fieldmark.exporting.results import page as page_module
from fieldmark.runs.run import Run
from support.browser import Browser

EVIL = "<img src=x onerror=document.title='taken'>.jpg" if sys.platform != "win32" else "odd.jpg"


@pytest.fixture
def written(pictures: Path, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """look.html for 120 pictures, one of them with a strange name and one that is none."""
    monkeypatch.chdir(tmp_path)
    Path("new").mkdir()
    exif = Image.Exif()
    exif[0x010E] = "secret place"
    sources = sorted(pictures.rglob("*.png"))
    many = [source for source in sources if source.parent == sources[0].parent] * 8  # more than fit on a page of tiles
    for number, source in enumerate((many[:70] + sources * 4)[:119]):
        with Image.open(source) as image:
            image.convert("RGB").save(f"new/{number} %.jpg", exif=exif)
    with Image.open(next(pictures.rglob("*.png"))) as image:
        image.convert("RGB").save(f"new/{EVIL}")
    Path("new/broken.jpg").write_bytes(b"none")
    predict_into(trained.folder, ["new"], "look.html")
    return tmp_path / "look.html"


def told_by(page: Path) -> dict:  # type: ignore[type-arg]  # JSON
    text = page.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="page">(.*?)</script>', text, re.S)[1])  # type: ignore[index]  # it is there


def test_every_answer_is_on_the_page(written: Path) -> None:
    told = told_by(written)
    assert sum(group["count"] for group in told["groups"]) == len(told["items"]) == 120
    assert [item["group"] for item in told["items"]] == sorted(item["group"] for item in told["items"])
    text = written.read_text(encoding="utf-8")
    assert "1 skipped" in text
    assert "secret place" not in text
    assert not re.search(r"(src|href)\s*=\s*[\"']?(https?:|//)|@import|url\(", text)


def test_only_the_least_sure_are_shown_of_many(written: Path, trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = told_by(written)
    monkeypatch.setattr(page_module, "MOST", 30)
    monkeypatch.setattr(page_module, "_AT_LEAST", 4)
    predict_into(trained.folder, ["look.answers.jsonl"], "few.html")
    few = told_by(Path("few.html"))
    assert few["groups"] == whole["groups"]
    assert len(few["items"]) == 30
    for number, group in enumerate(whole["groups"]):
        every = [item for item in whole["items"] if item["group"] == number]
        some = [item for item in few["items"] if item["group"] == number]
        assert len(some) >= min(4, group["count"])
        assert some == every[: len(some)]


@pytest.mark.parametrize(("most", "each"), [(7, [3, 2, 2]), (2, [1, 1, 0])])
def test_a_page_is_bounded_whatever_the_number_of_verdicts(
    written: Path, trained: Run, browser: Browser, monkeypatch: pytest.MonkeyPatch, most: int, each: list[int]
) -> None:
    items, turn = page_module._items, itertools.cycle("abc")
    monkeypatch.setattr(page_module, "_items", lambda *asked: [(next(turn), 2, *rest[2:]) for rest in items(*asked)])
    monkeypatch.setattr(page_module, "MOST", most)
    predict_into(trained.folder, ["look.answers.jsonl"], "few.html")
    few = told_by(Path("few.html"))
    assert [group["count"] for group in few["groups"]] == [40, 40, 40]
    assert [[item["group"] for item in few["items"]].count(number) for number in range(3)] == each
    browser.open(Path("few.html").absolute())
    browser.run("document.querySelectorAll('#verdicts button')[2].click()")
    told = "1–2 of 2, and 38 that are not shown" if each[2] else "40, of which none is shown"
    assert browser.text("#place") == told


def test_looking_through_it(written: Path, browser: Browser) -> None:
    browser.open(written)
    told = told_by(written)
    largest = max(range(len(told["groups"])), key=lambda number: told["groups"][number]["count"])
    browser.run(f"document.querySelectorAll('#verdicts button')[{largest}].click()")
    group = told["groups"][largest]
    assert browser.text("#chosen") == group["name"]
    assert browser.run("document.querySelectorAll('.tile').length") == min(48, group["count"])
    first = browser.text(".tile p:last-of-type")
    assert group["count"] > 48
    browser.run("document.getElementById('next').click()")
    assert browser.text("#place").startswith("49–")
    assert browser.run("document.querySelectorAll('.tile').length") == min(48, group["count"] - 48)
    browser.run("document.getElementById('back').click()")
    assert browser.text("#place").startswith("1–48 of")
    order = "document.getElementById('order')"
    browser.run(f"{order}.value = 'most'; {order}.dispatchEvent(new Event('change'))")
    assert browser.text(".tile p:last-of-type") != first


def test_a_strange_name_is_shown_as_text(written: Path, browser: Browser) -> None:
    browser.open(written)
    shown = []
    for number, group in enumerate(told_by(written)["groups"]):
        browser.run(f"document.querySelectorAll('#verdicts button')[{number}].click()")
        for _ in range(0, group["count"], 48):
            shown += browser.run("[...document.querySelectorAll('.tile p:last-of-type')].map(p => p.textContent)")
            browser.run("document.getElementById('next').click()")
    assert EVIL in shown
    assert len(shown) == 120
    assert browser.run("document.title") == "Answers"
    links = browser.run("[...document.querySelectorAll('.tile')].map(tile => tile.href)")
    assert all(link.startswith("file:") for link in links)


def test_links_lead_to_the_photographs(written: Path) -> None:
    from urllib.parse import unquote

    for item in told_by(written)["items"]:
        assert os.path.isfile(written.parent / unquote(item["link"]))


@pytest.mark.parametrize("width", [360, 1280])
def test_it_fits_phones_and_desktops(written: Path, browser: Browser, width: int) -> None:
    browser.open(written, width=width, height=800)
    assert browser.run("document.documentElement.scrollWidth") <= width
    shown = "document.querySelector('{}').offsetParent !== null"
    assert browser.run(shown.format("#choose")) == (width < 760)
    assert browser.run(shown.format("#verdicts")) == (width >= 760)
