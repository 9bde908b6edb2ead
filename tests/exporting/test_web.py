"""`fieldmark export --to web`: the page in a real browser, with a network and without, and what is in its folder."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from conftest import paint
from fieldmark.answering.predictor import Predictor
from fieldmark.commands.export import export
from fieldmark.core.errors import RunError, StorageError
from fieldmark.core.storage import cache_folder
from fieldmark.data.decode import reduced
from fieldmark.data.square import evaluation_view
from fieldmark.evaluation.verdict import Verdict
from fieldmark.exporting import runtime
from fieldmark.exporting.rules import rules
from fieldmark.exporting.web import site
from fieldmark.pages.page import jpeg
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.run import Run
from support.axe import Barriers
from support.browser import Browser
from support.calibrations import any_calibration
from support.hosts import hosted, put

Cli = Callable[..., Any]
PAGES = Path(runtime.__file__).parents[1] / "pages"
STAND_IN = {"ort.wasm.min.js": b"", "ort-wasm-simd-threaded.mjs": b"", "ort-wasm-simd-threaded.wasm": b""}


COUNTING = """
const plain = createImageBitmap, spoken = verdictOf;
let open = 0, most = 0;
createImageBitmap = async (blob) => {
  most = Math.max(most, ++open);
  try {
    const bitmap = await plain(blob), close = bitmap.close.bind(bitmap);
    bitmap.close = () => { open--; close(); };
    return bitmap;
  } catch (error) {
    open--;
    throw error;
  }
};
verdictOf = (...given) => ({ ...spoken(...given), most });
const found = { log_probabilities: { data: [-0.1, -3, -3] }, familiarity: { data: [0] } };
const session = { run: async () => found };
self.ort = { env: { wasm: {} }, Tensor: class {}, InferenceSession: { create: async () => session } };
"""
"""In place of ONNX Runtime: what answers alike for any picture, with how many were decoded at once."""


@pytest.fixture(scope="session")
def npm_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ONNX Runtime for browsers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIELDMARK_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        try:
            runtime.runtime_files()
        except RunError as error:
            pytest.skip(str(error))
        return cache_folder() / runtime.PACKAGE


def scripts(folder: Path, *names: str) -> Path:
    """A page with nothing but these scripts."""
    tags = "".join(f"<script>{(PAGES / name).read_text()}</script>" for name in names)
    page = folder / "scripts.html"
    page.write_text(f"<!doctype html><meta charset=utf-8>{tags}")
    return page


def test_the_page_answers_with_and_without_a_network(
    trained: Run, pictures: Path, npm_package: Path, browser: Browser, tmp_path: Path
) -> None:
    seen = [*sorted(pictures.rglob("0[0-3].png")), tmp_path / "turned.jpg"]
    exif = Image.Exif()
    exif[0x0112] = 6
    paint((220, 160, 40), 5, size=(480, 300)).save(seen[-1], exif=exif)
    (tmp_path / "notes.txt").write_text("no picture")
    found = export(trained.folder, "web", title="Blobs <b>", runtime=npm_package)
    assert found.path == trained.folder / "exports" / "web"
    with hosted(found.path) as address:
        browser.open(address, width=360)
        browser.until("state.rules !== null || state.broken")
        assert browser.text("h1") == "Blobs <b>"
        browser.choose("#files", *seen, tmp_path / "notes.txt")
        browser.until("state.answers.length === 14 && state.answers.every((one) => one.verdict || one.problem)")
        theirs = browser.run("state.answers.map((one) => one.verdict)")
        ours = Predictor.load(trained.folder).predict(seen)
        for one, other in zip(ours, theirs, strict=False):
            assert one.label == other["label"]
            assert one.probability == pytest.approx(other["probability"], abs=0.01)
        assert [one["said"] for one in theirs[:-1]] == [one.said for one in ours]
        assert browser.text("#answer-0 h3").lower() == ours[0].said
        assert browser.text("#promise").count("gets no name") == 1
        assert theirs[-1] is None
        assert "cannot be read as a photograph" in browser.text("#answer-13")
        assert browser.run("document.documentElement.scrollWidth") <= 360
        assert browser.run("document.querySelectorAll('img:not([alt])').length") == 0
        browser.until("navigator.serviceWorker.controller !== null")
    browser.open(address, width=360)  # nobody serves it any more
    browser.until("state.rules !== null || state.broken")
    browser.choose("#files", seen[0])
    browser.until("state.answers.length === 1 && state.answers[0].verdict")
    assert browser.run("state.answers[0].verdict.label") == ours[0].label


def test_photographs_wait_for_their_turn(trained: Run, pictures: Path, browser: Browser, tmp_path: Path) -> None:
    """Decoded, each takes many times the memory of its file. One that is none keeps nobody from an answer."""
    runtime = STAND_IN | {"ort.wasm.min.js": COUNTING.encode()}
    put(tmp_path / "web", site(Bundle.load(trained.folder), b"graph", runtime, title="birds"))
    (tmp_path / "notes.txt").write_text("no picture")
    photographs = sorted(pictures.rglob("0*.png"))[:6]
    with hosted(tmp_path / "web") as address:
        browser.open(address)
        browser.until("state.rules !== null || state.broken")
        browser.choose("#files", photographs[0], tmp_path / "notes.txt", *photographs[1:])
        browser.until("state.answers.length === 7 && state.answers.every((one) => one.verdict || one.problem)")
        told = browser.run("state.answers.map((one) => one.verdict ? one.verdict.most : one.problem)")
        assert "decoded" in told.pop(1)
        assert told == [1] * 6


def test_pages_of_one_host_keep_apart(trained: Run, browser: Browser, tmp_path: Path) -> None:
    """Also where the name of one begins as that of another."""
    bundle = Bundle.load(trained.folder)
    for title, graph in (("birds", b"one"), ("birds/kent", b"another")):
        put(tmp_path / title, site(bundle, graph, STAND_IN, title=title))
    with hosted(tmp_path) as address:
        for title in ("birds/kent/", "birds/"):
            browser.open(address + title)
            browser.until("navigator.serviceWorker.controller?.scriptURL === new URL('offline.js', location).href")
        kept = browser.run("caches.keys()")
        assert sorted(name.split()[1] for name in kept) == [f"{address}birds/", f"{address}birds/kent/"]
        put(tmp_path / "birds", site(bundle, b"new", STAND_IN, title="birds"), later=10)
        browser.run("navigator.serviceWorker.ready.then((one) => one.update()).then(() => null)")
        browser.until("navigator.serviceWorker.ready.then((one) => one.waiting !== null)")
        assert len(browser.run("caches.keys()")) == 3, "an open page keeps the files of its version"


def test_files_of_two_exports_are_never_kept_together(trained: Run, browser: Browser, tmp_path: Path) -> None:
    """A visitor may come while an upload goes on. Nothing is kept then, and the next visit keeps it all."""
    both = "Promise.all(['model.onnx', 'examples.json'].map((name) => fetch(name).then((it) => it.text())))"
    update = "navigator.serviceWorker.ready.then((one) => one.update()).then(() => null)"
    bundle = Bundle.load(trained.folder)
    old = site(bundle, b"old", STAND_IN, title="birds")
    new = site(bundle, b"new", STAND_IN, title="birds", examples={"jade": [b"jpeg"]})
    put(tmp_path, old)
    with hosted(tmp_path) as address:
        browser.open(address)
        browser.until("navigator.serviceWorker.controller !== null")
        put(tmp_path, {name: new[name] for name in new if name != "examples.json"}, later=10)
        browser.run(update)
        browser.until("navigator.serviceWorker.ready.then((one) => !one.installing)")
        assert not browser.run("navigator.serviceWorker.ready.then((one) => one.waiting !== null)")
        assert browser.run(both) == ["old", "{}\n"]
        put(tmp_path, new, later=20)
        browser.until(f"{update}.then(() => navigator.serviceWorker.ready).then((one) => one.waiting !== null)")
        for _ in range(60):  # the browser may take its time to close the last page of the old version
            browser.open("about:blank#")
            browser.open(address)
            if browser.run(both)[0] != "old":
                break
        assert browser.run(both)[0] == "new"
        assert json.loads(browser.run(both)[1]) == {"jade": ["examples/0-0.jpg"]}


def test_what_the_page_has_loaded_is_not_sent_again(trained: Run, browser: Browser, tmp_path: Path) -> None:
    graph = bytes(1_000_000)
    put(tmp_path, site(Bundle.load(trained.folder), graph, STAND_IN, title="birds"))
    sent: list[str] = []
    with hosted(tmp_path, sent) as address:
        browser.open(address)
        browser.until("navigator.serviceWorker.controller !== null")
    assert len(sent) == len(set(sent)), sorted(sent)


def test_nothing_stands_in_the_way(
    trained: Run, pictures: Path, npm_package: Path, browser: Browser, barriers: Barriers
) -> None:
    found = export(trained.folder, "web", examples=1, runtime=npm_package)
    with hosted(found.path) as address:
        for dark in (True, False):
            browser.open(address, width=360, dark=dark)
            browser.until("state.rules !== null || state.broken")
            browser.choose("#files", *sorted(pictures.rglob("0[01].png")))
            browser.until("state.answers.length === 6 && state.answers.every((one) => one.verdict)")
            assert barriers(browser) == []


def test_verdicts_in_the_browser_are_those_of_python(browser: Browser, tmp_path: Path) -> None:
    """In any calibration: with a taxonomy, in either order, sure and unsure, with sets or without."""
    browser.open(scripts(tmp_path, "verdicts.js"))
    levels = set()
    for seed in range(24):
        bundle, thresholds, log_probabilities, near = any_calibration(seed)
        familiarity = bundle.calibration.familiarity
        scores = familiarity.score(np.exp(log_probabilities).max(axis=1), near)
        told = json.dumps([rules(bundle), log_probabilities.tolist(), scores.tolist()])
        browser.run(f"var [told, rows, scores] = {told}; null")
        found = browser.run("rows.map((row, i) => verdictOf(told, row, scores[i]))")
        for one, other in zip(thresholds.verdicts([""] * 20, log_probabilities, near), found, strict=True):
            _same(one, other)
            levels.add(one.level)
    assert levels >= {"species", "genus", "family", "none"}


def _same(one: Verdict, other: dict[str, Any]) -> None:
    ours = one.as_dict()
    for name in ("label", "name", "level", "familiar", "possible", "promised", "reason"):
        assert ours[name] == other[name], name
    assert one.said == other["said"]
    assert other["sureness"] == (None if one.sureness is None else pytest.approx(one.sureness))
    assert other["probability"] == pytest.approx(one.probability)
    assert (other["certainty"] is None) == (one.certainty is None)
    assert one.certainty is None or other["certainty"] == pytest.approx(one.certainty)
    assert [c["label"] for c in other["candidates"]] == [c.label for c in one.candidates]


def test_a_class_may_be_called_as_what_every_object_has(browser: Browser, tmp_path: Path) -> None:
    browser.open(scripts(tmp_path, "elements.js", "verdicts.js", "pocket/page.js"))
    level = {"name": "class", "names": ["constructor", "b"], "of": [0, 1]}
    told = {"classes": level["names"], "levels": [level], "photographs": {"b": 3}}
    said = browser.run(f"[[-0.1, -2], [-2, -0.1]].map((row) => verdictOf({json.dumps(told)}, row).said)")
    assert said == ["likely constructor, not vouched for", "likely b (from 3 photographs), not vouched for"]
    assert browser.run("pictures('constructor')") is None
    browser.run("state.examples = { constructor: ['a.jpg'] }; null")
    assert browser.run("pictures('constructor').children.length") == 1


def test_what_is_said_of_a_verdict(browser: Browser, tmp_path: Path) -> None:
    browser.open(scripts(tmp_path, "words.js"))
    shares = [1.0, 0.9995, 0.994, 0.942, 0.05, 0.0004]
    assert browser.run(f"{shares}.map(shareOf)") == [
        "over 99.9 %", "over 99.9 %", "99.4 %", "94 %", "5.0 %", "under 0.1 %"
    ]  # fmt: skip
    assert browser.run("promiseOf(0.975)") == "right at least 97.5 % of the time"
    verdict = {"label": "wren", "sureness": 0.94, "reason": "", "promised": 0.9, "possible": ["wren", "dunnock"]}
    assert browser.run(f"sentencesOf({json.dumps(verdict)})") == [
        "94 % sure.",
        "Names given like this one are right at least 90 % of the time, as promised.",
        "Cannot be ruled out: wren, dunnock.",
    ]
    strange = {"label": "wren", "sureness": None, "reason": "odd", "promised": None, "familiar": False}
    assert browser.run(f"sentencesOf({json.dumps(strange)})") == ["Odd.", "It looks most like wren."]


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("width", "height", "whole"), [(60, 44, False), (70, 90, True), (400, 330, False), (64, 86, False)]
)  # three quarters of 86 lie in the middle between two numbers
def test_the_browser_sees_what_python_sees(
    browser: Browser, tmp_path: Path, interpolation: str, width: int, height: int, whole: bool
) -> None:
    picture = paint((40, 160, 110), 3, size=(width, height))
    view = {"size": 32, "crop": 0.875, "whole": whole, "interpolation": interpolation, "short_side": 48}
    rgba = np.asarray(picture.convert("RGBA")).ravel().tolist()
    browser.open(scripts(tmp_path, "seeing.js"))
    pixels = f"{{data: Uint8ClampedArray.from({json.dumps(rgba)}), width: {width}, height: {height}}}"
    theirs = np.array(browser.run(f"[...viewOf({pixels}, {json.dumps(view)}, false)]")).reshape(3, 32, 32)
    decoded = reduced(np.asarray(picture), short_side=48).pixels
    ours = evaluation_view(decoded, size=32, whole=whole, interpolation=interpolation)
    assert np.abs(ours.astype(int) - theirs).max() <= 2
    assert np.abs(ours.astype(int) - theirs).mean() < 0.02


@pytest.mark.parametrize(
    ("pixels", "refused"),
    [
        (np.full((8, 8), 4000, np.uint16), True),
        (np.full((8, 8), 40, np.uint8), False),
        (np.full((8, 8, 3), 40, np.uint8), False),
    ],
)
def test_greyscale_of_16_bits_is_refused(
    browser: Browser, tmp_path: Path, pixels: NDArray[np.generic], refused: bool
) -> None:
    """A browser takes its upper eight bits, and Fieldmark those in use."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    browser.open(scripts(tmp_path, "seeing.js"))
    blob = f"new Blob([Uint8Array.from({list(file.getvalue())})], {{ type: 'image/png' }})"
    told = browser.run(f"pixelsOf({blob}).then((one) => one.data[0], (error) => error.message)")
    assert told == ("it is grey with 16 bits, which browsers show too dark: save it with 8" if refused else 40)


def test_what_is_in_the_folder(trained: Run, tmp_path: Path) -> None:
    bundle = Bundle.load(trained.folder)
    shown = {"amber": [jpeg(np.zeros((400, 800, 3), np.uint8), 320, 85)]}
    files = site(bundle, b"graph", STAND_IN, title="</title><script>", examples=shown)
    assert b"<script>" not in files["index.html"].split(b"<link")[0]
    kept = files["offline.js"].decode()
    assert all(json.dumps(name)[1:-1] in kept for name in files if name not in ("offline.js", "runtime/LICENSE.txt"))
    assert json.loads(files["examples.json"]) == {"amber": ["examples/0-0.jpg"]}
    with Image.open(io.BytesIO(files["examples/0-0.jpg"])) as example:
        assert example.size == (320, 160)
        assert not example.getexif()
    one, other = (site(bundle, graph, STAND_IN, title="a")["offline.js"] for graph in (b"graph", b"another graph"))
    assert one != other, "a new version replaces what is on the device"


def test_photographs_are_shown_on_request_only(trained: Run, monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    monkeypatch.setattr("fieldmark.commands.export.runtime_files", lambda package: STAND_IN)
    out = trained.folder / "page"
    assert cli("export", trained.folder, "--to", "web", "--out", out).status == 0
    assert not (out / "examples").exists()
    assert cli("export", trained.folder, "--to", "web", "--out", out, "--examples", 2).status == 0
    assert len(list((out / "examples").iterdir())) == 6
    with Image.open(out / "examples" / "0-0.jpg") as example:
        assert max(example.size) <= 320
        assert not example.getexif()
    assert cli("export", trained.folder, "--to", "web", "--out", out).status == 0
    assert not (out / "examples").exists(), "what is published shows no photograph any more"
    assert "belong to a page" in cli("export", trained.folder, "--examples", 2).complaint


def test_a_folder_of_something_else_is_left_alone(trained: Run, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "index.html").write_text("mine")
    with pytest.raises(StorageError, match="mine"):
        export(trained.folder, "web", out=tmp_path / "mine")
    assert (tmp_path / "mine" / "index.html").read_text() == "mine"


def test_a_runtime_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(RunError, match=r"there is no npm to fetch it with\. Fetch it with: npm pack onnxruntime-web@"):
        runtime.runtime_files()
    with pytest.raises(RunError, match="cannot be read"):
        runtime.runtime_files(tmp_path / "none.tgz")
    (tmp_path / "other.tgz").write_bytes(b"something else")
    monkeypatch.setattr(runtime, "sha256_of", lambda path: runtime._SHA256)  # of a file that is another one by now
    with pytest.raises(RunError, match="its SHA-256 is another"):
        runtime.runtime_files(tmp_path / "other.tgz")
    failing = tmp_path / "npm"
    failing.write_text("#!/bin/sh\necho 'no network' >&2\nexit 1\n")
    failing.chmod(0o755)
    monkeypatch.setattr(shutil, "which", lambda name: str(failing))
    with pytest.raises(RunError, match="npm could not fetch ONNX Runtime for browsers: no network"):
        runtime.runtime_files()
