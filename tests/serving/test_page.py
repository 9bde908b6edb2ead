"""The page in a real browser: from a picture to its verdict, why, and what is right, by mouse, keyboard and phone."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from fieldmark.answering.predictor import Predictor
from fieldmark.exporting.web import site
from fieldmark.runs.bundle import Bundle
from support.axe import Barriers
from support.browser import Browser
from support.hosts import hosted, put
from support.models import rewrite
from support.services import Visitor, served

EVIL = "</script><img src=x onerror=\"document.title='taken'\">&'"
RTL = "حسون أوراسي"

CONTRAST = """
(() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (rgb) => {
    const [r, g, b] = rgb.map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    for (let at = one; at; at = at.parentElement) {
      const [r, g, b, a = 1] = parse(getComputedStyle(at).backgroundColor);
      if (a > 0) return [r, g, b];
    }
    return [255, 255, 255];
  };
  const texts = [...document.querySelectorAll('body *')].filter((one) => one.checkVisibility() &&
    [...one.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim()));
  return texts.map((one) => {
    const [a, b] = [light(parse(getComputedStyle(one).color).slice(0, 3)), light(ground(one))].sort((x, y) => y - x);
    return [(a + 0.05) / (b + 0.05), one.textContent.trim().slice(0, 40)];
  }).sort((x, y) => x[0] - y[0])[0];
})()
"""
"""The least contrast of a text on the page, and which one it is."""
NAMELESS = """
[...document.querySelectorAll('button, input, img, a, progress')].filter((e) => e.checkVisibility() && !(
  e.innerText || e.labels?.length || e.hasAttribute('alt') || e.getAttribute('aria-label') || e.ariaHidden)).length
"""


def wait(browser: Browser, script: str, seconds: float = 30) -> None:
    """Wait until something on the page is there, or true."""
    browser.until(f"Boolean({script})", seconds=seconds)


def opened(browser: Browser, visitor: Visitor, **how: object) -> None:
    browser.open(visitor.address, **how)  # type: ignore[arg-type]  # width, height and dark
    wait(browser, "!document.querySelector('#drop').hidden")


def shown(browser: Browser, *files: Path) -> None:
    """Choose pictures, and wait for their verdicts."""
    before = browser.run("document.querySelectorAll('.candidates').length")
    browser.choose("#files", *files)
    wait(browser, f"document.querySelectorAll('.candidates').length === {before + len(files)}")


def test_a_picture_and_its_verdict(visitor: Visitor, browser: Browser, birds: Path, photograph: Path) -> None:
    (verdict,) = Predictor.load(birds, device="cpu").predict(photograph)
    opened(browser, visitor)
    assert browser.text("h1") == "birds"
    assert "Tells 3 classes apart." in browser.text("#about")
    shown(browser, photograph)
    assert browser.text(".card h2").lower() == verdict.said.lower()
    assert verdict.reason.lower() in browser.text(".card").lower()
    assert browser.text("#said").startswith(f"03.png: {verdict.said}.")
    names = browser.run("[...document.querySelectorAll('.candidates b')].map((e) => e.innerText)")
    assert names == [one.label for one in verdict.candidates]
    wait(browser, "document.querySelectorAll('.candidates .thumbs').length === 3")
    assert browser.run("document.querySelectorAll('.candidates .thumbs img').length") == 9
    origins = browser.run("performance.getEntriesByType('resource').map((e) => new URL(e.name).origin)")
    assert set(origins) == {visitor.address.rstrip("/")}


def test_known_pictures_hold_up_no_verdict(visitor: Visitor, browser: Browser, pictures: Path) -> None:
    """And each is asked for once, whatever the number of photographs."""
    opened(browser, visitor)
    browser.run("""{
        const plain = window.fetch, endless = new Promise(() => {});
        window.asked = [];
        window.revoked = [];
        window.fetch = (path, how) => (path.endsWith("/pictures") ? (asked.push(path), endless) : plain(path, how));
        URL.revokeObjectURL = (url) => revoked.push(url);
    }""")
    shown(browser, *sorted((pictures / "jade").iterdir())[:4])
    asked = browser.run("asked")
    assert asked
    assert len(asked) == len(set(asked))
    url = browser.run("document.querySelector('.shot img').src")
    browser.run("document.querySelector('[data-key=remove]').click()")
    assert browser.run("revoked") == [url]


def test_by_keyboard_alone(visitor: Visitor, browser: Browser, photograph: Path) -> None:
    opened(browser, visitor)
    browser.press("Tab")
    assert browser.run("document.activeElement.id") == "files"
    assert browser.run("getComputedStyle(document.activeElement.parentElement).outlineStyle") == "solid"
    shown(browser, photograph)
    wait(browser, "document.querySelectorAll('.candidates .thumbs').length === 3")
    rival = browser.run("document.querySelectorAll('.candidates b')[2].innerText")

    def reach(key: str) -> None:
        for _ in range(12):
            if browser.run("document.activeElement.dataset.key") == key:
                return
            browser.press("Tab")
        raise AssertionError(f"{key} cannot be reached")

    reach(f"why-{rival}")
    browser.press("Enter")
    wait(browser, "document.querySelector('.maps')", 60)
    assert browser.run("document.activeElement.dataset.key") == f"why-{rival}"
    assert f"not {rival}" in browser.text("[data-panel=why] h3")
    assert browser.text("#said")
    assert browser.run("document.querySelectorAll('.place').length") >= 1
    reach("alike")
    browser.press("Enter")
    wait(browser, "document.querySelector('.alike figure')")
    assert browser.text(".alike figcaption").split("\n") == ["jade", "the same file"]
    browser.press("Enter")
    wait(browser, "!document.querySelector('[data-panel]')")
    reach("remove")
    browser.press("Enter")
    assert browser.run("document.querySelectorAll('.card').length") == 0
    assert browser.run("document.activeElement.id") == "files"


def test_what_is_wrong_is_kept(visitor: Visitor, browser: Browser, photograph: Path) -> None:
    opened(browser, visitor)
    shown(browser, photograph)
    browser.run("document.querySelector('[data-key=wrong]').click()")
    wait(browser, "document.activeElement.dataset.key === 'typed'")
    browser.write("PLUM")
    browser.press("Enter")
    wait(browser, "document.querySelector('.card .right')")
    assert browser.text(".card .right") == "Thank you. Kept as plum."
    with (visitor.service.corrections.folder / "corrections.csv").open(newline="") as file:  # type: ignore[union-attr]  # it keeps them
        assert list(csv.DictReader(file))[-1]["label"] == "plum"


def test_pictures_are_dropped_and_pasted(visitor: Visitor, browser: Browser, photograph: Path) -> None:
    opened(browser, visitor)
    pixels = json.dumps(list(photograph.read_bytes()))
    carried = f"""(() => {{ const data = new DataTransfer();
        data.items.add(new File([new Uint8Array({pixels})], 'given.png', {{ type: 'image/png' }}));
        return data; }})()"""
    browser.run(f"document.dispatchEvent(new DragEvent('drop', {{ dataTransfer: {carried} }}))")
    browser.run(f"document.dispatchEvent(new ClipboardEvent('paste', {{ clipboardData: {carried} }}))")
    wait(browser, "document.querySelectorAll('.candidates').length === 2")


def test_what_is_refused_is_said(visitor: Visitor, browser: Browser, photograph: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    (tmp_path / "large.png").write_bytes(bytes(2**20 + 1))
    opened(browser, visitor)
    browser.choose("#files", tmp_path / "notes.png", tmp_path / "large.png", photograph)
    wait(browser, "document.querySelectorAll('.card .wrong').length === 2 && document.querySelector('.candidates')")
    told = browser.run("[...document.querySelectorAll('.card .wrong')].map((e) => e.innerText)")
    assert told[0] == "The picture is larger than 1 MB. Make it smaller."
    assert told[1].startswith("The image is not an image of a known format")


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_the_screen(visitor: Visitor, browser: Browser, photograph: Path, width: int, dark: bool) -> None:
    opened(browser, visitor, width=width, dark=dark)
    shown(browser, photograph)
    for panel in ("why", "alike", "wrong"):
        browser.run(f"document.querySelector('[data-key={panel}]').click()")
        wait(
            browser,
            {"why": "document.querySelector('.maps')", "alike": "document.querySelector('.alike')"}.get(
                panel, "document.querySelector('.field input[list]')"
            ),
            60,
        )
        assert browser.run("document.documentElement.scrollWidth") <= width
        assert browser.run(NAMELESS) == 0
        ratio, text = browser.run(CONTRAST)
        assert ratio >= 4.5, text


@pytest.mark.parametrize("dark", [False, True])
def test_nothing_stands_in_the_way(
    visitor: Visitor, browser: Browser, photograph: Path, barriers: Barriers, dark: bool
) -> None:
    opened(browser, visitor, width=360, dark=dark)
    shown(browser, photograph)
    wait(browser, "document.querySelectorAll('.candidates .thumbs').length === 3")
    for panel, there in (("why", ".maps"), ("alike", ".alike figure"), ("wrong", ".field input[list]")):
        browser.run(f"document.querySelector('[data-key={panel}]').click()")
        wait(browser, f"document.querySelector('{there}')", 60)
        assert barriers(browser) == [], panel
    browser.open(f"{visitor.address}api", dark=dark)
    assert barriers(browser) == []


def test_names_stay_text(birds: Path, browser: Browser, photograph: Path, tmp_path: Path) -> None:
    run = shutil.copytree(birds, tmp_path / "run", ignore=shutil.ignore_patterns("gallery"))
    rewrite(run / "bundle", classes=[EVIL, RTL, "=HYPERLINK(1)"])
    file = tmp_path / f"{EVIL.replace('/', '')}.png"
    shutil.copy(photograph, file)
    with served(run, examples=False) as visitor:
        opened(browser, visitor)
        shown(browser, file)
        assert browser.run("document.title") == "birds · Fieldmark"
        names = browser.run("[...document.querySelectorAll('.candidates b')].map((e) => e.innerText)")
        assert set(names) == {EVIL, RTL, "=HYPERLINK(1)"}
        assert browser.text("figcaption") == file.name
        assert browser.run("document.querySelectorAll('script').length") == 1
        assert browser.run("document.querySelectorAll('iframe, object, img:not([src^=\"blob:\"])').length") == 0


def test_a_class_may_be_called_as_what_every_object_has(
    birds: Path, browser: Browser, photograph: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(birds, tmp_path / "run", ignore=shutil.ignore_patterns("gallery"))
    rewrite(run / "bundle", classes=["constructor", "toString", "__proto__"])
    with served(run, examples=False) as visitor:
        opened(browser, visitor)
        shown(browser, photograph)
        names = browser.run("[...document.querySelectorAll('.candidates b')].map((e) => e.innerText)")
        assert set(names) == {"constructor", "toString", "__proto__"}


def test_a_service_with_a_token(birds: Path, browser: Browser, photograph: Path) -> None:
    with served(birds, token="correct horse battery") as visitor:
        browser.open(visitor.address)
        wait(browser, "!document.querySelector('#token').hidden")
        assert browser.run("document.activeElement.id") == "typed-token"
        for typed in ("wrong", "correct horse battery"):
            browser.run("document.querySelector('#typed-token').value = ''")
            browser.write(typed)
            browser.press("Enter")
        wait(browser, "!document.querySelector('#drop').hidden")
        shown(browser, photograph)
        browser.run("sessionStorage.clear()")
        browser.open(f"{visitor.address}?#token=correct%20horse%20battery")
        wait(browser, "!document.querySelector('#drop').hidden")
        assert "token" not in browser.run("location.href")


def test_an_exported_page_that_was_here_before_gives_way(birds: Path, browser: Browser, tmp_path: Path) -> None:
    """Its worker keeps it in the browser, for this address, and has no token."""
    put(tmp_path, site(Bundle.load(birds), b"graph", {}, title="In the pocket"))
    with hosted(tmp_path) as address:
        browser.open(address)
        browser.until("navigator.serviceWorker.controller !== null")
        browser.open("about:blank#")
    with served(birds, token="correct horse battery", port=urlsplit(address).port) as visitor:
        assert visitor.address == address
        browser.open(f"{address}#token=correct%20horse%20battery")
        wait(browser, "document.querySelector('#title')?.innerText === 'birds'")
        assert browser.run("caches.keys()") == []
        assert browser.run("navigator.serviceWorker.getRegistrations().then((all) => all.length)") == 0
