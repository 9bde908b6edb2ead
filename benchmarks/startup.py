"""How long starting takes: help, the import of what answers, and `fieldmark predict RUN one.jpg` from start to answer.

    python benchmarks/startup.py                       # the working tree
    python benchmarks/startup.py --against 6882533     # beside that commit, in turns, with the ratio of each round

Each tree draws a field guide of three species with its own code and trains a small run on it by the recipe `probe`
(MobileNetV2 with random weights, 64 px). What starts is started once untimed, so that bytecode is written and files are
in the system's cache; then each round starts everything once in each tree, in a process of its own with one thread. A
ratio is taken within a round. By its graph is how a bundle answers that was exported, or whose graph won the trial of a
longer job; a commit that knows no graphs answers as it does. Medians over the rounds, of seconds on the clock and of
processor time; the smallest and largest ratio stand beside theirs.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

IMPORT = """
import time
start, processor = time.perf_counter(), time.process_time()
import fieldmark
getattr(fieldmark, "Predictor" if "Predictor" in fieldmark.__all__ else "Bundle")  # trees of before had no Predictor
print(time.perf_counter() - start, time.process_time() - processor)
"""
TRAIN = """
import sys
import fieldmark
data = fieldmark.draw(sys.argv[1] + "/guide", species=3, images_per_species=16, size=64)
fieldmark.train(data, "probe", out=sys.argv[1] + "/run", backbone="mobilenetv2_100", weights="none",
                overrides=["images.size=64"])
"""
ANSWER = "fieldmark predict RUN one.jpg"
BY_GRAPH = f"{ANSWER} by its graph"
MEASURES = ("fieldmark --help", "fieldmark train --help", "import of the predictor", ANSWER, BY_GRAPH)


class Took(NamedTuple):
    """Seconds of one start."""

    clock: float
    processor: float


class Tree(NamedTuple):
    """Source code, and a run that it has trained."""

    source: Path
    work: Path
    graphs: bool
    """Whether it can answer by a bundle's graph."""

    def python(self, *words: str, cache: str = "cache") -> str:
        """Start Python with this tree's Fieldmark; what it prints."""
        own = {"PYTHONPATH": str(self.source / "src"), "FIELDMARK_CACHE": str(self.work / cache)}
        done = subprocess.run(
            [sys.executable, "-W", "ignore", *words],
            cwd=self.work,
            env=os.environ | own | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(f"{self.source}: {done.stderr}")
        return done.stdout

    def prepare(self) -> None:
        """Train the run that is asked."""
        self.work.mkdir()
        home = Path(self.python("-c", "import fieldmark; print(fieldmark.__file__)").strip())
        assert home.is_relative_to(self.source), f"{home} is imported instead of {self.source}"
        self.python("-c", TRAIN, str(self.work))
        next((self.work / "guide").rglob("*.jpg")).rename(self.work / "one.jpg")

    def start(self, measure: str) -> Took:
        """How long one start takes."""
        if measure.startswith("import"):
            return Took(*map(float, self.python("-c", IMPORT).split()))
        words, cache = measure.removesuffix(" by its graph").replace("RUN", "run").split()[1:], "cache"
        if measure == BY_GRAPH and self.graphs:
            words, cache = [*words, "--engine", "onnx"], "cache with a graph"  # which the plain command would find
        clock, processor = time.perf_counter(), _children()
        self.python("-m", "fieldmark", *words, cache=cache)
        return Took(time.perf_counter() - clock, _children() - processor)


def _children() -> float:
    """Processor time of the processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--against", metavar="REV", help="a commit to compare the working tree with")
    arguments.add_argument("--rounds", type=int, default=5)
    given = arguments.parse_args()
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        trees = {"here": Tree(Path(__file__).resolve().parents[1], scratch / "here", graphs=True)}
        if given.against:
            there = stack.enter_context(_worktree(given.against, scratch))
            graphs = (there / "src/fieldmark/exporting/fastest.py").exists()
            trees[given.against] = Tree(there, scratch / "there", graphs)
        for tree in trees.values():
            tree.prepare()
        took: dict[str, dict[str, list[Took]]] = {measure: {name: [] for name in trees} for measure in MEASURES}
        for number in range(given.rounds + 1):
            for measure in MEASURES:
                for name, tree in trees.items():
                    seconds = tree.start(measure)
                    if number:  # the first round is not timed
                        took[measure][name].append(seconds)
            print(f"round {number} of {given.rounds}", file=sys.stderr)
    for measure, by_tree in took.items():
        print(_told(measure, by_tree))


@contextmanager
def _worktree(revision: str, scratch: Path) -> Iterator[Path]:
    """Another checkout, gone again afterwards."""
    here, there = Path(__file__).parents[1], scratch / "tree"
    subprocess.run(["git", "worktree", "add", "--quiet", "--detach", there, revision], cwd=here, check=True)
    try:
        yield there
    finally:
        subprocess.run(["git", "worktree", "remove", "--force", there], cwd=here, check=True)


def _told(measure: str, by_tree: dict[str, list[Took]]) -> str:
    return "\n".join([f"{measure}:", *(f"    {kind}: {_compared(kind, by_tree)}" for kind in Took._fields)])


def _compared(kind: str, by_tree: dict[str, list[Took]]) -> str:
    """The clock or the processor time of each tree."""
    seconds = {name: [getattr(one, kind) for one in took] for name, took in by_tree.items()}
    medians = ", ".join(f"{statistics.median(values):.2f} s {name}" for name, values in seconds.items())
    if len(seconds) == 1:
        return medians
    ratios = [here / there for here, there in zip(*seconds.values(), strict=True)]
    return f"{medians}; ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


if __name__ == "__main__":
    main()
