"""The labelling page in a real browser: keys decide, what is saved is what was decided, and names stay text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fieldmark.data.decisions import Decision, read_decisions
from fieldmark.labelling.page import Beside, Item, compose_labelling, pictured
from support.browser import Browser

EVIL = "</script><script>document.title='taken'</script>\"&'"
RTL = "حسون أوراسي"
FORMULA = "=HYPERLINK(1)"
CLASSES = ("robin", "wren", EVIL, RTL, FORMULA, "Étourneau")


def item(path: str, label: str | None, *candidates: str, group: str = "robin") -> Item:
    source = pictured(np.full((40, 60, 3), 120, np.uint8))
    beside = (Beside(source, "most alike", candidates[0]),) if candidates else ()
    return Item(path, label, candidates, group, source, ("A fact about it.",), beside)


def page(folder: Path, *items: Item, kind: str = "doubt") -> Path:
    text = compose_labelling(
        kind,  # type: ignore[arg-type]  # one of the literals
        items,
        CLASSES,
        title=f"Labels in doubt: {EVIL}",
        intro="Some are in doubt.",
        file="decisions.csv",
        then="fieldmark train runs/birds --decisions decisions.csv",
    )
    (folder / "index.html").write_text(text, encoding="utf-8")
    return folder / "index.html"


@pytest.fixture
def doubts(tmp_path: Path) -> Path:
    items = [
        item("robin/1.jpg", "robin", "wren", EVIL),
        item(f"robin/{EVIL.replace('/', '')}.jpg", "robin", RTL),
        item("robin/3, 4.jpg", "robin", FORMULA),
        item("-wren/4.jpg", "wren", "robin", group="wren"),
    ]
    return page(tmp_path, *items)


def saved(browser: Browser) -> list[Decision]:
    browser.press("s")
    file = browser.downloaded("decisions.csv")
    found = list(read_decisions([file]))
    file.unlink()
    return found


def test_what_is_saved_is_what_was_decided(doubts: Path, browser: Browser) -> None:
    browser.open(doubts)
    browser.press("a", "Enter", "1", "Enter", "1", "Enter", "d")
    assert browser.text("#count") == "4 of 4 decided: 1 accepted, 2 relabelled, 1 dropped"
    evil = f"robin/{EVIL.replace('/', '')}.jpg"
    assert saved(browser) == [
        Decision("robin/1.jpg", "accept", "robin"),
        Decision(evil, "relabel", RTL),
        Decision("robin/3, 4.jpg", "relabel", FORMULA),
        Decision("-wren/4.jpg", "drop"),
    ]


def test_a_photograph_may_be_called_as_what_every_object_has(tmp_path: Path, browser: Browser) -> None:
    browser.open(page(tmp_path, item("constructor", "robin", "wren"), item("toString", "robin", "wren")))
    assert browser.text(".told") == "Not decided yet"
    browser.press("a", "u")
    assert browser.text(".told") == "Not decided yet"
    browser.press("1")
    assert saved(browser) == [Decision("constructor", "relabel", "wren")]


def test_names_stay_text(doubts: Path, browser: Browser) -> None:
    browser.open(doubts)
    browser.press("2", "ArrowRight", "r")
    browser.write("script")
    assert browser.run("document.title") == f"Labels in doubt: {EVIL}"
    assert browser.text("#found li") == EVIL
    assert browser.run("document.querySelectorAll('script').length") == 2
    assert browser.run("document.querySelectorAll('main script[src], main link, iframe').length") == 0


def test_a_decision_can_be_undone(doubts: Path, browser: Browser) -> None:
    browser.open(doubts)
    browser.press("a", "1", "Enter", "d", "u")
    assert browser.text("#said").startswith("2 of 4")
    assert browser.text("#count") == "1 of 4 decided: 1 relabelled"
    browser.press("u")
    assert browser.text("#count") == "1 of 4 decided: 1 accepted"
    browser.press("u", "u")
    assert browser.text("#count") == "0 of 4 decided"
    assert saved(browser) == []


def test_a_name_is_typed(doubts: Path, browser: Browser) -> None:
    """Its beginning will do, without accents; a label that is typed again is accepted; a new class may begin."""
    browser.open(doubts)
    browser.press("r")
    browser.write("etour")
    browser.press("Enter", "r")
    browser.write("ro")
    browser.press("Enter", "r")
    browser.write("  house   sparrow ")
    browser.press("Enter", "r", "Escape", "a")
    assert [(one.decision, one.label) for one in saved(browser)] == [
        ("relabel", "Étourneau"),
        ("accept", "robin"),
        ("relabel", "house sparrow"),
        ("accept", "wren"),
    ]


def test_arrows_choose_among_the_names_that_fit(doubts: Path, browser: Browser) -> None:
    browser.open(doubts)
    browser.press("r")
    browser.write("r")
    browser.press("ArrowDown", "ArrowDown", "ArrowUp", "Enter")
    (one,) = saved(browser)
    names = [name for name in CLASSES if name.startswith("r")] + [name for name in CLASSES if "r" in name.lower()[1:]]
    assert one.label == names[1]


def test_decisions_outlive_the_page(doubts: Path, browser: Browser) -> None:
    browser.open(doubts)
    browser.press("1", "Enter", "d")
    browser.open(doubts)
    assert browser.text("#count") == "2 of 4 decided: 1 relabelled, 1 dropped"
    assert browser.text("#said").startswith("2 of 4")
    browser.press("u")
    assert browser.text("#count") == "1 of 4 decided: 1 relabelled"


def test_a_group_is_decided_together(doubts: Path, browser: Browser) -> None:
    browser.open(doubts)
    browser.press("g", " ", "ArrowRight", "ArrowRight", " ", "1")
    assert browser.text("#count") == "2 of 4 decided: 2 relabelled"
    assert [one.path for one in saved(browser)] == ["robin/1.jpg", "robin/3, 4.jpg"]
    browser.press("Enter")
    assert browser.text("#said").startswith("4 of 4")
    browser.press("*", "a")
    assert browser.text("#count").startswith("3 of 4")
    browser.press("u", "u")
    assert browser.text("#count") == "0 of 4 decided"


def test_buttons_do_what_keys_do(doubts: Path, browser: Browser) -> None:
    browser.open(doubts, width=360)
    browser.run("[...document.querySelectorAll('.buttons button')].find(b => b.innerText.includes('Drop')).click()")
    assert browser.text("#count") == "1 of 4 decided: 1 dropped"
    browser.run("document.querySelector('.candidates button').click()")
    assert browser.text("#count") == "1 of 4 decided: 1 relabelled"


@pytest.mark.parametrize("width", [360, 1200])
@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_the_screen(doubts: Path, browser: Browser, width: int, dark: bool) -> None:
    browser.open(doubts, width=width, dark=dark)
    for keys in ((), ("r",), ("Escape", "g")):
        browser.press(*keys)
        assert browser.run("document.documentElement.scrollWidth") <= width
    unnamed = "[...document.querySelectorAll('button, input, img')].filter(e => !(e.innerText || e.labels?.length || "
    assert browser.run(unnamed + "e.hasAttribute('alt') || e.getAttribute('aria-label'))).length") == 0


def test_photographs_without_labels_are_labelled(tmp_path: Path, browser: Browser) -> None:
    items = [item("/new/1.jpg", None, "wren", "robin"), item("/new/2.jpg", None, "robin"), item("/new/3.jpg", None)]
    browser.open(page(tmp_path, *items, kind="next"))
    browser.press("a", "1", "Enter", "d", "Enter", "1")  # nothing is accepted, and the last has no candidates
    assert saved(browser) == [Decision("/new/1.jpg", "label", "wren"), Decision("/new/2.jpg", "drop")]


def test_nothing_to_decide(tmp_path: Path, browser: Browser) -> None:
    browser.open(page(tmp_path))
    assert browser.text("main p") == "Some are in doubt."
    assert browser.run("document.querySelector('#save')") is None
