"""Trainings that are killed at random moments and go on: do they end as if nothing had happened?

    python benchmarks/kills.py WORK benchmarks/results/kills.jsonl [--kills 17 17 16]

Eight species of CUB-200-2011 at 64 px, the default recipe and backbone, three ways to be killed by SIGKILL:

  alone        one process is killed, and the same command is given again with --resume
  together     torchrun with two processes: all are killed, and the same command is given again with --resume
  one of two   torchrun with --max-restarts: one of its two processes is killed, and nobody does anything

A moment is drawn uniformly from half of the time that an undisturbed training takes, since the last start. After each
kill every file of the run must be whole, and no process may be left. A training that ends in spite of its kills must
have the weights, the log and the scores of the undisturbed one, and no scratch file; then the next one begins. Each
kill is a line of the file, so the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from fieldmark.core.storage import csv_line
from fieldmark.runs.run import Run

WAYS = ("alone", "together", "one of two")
SPECIES = 8
OPTIONS = ("images.size=64", "train.epochs=8", "train.precision=fp32", "train.checkpoint_steps=3")
SCORES = ("evaluation/val/scores.json", "evaluation/val/predictions.csv")
PATIENCE = 120.0
"""Seconds after which a process that should have ended counts as left over."""


def make_data(folder: Path) -> Path:
    """The first species, in a table that names their photographs where they are."""
    images = Path(os.environ["FIELDMARK_DATA"]) / "CUB_200_2011_first50" / "images"
    species = sorted(images.iterdir())[:SPECIES]
    lines = [csv_line([str(file), one.name]) for one in species for file in sorted(one.iterdir())]
    (table := folder / "birds.csv").write_text("".join([csv_line(["path", "label"]), *lines]))
    return table


def start(way: str, data: Path, out: Path) -> subprocess.Popen[bytes]:
    """The command, which takes up what there is."""
    restarts = "1000" if way == "one of two" else "0"
    together = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", f"--max-restarts={restarts}"]
    settings = [f"--set={one}" for one in OPTIONS]
    command = ["-m", "fieldmark", "train", str(data), "--out", str(out), "--recipe=finetune", *settings, "--resume"]
    with out.with_suffix(".log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, *([] if way == "alone" else together), *command],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )


def children(parent: int) -> list[int]:
    """The processes that it has started and that live."""
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(parent)], capture_output=True, text=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def descendants(parent: int) -> list[int]:
    """All that came from a process."""
    return [pid for child in children(parent) for pid in (child, *descendants(child))]


def lives(pid: int) -> bool:
    """Whether there is such a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def left_over(pids: list[int]) -> list[int]:
    """Those that are still there after some patience, although what they belonged to has been killed."""
    until = time.monotonic() + PATIENCE
    while (left := [pid for pid in pids if lives(pid)]) and time.monotonic() < until:
        time.sleep(0.2)
    return left


def kill(way: str, process: subprocess.Popen[bytes], moments: random.Random) -> list[int]:
    """Kill what this way kills; the processes that were there and should be gone soon."""
    ranks = children(process.pid)
    family = descendants(process.pid)
    if way == "one of two":
        os.kill(moments.choice(ranks), signal.SIGKILL)
        return ranks
    for pid in (process.pid, *(() if way == "alone" else ranks)):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    return family


def damaged(run: Path) -> list[str]:
    """The files of a run that are not whole; what was being written has another name."""
    found = []
    for file in (one for one in run.rglob("*") if one.is_file() and one.suffix not in (".part", ".lock")):
        try:
            match file.suffix:
                case ".json":
                    json.loads(file.read_bytes())
                case ".toml":
                    tomllib.loads(file.read_text())
                case ".jsonl":
                    Run(run).history()
                case ".safetensors":
                    with safe_open(file, "np") as tensors:
                        list(tensors.keys())
        except FileNotFoundError:
            continue  # replaced, or taken away, by a process that has been started again
        except (ValueError, SafetensorError) as error:
            found.append(f"{file.relative_to(run)}: {error}")
    return found


def beside(undisturbed: Path, killed: Path) -> dict[str, Any]:
    """How a training that was killed differs from the one that was not."""
    one, other = (load_file(folder / "bundle" / "model.safetensors") for folder in (undisturbed, killed))
    assert one.keys() == other.keys()
    lines, others = Run(undisturbed).history(), Run(killed).history()
    return {
        "weights_differ_by": max(float(np.abs(one[key].astype("f8") - other[key]).max(initial=0)) for key in one),
        "losses_differ_by": max(abs(a["loss"] - b["loss"]) for a, b in zip(lines, others, strict=False)),
        "same_epochs": [(a["fit"], a["epoch"], a["step"]) for a in lines]
        == [(b["fit"], b["epoch"], b["step"]) for b in others],
        "same_scores": all((undisturbed / name).read_bytes() == (killed / name).read_bytes() for name in SCORES),
        "damaged": damaged(killed),
        "left": [str(file.relative_to(killed)) for file in killed.rglob("*.part")],
    }


def undisturbed(way: str, data: Path, work: Path) -> tuple[Path, float]:
    """The training that nobody kills, and the seconds that it took."""
    out = work / ("alone" if way == "alone" else "together")
    took = out.with_suffix(".json")
    if not took.exists():
        shutil.rmtree(out, ignore_errors=True)
        begun = time.monotonic()
        assert start("alone" if way == "alone" else "together", data, out).wait() == 0, out.with_suffix(".log")
        took.write_text(json.dumps(time.monotonic() - begun))
    return out, json.loads(took.read_text())


def told(way: str, results: Path) -> list[dict[str, Any]]:
    """What the file says of a way."""
    lines = results.read_text().splitlines() if results.exists() else []
    return [one for one in map(json.loads, lines) if one["way"] == way]


def kill_until_done(way: str, wanted: int, data: Path, work: Path, results: Path) -> None:
    """Kill so many trainings of a way, and let the last one end."""
    measure, length = undisturbed(way, data, work)
    before = told(way, results)
    number, kills = sum("ended" in one for one in before), sum("kill" in one for one in before)
    moments, process = random.Random(f"{way} {kills} {number}"), None
    while kills < wanted or (work / f"{way} {number}").exists():
        out = work / f"{way} {number}"
        process = process or start(way, data, out)
        after = moments.uniform(0, length / 2) if kills < wanted else math.inf
        until = time.monotonic() + after
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        if process.poll() is not None:
            assert process.returncode == 0, (out.with_suffix(".log"), process.returncode)
            found = {"ended": True, **beside(measure, out)}
            process, number = None, number + 1
        elif way == "one of two" and not children(process.pid):
            continue  # they have ended, or have not begun
        else:
            pids, kills = kill(way, process, moments), kills + 1
            epochs = len(Run(out).history())
            found = {"kill": kills, "after": round(after, 2), "epochs": epochs}
            found |= {"damaged": damaged(out), "left_over": left_over(pids)}
            process = process if way == "one of two" else None
        with results.open("a") as file:
            file.write(json.dumps({"way": way, "training": int(out.name.split()[-1]), **found}) + "\n")


def main() -> None:
    """Kill, and tell of each kill and each training that ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--kills", type=int, nargs=3, default=[17, 17, 16], help="for each way")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    data = make_data(given.work)
    for way, wanted in zip(WAYS, given.kills, strict=True):
        kill_until_done(way, wanted, data, given.work, given.results)
        print(way, Counter("ended" if "ended" in one else "kill" for one in told(way, given.results)), flush=True)


if __name__ == "__main__":
    main()
