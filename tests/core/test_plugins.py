"""Plug-ins: pieces in somebody else's installed package, found by entry points, working or broken."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PACKAGE = "fieldmark_mudflats"
METHOD = """
from typing import final
from fieldmark.model.method import Losses, Method, Prediction

@final
class Mudflats(Method):
    def __init__(self, backbone, heads, *, doubled=2.0):
        super().__init__(backbone)
        self.doubled = doubled
        self.head = heads(backbone.width)

    def forward(self, images):
        pooled = self.backbone(images).pooled
        return Prediction(self.head(self.doubled * pooled), pooled, pooled)

    def losses(self, batch, step):
        pooled = self.backbone(batch.images).pooled
        return Losses(self.head.losses(self.doubled * pooled, batch), pooled)
"""
NECK = """
from fieldmark.model.necks.neck import Neck

class LargestCell(Neck):
    def __init__(self, channels):
        super().__init__()
        self.width = channels

    def forward(self, features):
        return features.amax((2, 3))
"""
ENTRIES = """
[fieldmark.methods]
mudflats = fieldmark_mudflats.method:Mudflats
broken = fieldmark_mudflats.broken:Broken
transfer = fieldmark_mudflats.method:Mudflats
no_method = fieldmark_mudflats.neck:LargestCell

[fieldmark.necks]
largest_cell = fieldmark_mudflats.neck:LargestCell
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that an installer would have filled: the package and what it says of itself."""
    site = tmp_path_factory.mktemp("site")
    package, info = site / PACKAGE, site / f"{PACKAGE}-1.2.dist-info"
    package.mkdir()
    info.mkdir()
    for name, text in (("__init__", ""), ("method", METHOD), ("neck", NECK), ("broken", "import a_module_that_is_not")):
        (package / f"{name}.py").write_text(text)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fieldmark-mudflats\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    return site


def python(*arguments: str, site: Path | None = None, **more: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own, with the plug-in installed or not."""
    environment = os.environ | {"PYTHONPATH": str(site) if site else "", "COLUMNS": "200"} | more
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, env=environment, timeout=300)


def code(text: str) -> list[str]:
    return ["-W", "always", "-c", textwrap.dedent(text)]


def test_found_by_name_and_the_broken_ones_left_out(site: Path) -> None:
    done = python(
        *code("""
        from fieldmark.core.errors import RecipeError
        from fieldmark.model.method import METHODS
        from fieldmark.model.necks.neck import NECKS
        print(*METHODS)
        print(METHODS.get("transfer").__module__, METHODS.origin("mudflats"), METHODS.origin("transfer"), *NECKS)
        print(METHODS.options("mudflats"))
        try:
            METHODS.get("broken")
        except RecipeError as error:
            print(type(error).__name__, error)
        """),
        site=site,
    )
    names, homes, options, refusal = done.stdout.splitlines()
    assert "mudflats" in names.split()
    assert not {"broken", "no_method"} & set(names.split())
    own = "fieldmark.methods.transfer fieldmark-mudflats 1.2 None"
    assert homes == f"{own} attention isqrt_cov largest_cell"
    assert options == "{'doubled': 2.0}"
    assert refusal.startswith("RecipeError The method 'broken' cannot be used: fieldmark-mudflats 1.2 could not be imp")
    assert "No module named 'a_module_that_is_not'" in refusal
    warned = [line for line in done.stderr.splitlines() if "PluginWarning" in line]
    assert len(warned) == 3
    assert any("'transfer' of a plug-in is left out: fieldmark-mudflats 1.2 names a method" in line for line in warned)
    assert any("is not a subclass of Method" in line for line in warned)


def test_trained_kept_in_the_bundle_and_missed(site: Path, pictures: Path, tmp_path: Path) -> None:
    options = ["--set=backbone.name=test_resnet", "--set=backbone.weights=none", "--set=images.size=64"]
    pieces = ["--set=method.name=mudflats", "--set=neck.name=largest_cell", "--set=train.epochs=1"]
    run = tmp_path / "run"
    command = ["-m", "fieldmark", "train", str(pictures), "--recipe=walkthrough", *options, *pieces, "--out", str(run)]
    trained = python(*command, site=site)
    assert trained.returncode == 0, trained.stderr
    assert "warning: The method 'broken' of a plug-in is left out" in trained.stderr
    description = (run / "bundle" / "model.json").read_text()
    assert '"package": "fieldmark-mudflats"' in description
    photograph = str(pictures / "jade" / "00.png")
    answered = python("-m", "fieldmark", "predict", str(run), photograph, site=site)
    assert answered.returncode == 0, answered.stderr
    without = python("-m", "fieldmark", "predict", str(run), photograph)
    assert without.returncode == 2
    last = without.stderr.strip().splitlines()[-1]
    assert "needs the neck 'largest_cell' from the package fieldmark-mudflats 1.2" in last or "needs the method" in last
    assert last.endswith("Install it with: pip install fieldmark-mudflats==1.2.")


def test_the_shipped_suite_runs_on_it_by_one_line(site: Path, tmp_path: Path) -> None:
    chosen = "mudflats and (shapes or gradient or head_is_part or saves) and not vit"
    line = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--pyargs", "fieldmark.learning.conformance", "-k", chosen]
    done = subprocess.run(
        [sys.executable, *line], capture_output=True, text=True, cwd=tmp_path, timeout=300,
        env=os.environ | {"PYTHONPATH": str(site)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout
