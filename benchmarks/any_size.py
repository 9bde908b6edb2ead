"""Folders of any size: time and memory of `predict --out` beside the number of pictures, and what going on takes.

    .venv/bin/python benchmarks/any_size.py RUN --pictures 2000 20000 60000

Pictures are tiny, and the network takes no time (it answers with the mean of a picture), so what is measured is the
rest: listing, decoding, the record, verdicts and the table. RUN gives the classes and the calibration. Each size is
a process of its own; "again" is the same command with --resume, which finds an answer for every picture.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from fieldmark.answering.predictor import Predictor
from fieldmark.commands.predict_into import predict_into
from fieldmark.core.machine import peak_memory
from fieldmark.evaluation.outputs import Outputs
from fieldmark.runs.bundle import Bundle


def _predict(run: str, folder: str, out: str) -> None:
    bundle = Bundle.load(run)
    width = bundle.calibration.means.shape[1] if bundle.calibration else 4

    def engine(images: np.ndarray) -> Outputs:
        means = images.reshape(len(images), -1).mean(1, keepdims=True)
        return Outputs((means * np.arange(len(bundle.classes)) / 1e3).astype("f4"), np.ones((len(images), width), "f4"))

    predictor, begun = Predictor(bundle, engine=engine), time.perf_counter()
    done = predict_into(predictor, [folder], out, resume=True)
    seconds = time.perf_counter() - begun
    print(
        json.dumps({"pictures": done.num_pictures, "seconds": seconds, "peak": max(peak_memory().values(), default=0)})
    )


def _draw(folder: Path, count: int) -> None:
    for number in range(count):
        place = folder / f"camera {number // 5000}"
        place.mkdir(parents=True, exist_ok=True)
        colour = number % 251, number // 251 % 251, 90
        Image.new("RGB", (40, 30), colour).save(place / f"IMG_{number:07}.jpg")


def main() -> None:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--pictures", type=int, nargs="+", default=[2000, 20000])
    given = parser.parse_args()
    for count in given.pictures:
        with tempfile.TemporaryDirectory() as scratch:
            _draw(Path(scratch) / "photos", count)
            command = [sys.executable, __file__, "--one", given.run, f"{scratch}/photos", f"{scratch}/a.csv"]
            for what in ("first", "again"):
                told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                size = (Path(scratch) / "a.answers.jsonl").stat().st_size / count
                print(
                    f"{count:>8,} pictures, {what}: {1000 * told['seconds'] / count:.2f} ms each, "
                    f"peak {told['peak'] / 2**20:.0f} MB, record {size:.0f} bytes each",
                    flush=True,
                )


if __name__ == "__main__":
    if sys.argv[1] == "--one":
        _predict(*sys.argv[2:])
    else:
        main()
