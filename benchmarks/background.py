"""Does the reliance figure tell a model that leans on the background from one that does not, and does the remedy help?

usage: background.py WORK_FOLDER [--seeds 3]     (finished runs are kept, so it goes on where it stopped)

For each seed a field guide is drawn twice, with the habitat tied to the species (but for the test split) and free.
Trained by the recipe `demo`: on free habitats, on tied ones, and on tied ones with exchanged backgrounds. The
reliance is measured on the validation split, where habitats are as in training; the accuracy on the free test split.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np

from fieldmark.core.reading import read_json
from fieldmark.core.storage import read_rows, write_json
from fieldmark.evaluation.metrics import paired

REMEDY = ("--set", "augment.background=0.5")


def fieldmark(*words):
    subprocess.run([sys.executable, "-m", "fieldmark", *map(str, words)], check=True)


def trained(work, guide, name, *options):
    """Correct answers of the test split by path, and the reliance."""
    run = work / name
    if not (run / "evaluation" / "test" / "scores.json").is_file():
        fieldmark("train", work / guide, "--recipe", "demo", "--out", run, "--resume", *options)
        fieldmark("evaluate", run, "--split", "val", "--background")
        fieldmark("evaluate", run)
    answers = read_rows(run / "evaluation" / "test" / "predictions.csv")
    return {a["path"]: int(a["correct"]) for a in answers}, read_json(
        run / "evaluation" / "val" / "background.json", dict
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    seeds = []
    for seed in range(args.seeds):
        for habitat in ("tied", "free"):
            if not (args.work / f"{habitat}-{seed}" / "guide.json").is_file():
                fieldmark("draw", args.work / f"{habitat}-{seed}", "--habitat", habitat, "--seed", seed)
        options = ("--set", f"seed={seed}")
        free, free_gap = trained(args.work, f"free-{seed}", f"run-free-{seed}", *options)
        tied, tied_gap = trained(args.work, f"tied-{seed}", f"run-tied-{seed}", *options)
        better, better_gap = trained(args.work, f"tied-{seed}", f"run-remedy-{seed}", *options, *REMEDY)
        gains = np.array([better[path] - tied[path] for path in tied], float)
        accuracy = {name: float(np.mean(list(of.values()))) for name, of in
                    (("free", free), ("tied", tied), ("remedy", better))}  # fmt: skip
        lost = accuracy["free"] - accuracy["tied"]
        seeds.append({
            "seed": seed,
            "gap": {"free": free_gap["gap"], "tied": tied_gap["gap"], "remedy": better_gap["gap"]},
            "test_top1": accuracy,
            "remedy_gain": paired(gains).as_dict(),
            "share_won_back": (accuracy["remedy"] - accuracy["tied"]) / lost if lost else None,
        })  # fmt: skip
        result = {"command": "benchmarks/background.py WORK", "images": len(tied), "seeds": seeds}
        write_json(Path(__file__).parent / "results" / "background.json", result)
        print(seeds[-1])


if __name__ == "__main__":
    main()
