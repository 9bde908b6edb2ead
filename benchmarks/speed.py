"""Steps per second of every method, neck, head, loss and auxiliary, relative to `transfer`, in training and answering.

usage: speed.py [--backbone NAME …] [--size PIXELS …] [--batch 16] [--rounds 7] [--classes 50] [--threads 1]
                [--precision fp32] [--device cpu] [--only NAME …]

What there is to measure is found in the registries. A step is all that one batch of `finetune` costs the network:
losses, gradients and the optimizer, as often as the method asks for; images are noise and ready. Each round times every
variant once, one after the other, so that what else the machine does falls on all of them; a ratio is taken within a
round, and its median over the rounds stands beside its quartiles. On a CPU it is the processor time that is counted.
Results go to results/speed.json, one entry for each backbone, size, batch and device; other entries stay.
"""

import argparse
import statistics
import sys
import time
from importlib import metadata

import torch
from collect import RESULTS, processor

from fieldmark.core.errors import FieldmarkError
from fieldmark.core.reading import read_json
from fieldmark.core.storage import write_json
from fieldmark.data.task import Task
from fieldmark.data.taxonomy import Taxonomy
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.learning.training.batchnorm import freeze_statistics
from fieldmark.learning.training.optimizer import build_optimizer, set_learning
from fieldmark.model.auxiliaries.auxiliary import AUXILIARIES
from fieldmark.model.batch import Batch
from fieldmark.model.build import build_model
from fieldmark.model.heads.classifier import CLASSIFIERS
from fieldmark.model.losses.loss import LOSSES
from fieldmark.model.method import METHODS
from fieldmark.model.necks.neck import NECKS
from fieldmark.model.precision import autocast

BASE = "transfer"
PIECES = {"method": METHODS, "neck": NECKS, "head": CLASSIFIERS, "loss": LOSSES, "auxiliary": AUXILIARIES}


def variants(only):
    """Name → what it does otherwise than `finetune`: one piece each."""
    found = {name: [f"method.name={name}"] for name in METHODS}
    for section, registry in PIECES.items():
        if section != "method":
            found |= {f"{section} {name}": [f"{section}.name={name}"] for name in registry}
    del found["head linear"], found["loss cross_entropy"]  # those of the base
    return {name: found[name] for name in (BASE, *found) if name == BASE or not only or name in only}


def task_of(num_classes):
    """Ten images of each class, five classes to a genus, and an order for what asks for one."""
    species = tuple(f"species {k}" for k in range(num_classes))
    taxonomy = Taxonomy.of(species, {"genus": [str(k // 5) for k in range(num_classes)]})
    return Task(num_classes, (10,) * num_classes, taxonomy, grades=tuple(range(num_classes)))


def batch_of(options, size):
    """Noise; two images of a class, and key points for methods that look at them."""
    count = options.batch
    images = torch.randn(count, 3, size, size).contiguous(memory_format=torch.channels_last)
    labels = (torch.arange(count) // 2 % options.classes).unsqueeze(1)
    keypoints = torch.cat([torch.rand(count, 15, 2) * size, torch.ones(count, 15, 1)], dim=2)
    boxes = torch.tensor([0.0, 0.0, size, size]).expand(count, 4)
    tensors = (images, labels, torch.ones(count, 1), torch.arange(count))
    there = [tensor.to(options.device) for tensor in (*tensors, boxes, keypoints)]
    return Batch(*there[:4], boxes=there[4], keypoints=there[5])


class Timed:
    """A model with an optimizer, and the two things that are timed."""

    def __init__(self, changes, backbone, size, options):
        recipe = resolve_recipe(
            "finetune", backbone=backbone, weights="none",
            overrides=[f"images.size={size}", "images.train_scale=1.0", f"train.batch_size={options.batch}", *changes],
        )  # fmt: skip
        torch.manual_seed(0)
        self.model = build_model(recipe, task_of(options.classes))
        self.model.to(options.device, memory_format=torch.channels_last)
        self.optimizer = build_optimizer(self.model, recipe.train)
        self.batch = batch_of(options, size)
        self.precision = options.precision

    def train(self):
        set_learning(self.model, early=[], head_only=False)
        freeze_statistics(self.model)
        for step in range(self.model.method.steps_per_batch):
            with autocast(self.precision, self.batch.images.device):
                losses = self.model.losses(self.batch, step)
            self.optimizer.zero_grad(set_to_none=True)
            torch.stack([value.float() for value in losses.values()]).sum().backward()
            self.optimizer.step()

    def answer(self):
        self.model.eval()
        with torch.inference_mode(), autocast(self.precision, self.batch.images.device):
            self.model(self.batch.images)


def seconds(act, device):
    """Of one call."""
    if device == "cpu":
        start = time.process_time()
        act()
        return time.process_time() - start
    torch.cuda.synchronize()
    start = time.perf_counter()
    act()
    torch.cuda.synchronize()
    return time.perf_counter() - start


def summary(own, base):
    """Steps per second, and the ratio to the base of the same round."""
    low, middle, high = statistics.quantiles([b / o for o, b in zip(own, base, strict=True)], n=4)
    return {
        "steps_per_second": round(1 / statistics.median(own), 3),
        "relative": round(middle, 3),
        "quartiles": [round(low, 3), round(high, 3)],
    }


def measured(backbone, size, options):
    """Variant → what was found, or why it was left out."""
    timed, left_out = {}, {}
    for name, changes in variants(options.only).items():
        try:
            timed[name] = Timed(changes, backbone, size, options)
            timed[name].train()  # the first call allocates
            timed[name].answer()
        except FieldmarkError as error:
            timed.pop(name, None)
            left_out[name] = str(error)
    took = {name: {"training": [], "inference": []} for name in timed}
    for number in range(options.rounds):
        for name, one in timed.items():
            took[name]["training"].append(seconds(one.train, options.device))
            took[name]["inference"].append(seconds(one.answer, options.device))
        print(f"{backbone}, {size} px: round {number + 1} of {options.rounds}", file=sys.stderr)
    found = {
        name: {
            "parameters": sum(p.numel() for p in timed[name].model.parameters()),
            "steps_per_batch": timed[name].model.method.steps_per_batch,
            **{phase: summary(own, took[BASE][phase]) for phase, own in phases.items()},
        }
        for name, phases in took.items()
    }
    return found, left_out


def show(title, found, left_out):
    """As a table."""
    print(f"\n{title}\n\n| variant | training | quartiles | inference | quartiles | million parameters |")
    print("|---|---|---|---|---|---|")
    for name, one in found.items():
        cells = [f"{one[p]['relative']:.2f} | {one[p]['quartiles'][0]:.2f}–{one[p]['quartiles'][1]:.2f}"
                 for p in ("training", "inference")]  # fmt: skip
        print(f"| {name} | {' | '.join(cells)} | {one['parameters'] / 1e6:.2f} |")
    for name, reason in left_out.items():
        print(f"left out: {name}: {reason}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", nargs="+", default=["mobilenetv2_100"])
    parser.add_argument("--size", nargs="+", type=int, default=[160])
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--classes", type=int, default=50)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", default=[], help="variants beside transfer; all unless given")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least two, since their quartiles are given")
    torch.set_num_threads(options.threads)
    place = RESULTS / "speed.json"
    for backbone in options.backbone:
        for size in options.size:
            found, left_out = measured(backbone, size, options)
            key = f"{backbone}-{size}px-{options.batch}-{options.device}-{options.precision}"
            show(key, found, left_out)
            entry = {
                "command": " ".join(["python", "benchmarks/speed.py", *sys.argv[1:]]),
                "rounds": options.rounds,
                "classes": options.classes,
                "variants": found,
                "left_out": left_out,
                "machine": {
                    "device": torch.cuda.get_device_name() if options.device != "cpu" else "cpu",
                    "threads": options.threads,
                    "precision": options.precision,
                    "processor": processor(),
                },
                "packages": {name: metadata.version(name) for name in ("torch", "timm")},
            }
            write_json(place, (read_json(place, dict) if place.is_file() else {}) | {key: entry})


main()
