"""What a GPU makes of Fieldmark, in eight minutes: precision, memory layout, torch.compile, the loop, two ranks.

usage: gpu_speed.py [--out $OUT] [--seconds 480] [--device auto] [--batch 64] [--pictures 640] [--sizes 224 448]
                    [--backbones tf_efficientnet_lite0 resnet50 vit_small_patch16_224]

Nothing is carried or downloaded: weights are random, and photographs are generated as JPEGs in a folder that is removed
afterwards. Each row is written to OUT/gpu_speed.jsonl at once, the most telling rows come first, and what the time does
not suffice for is named in a last row. A row that fails says why, and the others go on. The rows:

  loop     images per second of the training loop on photographs, of the bare step on a batch in memory, and their
           ratio, measured in turns; what a picture takes to prepare on one core; memory
  ways     images per second of the bare step by precision and layout, from noise
  compile  the same with torch.compile beside the best layout, and the seconds that compiling took
  train    `fieldmark train`, from the command to a finished run, and images per second of its last epoch
  ranks    the same with two processes on one card; what they exchange goes through gloo, since NCCL needs a card for
           each (with two cards, each has its own, and it is NCCL)
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from fieldmark.commands.bench import bench
from fieldmark.core.machine import choose_device, computes_bf16, processor
from fieldmark.core.storage import append_line
from fieldmark.data.task import Task
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.learning.training.bare import Job, Way, Workbench

BACKBONES = ["tf_efficientnet_lite0", "resnet50", "vit_small_patch16_224"]
CLASSES = 20
MEASURING = 8.0
"""Seconds of steps in a row."""
PATIENCE = {"loop": 90, "ways": 60, "compile": 150, "train": 120, "ranks": 150}


def rows_of(backbones, sizes):
    """(kind, backbone, size) of each row, the most telling first."""
    first, *others = sizes
    yield from (("loop", name, first) for name in backbones)
    yield from (("ways", name, first) for name in backbones)
    yield from (("train", backbones[0], first), ("ranks", backbones[0], first))
    yield from (("compile", name, first) for name in reversed(backbones))
    for size in others:
        yield from (("loop", name, size) for name in backbones)
        yield from (("ways", name, size) for name in backbones)
        yield from (("compile", name, size) for name in reversed(backbones))


def draw(folder, number, side=(800, 600)):
    """JPEGs with coarse and fine structure, so that they are as large and as slow to decode as photographs."""
    rng = np.random.default_rng(0)
    for index in range(number):
        coarse = Image.fromarray(rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(
            side, Image.Resampling.BICUBIC
        )
        fine = rng.normal(0, 12, (side[1], side[0], 1))
        file = folder / f"class {index % CLASSES:02}" / f"{index:04}.jpg"
        file.parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray((np.asarray(coarse) + fine).clip(0, 255).astype(np.uint8)).save(file, quality=88)


def overrides_of(size, batch, device):
    precision = "bf16" if computes_bf16(device) else "fp32"
    return [f"images.size={size}", f"train.batch_size={batch}", f"train.precision={precision}", "train.solver=gradient"]


def loop(name, size, options):
    found = bench(
        options.photographs,
        backbone=name,
        weights="none",
        overrides=overrides_of(size, options.batch, options.device),
        seconds=MEASURING,
        device=options.device,
    ).as_dict()
    kept = ("images_per_second", "bare_images_per_second", "ratio", "ratios", "stages")
    return {key: found[key] for key in ("machine", "pictures", "memory", "limit")} | {
        key: found["learning"][key] for key in kept
    }


def workbench(name, size, options):
    recipe = resolve_recipe(
        "finetune", backbone=name, weights="none", overrides=overrides_of(size, options.batch, options.device)
    )
    way = Way("fp32", torch.get_num_threads())
    return Workbench(Job(recipe, Task(CLASSES), options.device, way, []), options.batch), way


def ways(name, size, options):
    track, way = workbench(name, size, options)
    found = {}
    for precision in ("fp32", "bf16") if computes_bf16(options.device) else ("fp32",):
        pair = track.duel(way._replace(precision=precision, layout="contiguous"), way._replace(precision=precision))
        found |= {f"{precision}, contiguous": 1 / pair.best, f"{precision}, channels_last": 1 / pair.other}
    return {"images_per_second": found}


def compiled(name, size, options):
    track, way = workbench(name, size, options)
    way = way._replace(precision="bf16" if computes_bf16(options.device) else "fp32")
    pair = track.duel(way, way._replace(compiled=True))
    if pair is None:
        return {"failed": track.failed[0]}
    return {"images_per_second": {"as it is": 1 / pair.best, "compiled": 1 / pair.other}, "compiling": pair.first}


def train(name, size, options, processes=1):
    run = Path(options.photographs).parent / f"run-{processes}"
    start = ["-m", "fieldmark"]
    if processes > 1:
        start = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *start]
    asked = [*overrides_of(size, options.batch, options.device), "train.epochs=3", "train.precision=auto"]
    command = [sys.executable, *start, "train", options.photographs, "--out", run, "--backbone", name]
    command += ["--weights", "none", "--device", options.device, *(part for one in asked for part in ("--set", one))]
    began = time.perf_counter()
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        return {"failed": done.stderr[-1500:]}
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    memory = json.loads((run / "memory.json").read_text())
    cards = torch.cuda.device_count()
    carrier = {"carried_by": "nccl" if cards >= processes else "gloo"} if processes > 1 else {}
    return {"seconds": seconds, "last_epoch": log[-1], "memory": memory, "processes": processes} | carrier


def ranks(name, size, options):
    return train(name, size, options, processes=2)


KINDS = {"loop": loop, "ways": ways, "compile": compiled, "train": train, "ranks": ranks}


def in_a_process(kind, name, size, options, seconds):
    """The row, measured in a process of its own: it begins with empty memory, and can be ended."""
    asked = json.dumps([kind, name, size, vars(options)])
    command = [sys.executable, __file__, "--row", asked]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        told, complaint = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # with all that it has started
        child.communicate()
        return {"failed": f"took longer than {seconds:.0f} s"}
    return json.loads(told.splitlines()[-1]) if child.returncode == 0 else {"failed": complaint[-1500:]}


def device_name(device):
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else processor()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=os.environ.get("OUT", "."))
    parser.add_argument("--seconds", type=float, default=480)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--pictures", type=int, default=640)
    parser.add_argument("--sizes", type=int, nargs="+", default=[224, 448])
    parser.add_argument("--backbones", nargs="+", default=BACKBONES)
    parser.add_argument("--row", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.row:
        kind, name, size, known = json.loads(options.row)
        print(json.dumps(KINDS[kind](name, size, argparse.Namespace(**known))))
        return
    ends, out = time.monotonic() + options.seconds, Path(options.out)
    out.mkdir(parents=True, exist_ok=True)
    file, options.device = out / "gpu_speed.jsonl", choose_device(options.device)
    about = {"device": device_name(options.device), "torch": torch.__version__, "cores": os.cpu_count()}
    append_line(file, about | {"batch": options.batch, "asked": sys.argv[1:] if argv is None else argv})
    left_out = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FIELDMARK_CACHE"] = str(Path(folder) / "cache")
        options.photographs = str(Path(folder) / "photographs")
        draw(Path(options.photographs), options.pictures)
        for kind, name, size in rows_of(options.backbones, options.sizes):
            row = {"kind": kind, "backbone": name, "size": size}
            seconds = min(PATIENCE[kind], ends - time.monotonic())
            if seconds < PATIENCE[kind] / 4:
                left_out.append(row)
                continue
            found = in_a_process(kind, name, size, options, seconds)
            append_line(file, row | found)
            print(json.dumps(row | found), flush=True)
    append_line(file, {"left_out": left_out, "seconds": options.seconds + time.monotonic() - ends})


if __name__ == "__main__":
    main()
