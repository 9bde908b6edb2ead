"""Whether everybody gives the same verdicts on the same photographs: Python, command line, HTTP, ONNX, a browser.

    python benchmarks/parity.py RUN PHOTOGRAPHS [--number 2000] [--out results/parity-NAME.json]
    python benchmarks/parity.py RUN DATA --split test --number 200 --ways browser [--out …]

The measure is `Predictor` with PyTorch. Beside it:

  onnx         `Predictor` with the graph that `fieldmark predict --engine onnx` makes
  command      `fieldmark predict --engine torch --out`, a process of its own: its file, and the logits in its record
  http         `fieldmark serve`, a process of its own that is sent the files' bytes, sixteen at once
  example      examples/onnx_verdicts.py, which is neither Fieldmark nor PyTorch, and decodes for itself
  browser      the page of `fieldmark export --to web` in a headless Chromium, which decodes and resizes for itself

A verdict is the class, the name that is vouched for and its level, whether the picture is familiar, and which classes
are possible. All but the first two tell probabilities, not logits.
"""

from __future__ import annotations

import argparse
import functools
import http.client
import http.server
import json
import re
import runpy
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldmark.answering.predictor import Predictor
from fieldmark.answering.record import read_answers
from fieldmark.answering.things import named
from fieldmark.answering.verdicts import Speaker
from fieldmark.commands.export import export
from fieldmark.core.listener import Listener
from fieldmark.data.scan import scan
from fieldmark.data.sets import read
from fieldmark.exporting.fastest import fastest
from fieldmark.runs.bundle import Bundle
from fieldmark.runs.engines import Entry
from fieldmark.runs.exported import read_onnx

VERDICT = ("label", "name", "level", "familiar", "possible")
EXAMPLE = Path(__file__).parents[1] / "examples" / "onnx_verdicts.py"
WAYS = ("onnx", "command", "http", "example", "browser")
AT_ONCE = 16


@dataclass(frozen=True)
class Said:
    """What one way says of N photographs."""

    verdicts: Sequence[dict[str, Any]]
    logits: NDArray[np.float32] | None = None
    """(N, K), where they are told."""


def by_predictor(predictor: Predictor, files: Sequence[str]) -> Said:
    """In Python."""
    outputs = predictor.outputs(files)
    return Said([one.as_dict() for one in Speaker.of(predictor.bundle).verdicts(files, outputs)], outputs.logits)


def by_graph(bundle: Bundle, files: Sequence[str]) -> Said:
    """In Python, by ONNX Runtime."""
    return by_predictor(fastest(bundle, list(named(files)), device="cpu", engine="onnx", listener=Listener()), files)


def by_command(run: Path, files: Sequence[str]) -> Said:
    """On the command line, which gets the list on standard input."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "said.jsonl"
        command = [sys.executable, "-m", "fieldmark", "predict", str(run), "-", "--out", str(out), "--engine", "torch"]
        subprocess.run([*command, "--device", "cpu"], input="\n".join(files), text=True, check=True)
        told = {one["path"]: one for one in map(json.loads, out.read_text(encoding="utf-8").splitlines())}
        kept = {one.path: one for one in read_answers([out.parent / "said.answers.jsonl"])}
    return Said([told[file] for file in files], np.stack([kept[file].looks[0].seen.logits for file in files]))


def by_http(run: Path, files: Sequence[str]) -> Said:
    """From a service."""
    command = [sys.executable, "-m", "fieldmark", "serve", str(run), "--port", "0", "--device", "cpu"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
        lines = iter(service.stderr)
        port = next(int(found[1]) for line in lines if (found := re.search(r":(\d+)/", line)))

        def ask(file: str) -> dict[str, Any]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
            connection.request("POST", "/v1/predict", Path(file).read_bytes())
            reply = connection.getresponse()
            assert reply.status == 200, (file, reply.status, reply.read())
            told = json.loads(reply.read())
            connection.close()
            return told

        try:
            with ThreadPoolExecutor(AT_ONCE) as many:
                return Said(list(many.map(ask, files)))
        finally:
            service.terminate()


def by_example(bundle: Bundle, files: Sequence[str]) -> Said:
    """By the example, which knows nothing but the graph."""
    entry = Entry.of(bundle)
    graph = read_onnx(bundle) or entry.graph(entry.read())
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(StringIO()) as printed:
        (model := Path(folder) / "model.onnx").write_bytes(graph)
        runpy.run_path(str(EXAMPLE))["main"](str(model), *files)
    return Said([json.loads(line) for line in printed.getvalue().splitlines()])


def by_browser(run: Path, files: Sequence[str]) -> Said:
    """In a browser, which is given one file after the other."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    from support.browser import Browser

    with tempfile.TemporaryDirectory() as folder:
        site = export(run, "web", out=Path(folder) / "site").path

        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *told: object) -> None:
                pass

        host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
        threading.Thread(target=host.serve_forever, daemon=True).start()
        browser = Browser(shutil.which("chromium") or "google-chrome", Path(folder) / "browser")
        browser.open(f"http://127.0.0.1:{host.server_port}/")
        browser.until("state.rules !== null || state.broken", seconds=120)
        for number, file in enumerate(files):
            browser.choose("#files", Path(file))
            browser.until(f"state.answers[{number}]?.verdict || state.answers[{number}]?.problem", seconds=120)
        verdicts = browser.run("state.answers.map((one) => one.verdict)")
        browser.close()
        host.shutdown()
    return Said(verdicts)


def beside(measure: Said, other: Said) -> dict[str, Any]:
    """How another way differs."""
    pairs = list(zip(measure.verdicts, other.verdicts, strict=True))
    keys = [name for name in VERDICT if any(name in one for one, _ in pairs)]
    found: dict[str, Any] = {
        "same_class": sum(one["label"] == two["label"] for one, two in pairs),
        "same_verdicts": sum(all(one.get(key) == two.get(key) for key in keys) for one, two in pairs),
        "largest_difference_of_probability": max(abs(one["probability"] - two["probability"]) for one, two in pairs),
    }
    if other.logits is not None:
        found["largest_difference_of_logits"] = float(np.abs(measure.logits - other.logits).max())
    return found


def compared(run: Path, files: Sequence[str], chosen: Sequence[str]) -> dict[str, Any]:
    """These ways on these files."""
    bundle = Bundle.load(run)
    measure = by_predictor(Predictor.of(bundle, device="cpu", engine="torch"), files)
    ways: dict[str, Callable[[], Said]] = {
        "onnx": lambda: by_graph(bundle, files),
        "command": lambda: by_command(run, files),
        "http": lambda: by_http(run, files),
        "example": lambda: by_example(bundle, files),
        "browser": lambda: by_browser(run, files),
    }
    return {
        "network": f"{bundle.recipe.method.name} on {bundle.recipe.backbone.name}, {bundle.images.size} px",
        "classes": len(bundle.classes),
        "images": len(files),
        "largest_logit": float(np.abs(measure.logits).max()),
        "beside_pytorch": {name: beside(measure, ways[name]()) for name in chosen},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--split", help="of a data set")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS[:-1])
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    if asked.split:
        catalog = read(asked.photographs)
        files = [str(catalog.root / catalog.paths[row]) for row in catalog.rows(asked.split)]
    else:
        files = [str(asked.photographs / path) for path in scan(asked.photographs).paths]
    chosen = np.sort(np.random.default_rng(0).permutation(len(files))[: asked.number])
    found = compared(asked.run, [files[row] for row in chosen], asked.ways)
    print(json.dumps(found, indent=2))
    if asked.out:
        asked.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
