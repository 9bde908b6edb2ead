"""`benchmarks/gpu_speed.py` where there is no GPU: each row comes out with a tiny network, and is written at once."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu_speed.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("gpu_speed", SCRIPT)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_most_telling_rows_come_first(script: Any) -> None:
    rows = list(script.rows_of(script.BACKBONES, [224, 448]))
    assert len(rows) == len(set(rows)) == 20
    assert rows[0] == ("loop", "tf_efficientnet_lite0", 224)
    assert {kind for kind, _, size in rows if size == 224} == set(script.KINDS)
    assert [size for *_, size in rows] == [224] * 11 + [448] * 9


@pytest.mark.parametrize("kind", ["loop", "ways"])
def test_a_row_comes_out(kind: str, script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(script, "MEASURING", 0.2)
    script.draw(tmp_path / "photographs", 60, side=(80, 60))
    options = argparse.Namespace(photographs=str(tmp_path / "photographs"), batch=8, device="cpu")
    found = json.loads(json.dumps(script.KINDS[kind]("test_resnet", 32, options)))
    speeds = found["images_per_second"] if kind == "ways" else {"loop": found["bare_images_per_second"]}
    assert {"ways": "fp32, channels_last", "loop": "loop"}[kind] in speeds
    assert all(speed > 0 for speed in speeds.values())


def test_what_the_time_does_not_suffice_for_is_named(
    script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(script, "in_a_process", lambda *_: {"failed": "no memory"})
    asked = ["--out", str(tmp_path), "--device", "cpu", "--pictures", "2", "--backbones", "test_resnet"]
    script.main([*asked, "--sizes", "32", "--seconds", "36"])
    _, *rows, end = map(json.loads, (tmp_path / "gpu_speed.jsonl").read_text().splitlines())
    assert [row["kind"] for row in rows] == ["loop", "ways", "train"]
    assert {row["failed"] for row in rows} == {"no memory"}
    assert [row["kind"] for row in end["left_out"]] == ["ranks", "compile"]


@pytest.mark.slow
def test_the_whole_script_runs_without_a_gpu(tmp_path: Path) -> None:
    asked = ["--device", "cpu", "--pictures", "120", "--batch", "8", "--backbones", "test_resnet", "--sizes", "32"]
    subprocess.run([sys.executable, SCRIPT, "--out", tmp_path, *asked], check=True, timeout=480)
    _, *rows, end = map(json.loads, (tmp_path / "gpu_speed.jsonl").read_text().splitlines())
    assert [row["kind"] for row in rows] == ["loop", "ways", "train", "ranks", "compile"]
    assert not [row for row in rows if "failed" in row]
    assert end["left_out"] == []
