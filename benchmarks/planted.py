"""A folder of photographs with planted files that are none, answered by a process that is killed at random moments.

    python benchmarks/planted.py RUN WORK [--pictures 10000] [--kills 10] [--out results/planted.json]

One file in twenty is planted: half a JPEG, an empty file, a text, a ZIP archive with a picture's name, or a PNG of 900
million pixels. The others are copies of real photographs (CUB-200-2011, Stanford Cars and Oxford Flowers below
FIELDMARK_DATA) under other names. `fieldmark predict RUN PICTURES --out said.csv --resume` is given so many times and
killed by SIGKILL, at a random moment after its first answer, and then once more.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections import Counter
from pathlib import Path

from fieldmark.answering.record import read_answers
from fieldmark.runs.run import Run

ONE_IN = 20
SETS = ("CUB_200_2011_first50", "cars-60", "flowers-102")


def bomb() -> bytes:
    """A PNG that says it has 30,000 × 30,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(3 * 30_000 + 1) * 100)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def plant(number: int, photograph: Path, place: Path) -> str:
    """Write what is no picture, of one kind after the other; what it is."""
    data = photograph.read_bytes()
    kinds = {
        "half": data[: len(data) // 2],
        "empty": b"",
        "text": b"Nothing was photographed on this day.\n" * 50,
        "archive": b"PK\x05\x06" + bytes(18),
        "bomb": bomb(),
    }
    kind = list(kinds)[number % len(kinds)]
    place.write_bytes(kinds[kind])
    return kind


def fill(folder: Path, count: int) -> dict[str, str]:
    """Files of which one in twenty is planted; the planted ones, with what they are."""
    root, chance = Path(os.environ["FIELDMARK_DATA"]), random.Random(0)
    photographs = sorted(file for name in SETS for file in (root / name).rglob("*.jpg"))
    planted = {}
    for number in range(count):
        place = folder / f"camera {number // 1000}" / f"IMG_{number:05}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        photograph = chance.choice(photographs)
        if number % ONE_IN == 7:
            planted[str(place)] = plant(len(planted), photograph, place)
        else:
            shutil.copyfile(photograph, place)
    return planted


def answered(out: Path) -> list[str]:
    """The pictures that have an answer in the record, each as often as it is there."""
    record = out.with_suffix(".answers.jsonl")
    lines = record.read_bytes().splitlines() if record.exists() else []
    paths = []
    for line in lines:
        try:
            paths.append(json.loads(line)["path"])
        except (ValueError, KeyError):  # the first line, and one that a kill has torn
            continue
    return paths


def main() -> None:
    """Kill, count, and write what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("work", type=Path)
    parser.add_argument("--pictures", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--rate", type=float, default=60.0, help="images in a second, about; the moments depend on it")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    recipe = Run(given.run).recipe()
    folder, said = given.work / "pictures", given.work / "said.csv"
    planted = fill(folder, given.pictures)
    command = [sys.executable, "-m", "fieldmark", "predict", str(given.run), str(folder), "--out", str(said)]
    chance, there, begun = random.Random(0), [], time.monotonic()
    for _ in range(given.kills):
        before = len(answered(said))
        with subprocess.Popen([*command, "--resume"], stderr=subprocess.DEVNULL) as process:
            while process.poll() is None and len(answered(said)) == before:
                time.sleep(0.1)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(chance.uniform(0, 2 * given.pictures / given.rate / (given.kills + 1)))
            process.kill()
        there.append(len(answered(said)))
        print(f"killed with {there[-1]:,} answers", flush=True)
    last = subprocess.run([*command, "--resume"], check=False, capture_output=True, text=True)
    with said.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    skipped = {row["path"]: row["skipped"] for row in rows if row["skipped"]}
    reasons = [
        f"{planted[path]}: {why.replace(path, 'FILE').partition('. ')[0].partition(' (')[0]}"
        for path, why in skipped.items()
        if path in planted
    ]
    found = {
        "network": f"{recipe.method.name} on {recipe.backbone.name}, {recipe.images.size} px",
        "files": given.pictures,
        "planted": Counter(planted.values()),
        "answers_after_each_kill": there,
        "exit_status": last.returncode,
        "rows": len(rows),
        "each_file_has_one_row": sorted(row["path"] for row in rows) == sorted(map(str, folder.rglob("*.jpg"))),
        "each_file_has_one_answer": sorted(answered(said)) == sorted(map(str, folder.rglob("*.jpg"))),
        "skipped_are_the_planted": skipped.keys() == planted.keys(),
        "all_others_have_a_class": all(row["label"] for row in rows if not row["skipped"]),
        "readable_record": sum(1 for _ in read_answers([said.with_suffix(".answers.jsonl")])),
        "reasons": dict(sorted(Counter(reasons).items())),
        "seconds": round(time.monotonic() - begun),
    }
    print(json.dumps(found, indent=2))
    if given.out:
        given.out.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
