"""What half of the reference's time is worth: the plain reference, then Fieldmark within shares of the time it took.

usage: accuracy_time.py run WORK DATA [WAY …] [--seed 0]    DATA: cub, flowers102 or cars60. Needs FIELDMARK_DATA
       accuracy_time.py show                                the table in Markdown
WAYS: reference (`reference.py`, which comes first), finetune (as it ships), half and third (`finetune` with a --budget
of that share of the reference's time), probe.

All at 160 px in fp32 on the CPU, one after the other, so nothing else should compute. The reference's time is that of
its training steps alone; Fieldmark's is the wall time of the whole command: imports, decoding and calibration count.
The reference, `finetune` and `probe` learn from all official training photographs; a budget keeps some of them to judge
itself. Each run is scored once on the official test split and kept in results/accuracy-time/; what is there already is
passed over. `fastai_tune.py` adds a row for fastai.
"""

import argparse
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

from budget import PLACES

from fieldmark.comparison.result import Result
from fieldmark.core.machine import processor
from fieldmark.core.reading import read_json
from fieldmark.core.storage import write_json

RESULTS = Path(__file__).parent / "results" / "accuracy-time"
SHARES = {"half": 1 / 2, "third": 1 / 3}
WAYS = ["reference", "finetune", *SHARES, "probe"]
WITHIN = 0.005
"""How far below the reference's accuracy still counts as reached."""


def place_of(data):
    return Path(os.environ["FIELDMARK_DATA"], PLACES[data])


def file_of(out, data, way, seed):
    return out / f"{data}-{way}-{seed}.json"


def keep(out, data, way, seed, found):
    machine = {"processor": processor(), "threads": os.environ.get("OMP_NUM_THREADS", "all")}
    out.mkdir(parents=True, exist_ok=True)
    write_json(file_of(out, data, way, seed), {"data": data, "way": way, "seed": seed, **found, "machine": machine})


def reference(work, data, seed):
    """Its accuracy on test images and the seconds of its training."""
    script = Path(__file__).with_name("reference.py")
    command = [sys.executable, str(script), data, str(work), "--seeds", str(seed), "--device", "cpu"]
    subprocess.run(command, check=True)
    result = Result.load(work / f"reference-{seed}-test.json")
    return {"accuracy": result.accuracy, "seconds": round(result.seconds, 1)}


def fieldmark(work, data, seed, way, budget):
    """Accuracy on test images, and the seconds of the whole `fieldmark train`."""
    out = work / way
    settings = [f"seed={seed}", "images.size=160", "train.precision=fp32"]
    how = ["--budget", f"{budget:.0f}s"] if budget else []
    if not budget:
        settings += ["protocol=refit", "train.validate_epochs=false"]
    command = [sys.executable, "-m", "fieldmark"]
    recipe = "probe" if way == "probe" else "finetune"
    began = time.monotonic()
    subprocess.run(
        [*command, "train", str(place_of(data)), "--recipe", recipe, "--out", str(out), "--device", "cpu", *how]
        + [f"--set={setting}" for setting in settings],
        check=True,
    )
    seconds = time.monotonic() - began
    subprocess.run([*command, "evaluate", str(out), "--split", "test"], check=True)
    scores = read_json(out / "evaluation" / "test" / "scores.json", dict)
    return {"accuracy": scores["top1"]["value"], "seconds": round(seconds, 1), "budget": budget}


def run(asked):
    for way in sorted({"reference", *(asked.ways or WAYS)}, key=WAYS.index):
        file = file_of(asked.out, asked.data, way, asked.seed)
        if not file.exists():
            work = asked.work / f"{asked.data}-{asked.seed}"
            work.mkdir(parents=True, exist_ok=True)
            if way == "reference":
                found = reference(work, asked.data, asked.seed)
            else:
                whole = read_json(file_of(asked.out, asked.data, "reference", asked.seed), dict)["seconds"]
                found = fieldmark(work, asked.data, asked.seed, way, SHARES[way] * whole if way in SHARES else None)
            keep(asked.out, asked.data, way, asked.seed, found)
        one = read_json(file, dict)
        print(f"{file.stem}: {100 * one['accuracy']:.1f} % in {one['seconds']:.0f} s")


def show(asked):
    kept = defaultdict(dict)
    for file in sorted(asked.out.glob("*.json")):
        one = read_json(file, dict)
        kept[one["data"], one["seed"]][one["way"]] = one
    print("| data | seed | way | test | within half a point of the reference | of the reference's time |")
    print("|---|---|---|---|---|---|")
    for (data, seed), ways in sorted(kept.items()):
        base = ways["reference"]
        for way in [*(way for way in WAYS if way in ways), *sorted(ways.keys() - set(WAYS))]:
            one = ways[way]
            reached = "" if way == "reference" else "yes" if one["accuracy"] >= base["accuracy"] - WITHIN else "no"
            share = one["seconds"] / base["seconds"]
            print(f"| {data} | {seed} | `{way}` | {100 * one['accuracy']:.1f} % | {reached} | {share:.2f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=RESULTS)
    acts = parser.add_subparsers(required=True)
    running = acts.add_parser("run")
    running.add_argument("work", type=Path)
    running.add_argument("data", choices=PLACES)
    running.add_argument("ways", nargs="*", metavar="WAY", help=", ".join(WAYS))
    running.add_argument("--seed", type=int, default=0)
    running.set_defaults(act=run)
    acts.add_parser("show").set_defaults(act=show)
    asked = parser.parse_args()
    asked.act(asked)


if __name__ == "__main__":
    main()
