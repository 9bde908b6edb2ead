"""What 100,000 images of 10,000 classes cost: start-up, memory, steps per second, and the size of every page.

    python benchmarks/scale.py                                 # about half an hour on one core
    python benchmarks/scale.py --classes 1000 --only audit     # a smaller set; one stage
    python benchmarks/scale.py --work DIR                      # keep what is generated and trained, and use it again

The set is generated: a folder for each class below those of its genus and family, and in each some JPEGs of 64 to 96
pixels, on which a colour pattern of the class and one of the picture lie upon each other. Nothing is to be learnt from
it but what things cost. Each stage is one of Fieldmark's own commands in a process of its own, with one thread; its
seconds are those on the clock and of the processor, its memory is the most that the process had resident. The pixel
cache is empty at first, so the first training is the cold one.

`steps` compares the speed of steps with that on 1,000 of the images, with as many classes and so the same head: both
trainings are prepared in one process and take turns, some steps each, and a ratio is taken within a turn. `start` and
`small-start` go to the first step of each, with pixels that are cached, and tell what each part of the way takes.

Results go to results/scale-CLASSES.json, one entry for each stage; other entries stay.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
NETWORK = {"backbone": "mobilenetv3_small_050", "weights": "none"}
SMALL = ["images.size=32", "train.epochs=1", "train.batch_size=64"]
FEW = 1_000
"""Images of the small case."""
TURNS, STEPS = 7, 10
SPECIES, GENERA = 10, 10
"""Species of a genus, and genera of a family."""


# ---- the set


def generate(folder: Path, classes: int, images: int) -> None:
    """Draw the photographs, unless they are there."""
    import numpy as np
    from PIL import Image

    if folder.exists():
        return
    drawing = folder.with_name(folder.name + ".part")
    shutil.rmtree(drawing, ignore_errors=True)
    for label in range(classes):
        rng = np.random.default_rng(label)
        genus = label // SPECIES
        home = drawing / f"family {genus // GENERA:03}" / f"genus {genus:04}" / f"species {label:05}"
        home.mkdir(parents=True)
        own = rng.integers(0, 256, (4, 4, 3))
        for number in range(images):
            both = (0.5 * own + 0.5 * rng.integers(0, 256, (4, 4, 3))).astype(np.uint8)
            size = tuple(rng.integers(64, 97, 2).tolist())
            Image.fromarray(both).resize(size, Image.Resampling.BICUBIC).save(home / f"{number}.jpg", quality=85)
    drawing.rename(folder)


# ---- stages: each runs in a process of its own, and says what else there is to know


def audit(work: Path) -> dict[str, Any]:
    import fieldmark

    found = fieldmark.audit(work / "photographs", out=fresh(work / "audit"))
    return {"findings": [finding.kind for finding in found], **sizes(work / "audit")}


def finetune(work: Path) -> dict[str, Any]:
    return trained(work, "finetune")


def finetune_again(work: Path) -> dict[str, Any]:
    return trained(work, "finetune-again", seed=1)


def probe(work: Path) -> dict[str, Any]:
    return trained(work, "probe", recipe="probe")


def trained(work: Path, name: str, *, recipe: str = "finetune", seed: int = 0) -> dict[str, Any]:
    import fieldmark
    from fieldmark.core.listener import EpochEnded, StepTaken

    began, at = time.perf_counter(), dict[str, float]()

    class Clock(fieldmark.Listener):
        def hear(self, event: object) -> None:
            now = time.perf_counter() - began
            if isinstance(event, StepTaken):
                at.setdefault("first_step", now)
            if isinstance(event, EpochEnded):
                at["last_step"] = now

    changes = [*SMALL, f"seed={seed}"]
    fieldmark.train(
        work / "photographs", recipe, out=fresh(work / name), overrides=changes, listener=Clock(), **NETWORK
    )
    told = {f"{what}_seconds": round(seconds, 1) for what, seconds in at.items()}
    return {**told, "log_bytes": (work / name / "log.jsonl").stat().st_size, **sizes(work / name)}


def evaluate(work: Path) -> dict[str, Any]:
    import fieldmark

    found = fieldmark.evaluate(work / "finetune")
    return {"num_images": found.num_images, **sizes(work / "finetune" / "evaluation" / "test")}


def report(work: Path) -> dict[str, Any]:
    import fieldmark

    return {"page_bytes": fieldmark.report(work / "finetune").stat().st_size}


def predict(work: Path) -> dict[str, Any]:
    import fieldmark

    firsts = sorted((work / "photographs").rglob("0.jpg"))[:FEW]
    return {"num_images": sum(1 for _ in fieldmark.predict(work / "finetune", firsts))}


def compare(work: Path) -> dict[str, Any]:
    """The leaderboard of two recipes."""
    import fieldmark

    out = fresh(work / "comparison")
    fieldmark.compare(work / "photographs", ["finetune", "probe"], out=out, seeds=1, overrides=SMALL, **NETWORK)
    return sizes(work / "comparison", depth=1)


class Walk:
    """A training, step by step. `marks` tells what each part of the way to it takes, in seconds."""

    def __init__(self, work: Path, name: str, catalog: Any) -> None:
        import torch

        from fieldmark.core.listener import Listener
        from fieldmark.core.machine import Machine
        from fieldmark.learning.fitting.fit import Fit
        from fieldmark.learning.fitting.prepare import prepare
        from fieldmark.learning.fitting.resolve import resolve_recipe
        from fieldmark.runs.run import Run

        self.marks, self._last = dict[str, float](), time.perf_counter()
        recipe = resolve_recipe("finetune", **NETWORK, overrides=[*SMALL, "train.epochs=1000"])
        recipe = recipe.model_copy(update={"train": recipe.train.model_copy(update={"solver": "gradient"})})
        self.machine = Machine.decide(recipe, "cpu")
        torch.set_num_threads(self.machine.threads)
        self._mark("imports")
        data = prepare(catalog, recipe, Listener())
        self._mark("prepare")
        fit = Fit(Run(work / name), recipe, self.machine, data, Listener())
        rows = data.catalog.rows("train")
        model = fit.build(rows, load_weights=True)
        self._mark("build")
        samples, schedule = fit.plan(model, rows)
        self._steps = fit.steps(fit.state(model, schedule), samples, schedule, rows)
        self.take(1)
        self._mark("first_step")

    def _mark(self, name: str) -> None:
        now = time.perf_counter()
        self.marks[f"{name}_seconds"], self._last = round(now - self._last, 2), now

    def take(self, number: int) -> None:
        next(islice(self._steps, number - 1, None))


def some(catalog: Any) -> Any:
    """The small case."""
    import numpy as np

    return catalog.select(np.sort(np.random.default_rng(0).permutation(len(catalog))[:FEW]))


def start(work: Path, *, small: bool = False) -> dict[str, Any]:
    """To the first step. The small case reads the large one too, which its sum leaves out."""
    import fieldmark

    began = time.perf_counter()
    catalog = fieldmark.read(work / "photographs")
    reading = round(time.perf_counter() - began, 2)
    marks = Walk(work, "start", some(catalog) if small else catalog).marks
    return marks if small else {"read_seconds": reading, **marks}


def small_start(work: Path) -> dict[str, Any]:
    return start(work, small=True)


def steps(work: Path) -> dict[str, Any]:
    """Steps per second beside the small case."""
    import fieldmark

    whole = fieldmark.read(work / "photographs")
    walks = {"large": Walk(work, "large", whole), "small": Walk(work, "small", some(whole))}
    for one in walks.values():
        one.take(STEPS)
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in walks}
    for turn in range(TURNS):
        for name in walks if turn % 2 else reversed(walks):
            clock, processor = time.perf_counter(), time.process_time()
            walks[name].take(STEPS)
            took[name].append((time.perf_counter() - clock, time.process_time() - processor))
    machine = walks["large"].machine
    found: dict[str, Any] = {"workers": machine.workers, "precision": machine.precision}
    for at, kind in enumerate(("clock", "processor")):
        large, small = ([one[at] for one in took[name]] for name in ("large", "small"))
        ratios = [few / many for many, few in zip(large, small, strict=True)]
        found[kind] = {
            "large_steps_per_second": round(STEPS / statistics.median(large), 3),
            "small_steps_per_second": round(STEPS / statistics.median(small), 3),
            "ratio": round(statistics.median(ratios), 3),
            "least": round(min(ratios), 3),
            "most": round(max(ratios), 3),
        }
    return found


STAGES: dict[str, Callable[[Path], dict[str, Any]]] = {
    one.__name__.replace("_", "-"): one
    for one in (audit, finetune, finetune_again, start, small_start, steps, evaluate, report, predict, compare, probe)
}


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def sizes(folder: Path, depth: int = 9) -> dict[str, Any]:
    """Bytes of the larger files."""
    files = [file for file in folder.rglob("*") if file.is_file() and len(file.relative_to(folder).parts) <= depth]
    return {
        "bytes": {
            str(file.relative_to(folder)): file.stat().st_size
            for file in sorted(files)
            if file.stat().st_size > 100_000 or file.suffix == ".html"
        }
    }


# ---- running them


def measured(stage: str, work: Path) -> dict[str, Any]:
    """Run a stage in a process of its own."""
    own = {"OMP_NUM_THREADS": "1", "FIELDMARK_CACHE": str(work / "cache")}
    clock = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-W", "ignore", __file__, "--child", stage, "--work", str(work)],
        env=os.environ | own, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    said = child.stdout.read()
    _, status, used = os.wait4(child.pid, 0)
    if status:
        raise SystemExit(f"{stage} failed")
    return {
        "seconds": round(time.perf_counter() - clock, 1),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 1),
        "peak_mb": round(used.ru_maxrss / 1024),
        **json.loads(said.splitlines()[-1]),
    }


@contextmanager
def workplace(given: Path | None) -> Iterator[Path]:
    if given:
        given.mkdir(parents=True, exist_ok=True)
        yield given.resolve()
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=10_000)
    parser.add_argument("--images", type=int, default=10, help="of each class")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--only", nargs="+", choices=list(STAGES), default=list(STAGES))
    parser.add_argument("--child", choices=list(STAGES), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        print(json.dumps(STAGES[given.child](given.work)))
        return
    from fieldmark.core.machine import processor
    from fieldmark.core.reading import read_json
    from fieldmark.core.storage import write_json

    place = RESULTS / f"scale-{given.classes}.json"
    with workplace(given.work) as work:
        generate(work / "photographs", given.classes, given.images)
        for stage in given.only:
            found = read_json(place, dict) if place.exists() else {}
            found |= {"classes": given.classes, "images": given.classes * given.images, "processor": processor()}
            found[stage] = measured(stage, work)
            write_json(place, found)
            print(stage, json.dumps(found[stage]), flush=True)


if __name__ == "__main__":
    main()
