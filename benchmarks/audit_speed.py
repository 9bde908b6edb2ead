"""How long `audit` takes for many tiny burst frames, and what finds the time.

usage: audit_speed.py [--images 26000] [--profile] [--against COMMIT] [--rounds 2]

A burst is twelve frames of 64 × 48 pixels, in which a camera comes nearer to a drawn road sign. Everything is made in a
temporary folder, with a cache of its own. With --against, an earlier commit and this tree take turns in processes of
their own, so that what else the machine does hits both. The ratios of the medians are printed, of the time and of the
processor time, which other work touches less; and what each found.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

HERE = Path(__file__).resolve().parent.parent
WIDTH, HEIGHT, FRAMES, CLASSES = 64, 48, 12, 20

CHILD = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from fieldmark.core.listener import Advanced, Listener
from fieldmark.commands.audit import audit
heard = {}
class Heard(Listener):
    def hear(self, event):
        if isinstance(event, Advanced):
            first, _ = heard.get(event.stage, (time.perf_counter(), 0))
            heard[event.stage] = first, time.perf_counter()
began = time.perf_counter()
found = audit(sys.argv[1], listener=Heard())
took, cpu = time.perf_counter() - began, time.process_time()
kinds = {finding.kind: [len(finding.cases), len(finding.rows)] for finding in found}
stages = {stage: round(last - first, 1) for stage, (first, last) in heard.items()}
print(json.dumps({"seconds": took, "cpu": cpu, "stages": stages, "kinds": kinds}))
"""


def scene(generator, slope):
    """(2 HEIGHT, 2 WIDTH, 3) smooth random colours, and a road sign in the middle, with a bar of this slope."""
    noise = generator.normal(size=(2 * HEIGHT, 2 * WIDTH, 3))
    coarse = gaussian_filter(noise, (10, 12, 0.5))
    y, x = np.mgrid[-1 : 1 : 2j * HEIGHT, -1 : 1 : 2j * WIDTH] * np.array([1, WIDTH / HEIGHT])[:, None, None]
    away = np.hypot(x, y)[..., None]
    sign = np.where(away < 0.45, np.where(np.abs(x - y * slope)[..., None] < 0.12, 40, 200), np.array([180, 30, 40]))
    return np.where(away < 0.6, sign + 10 * coarse / coarse.std(), 110 + 35 * coarse / coarse.std())


def draw(folder, number):
    """`number` frames in class folders. In a burst a camera comes nearer, a little unsteadily, under changing light."""
    generator = np.random.default_rng(0)
    for burst in range(-(-number // FRAMES)):
        place = folder / f"class {burst % CLASSES:02}"
        place.mkdir(exist_ok=True)
        still = Image.fromarray(scene(generator, burst % CLASSES / 5 - 2).clip(0, 255).astype(np.uint8))
        for frame in range(min(FRAMES, number - burst * FRAMES)):
            margin = 0.14 + (FRAMES - frame) / FRAMES * 0.12
            left, top, right, bottom = (margin + generator.normal(0, 0.01, 4)).clip(0) * np.tile(still.size, 2)
            box = (left, top, still.width - right, still.height - bottom)
            picture = np.asarray(still.resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box=box), np.float32)
            picture = picture * generator.uniform(0.8, 1.2) + generator.normal(0, 3, picture.shape)
            file = place / f"{burst:05}-{frame:02}.jpg"
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(file, quality=90)


def run(tree, data, cache, profile=False):
    environment = os.environ | {"PYTHONPATH": str(tree / "src"), "FIELDMARK_CACHE": str(cache)}
    how = ["-m", "cProfile", "-s", "tottime"] if profile else []
    code = data.parent / "child.py"
    code.write_text(CHILD)
    command = [sys.executable, *how, str(code), str(data)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    if profile:
        print("\n".join(done.stdout.splitlines()[:45]))
        return None
    return json.loads(done.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=26_000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--against")
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "frames"
        data.mkdir()
        began = time.perf_counter()
        draw(data, asked.images)
        print(f"drew {asked.images:,} frames in {time.perf_counter() - began:.0f} s", flush=True)
        trees = {"here": HERE}
        if asked.against:
            trees = {asked.against: Path(folder) / "before", **trees}
            subprocess.run(
                ["git", "worktree", "add", "--detach", str(Path(folder) / "before"), asked.against],
                cwd=HERE, check=True, capture_output=True,
            )  # fmt: skip
        try:
            if asked.profile:
                run(HERE, data, Path(folder) / "cache", profile=True)
                return
            times = {name: [] for name in trees}
            for turn in range(asked.rounds):
                for name, tree in trees.items():
                    result = run(tree, data, Path(folder) / f"cache {name} {turn}")
                    times[name].append((result["seconds"], result["cpu"]))
                    print(
                        f"{name}: {result['seconds']:.1f} s, processor {result['cpu']:.1f} s, "
                        f"{result['stages']} {result['kinds']}",
                        flush=True,
                    )
            if asked.against:
                for what, before, now in zip(
                    ("time", "processor"), *(np.median(times[name], 0) for name in trees), strict=True
                ):
                    print(f"{what}: {before:.1f} s before, {now:.1f} s now: {before / now:.2f} times as fast")
        finally:
            if asked.against:
                subprocess.run(["git", "worktree", "remove", "--force", str(Path(folder) / "before")], cwd=HERE)


main()
