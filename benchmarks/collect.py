"""Keep a finished and evaluated run as one small JSON under benchmarks/results/.

usage: collect.py RUN [RUN …]        (the file is named after the run folder)
"""

import json
import sys
from pathlib import Path

from fieldmark import Run
from fieldmark.core.machine import processor
from fieldmark.core.reading import read_json
from fieldmark.core.storage import write_json

RESULTS = Path(__file__).parent / "results"
KEYS = ("top1", "top5", "mean_class_accuracy", "nll", "calibration_error", "num_images", "looks")


def collected(run: Run) -> dict[str, object]:
    """What is worth keeping."""
    environment, history = read_json(run.folder / "environment.json", dict), run.history()
    command = ["fieldmark", *(Path(word).name if "/" in word else word for word in environment["command"][1:])]
    scores = {
        part.name: read_json(part / "scores.json", dict) for part in sorted((run.folder / "evaluation").iterdir())
    }
    return {
        "command": " ".join(command),
        "data": {key: run.data()[key] for key in ("name", "counts", "digests")},
        "recipe": json.loads(run.recipe().model_dump_json(exclude={"backbone": {"weights"}})),
        "weights": Path(run.recipe().backbone.weights).name,
        "scores": {part: {key: value[key] for key in KEYS} for part, value in scores.items()},
        "training_seconds": history[-1]["seconds"] if history else None,
        "machine": {**environment["machine"], "processor": processor()},
        "packages": environment["packages"],
    }


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run = Run.open(name)
        write_json(RESULTS / f"{run.folder.name}.json", collected(run))
        print(RESULTS / f"{run.folder.name}.json")
