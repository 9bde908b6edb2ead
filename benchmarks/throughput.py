"""Images per second from JPEG files to verdicts, beside what a competent user writes with timm and PyTorch.

usage: throughput.py RUN PHOTOGRAPHS [--number 640] [--rounds 3] [--out results/throughput-NAME.json]

RUN is a bundle that was exported (`fieldmark export`). Each round has its rows one after the other, with all
cores of the machine:

  plain              the same network from timm in PyTorch, fp32, DataLoader with two workers, torchvision's resize and
                     crop; in a process of its own, which has nothing of Fieldmark
  plain, kept        the same in this process, where freed memory is kept (`keep_freed_memory`); glibc gives it back
                     otherwise
  torch              `Predictor` with PyTorch
  onnx               `Predictor` with ONNX Runtime, decoding meanwhile

One view on both sides: mirror images are left out, whatever the recipe says; `mirrored` adds the bundle's own graph as
it is. Files are read once before, so that the disk plays no role. The medians over the rounds and their ratios to
`plain`, and the shares of images that two ways give the same class.
"""

import argparse
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import v2

from fieldmark.answering.onnx import OnnxEngine
from fieldmark.answering.predictor import Predictor
from fieldmark.answering.stream import stream
from fieldmark.answering.things import named
from fieldmark.core.machine import num_decoders, processor
from fieldmark.core.memory import keep_freed_memory
from fieldmark.core.storage import write_json
from fieldmark.exporting.graph import graph_of


class Files(torch.utils.data.Dataset):
    def __init__(self, files, images, normalization):
        self.files = files
        self.view = v2.Compose([
            v2.Resize(round(images.size / images.crop), v2.InterpolationMode(normalization.interpolation)),
            v2.CenterCrop(images.size),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(normalization.mean, normalization.std),
        ])  # fmt: skip

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        return self.view(Image.open(self.files[index]).convert("RGB"))


ALONE = """
import json, sys, time
import timm, torch
from PIL import Image
from torchvision.transforms import v2
name, classes, size, resize, interpolation, *files = sys.argv[1:]
model = timm.create_model(name, num_classes=int(classes)).eval()
view = v2.Compose([v2.Resize(int(resize), v2.InterpolationMode(interpolation)), v2.CenterCrop(int(size)),
                   v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize((0.5,) * 3, (0.5,) * 3)])
class Files(torch.utils.data.Dataset):
    def __len__(self): return len(files)
    def __getitem__(self, i): return view(Image.open(files[i]).convert("RGB"))
began = time.perf_counter()
with torch.inference_mode():
    for batch in torch.utils.data.DataLoader(Files(), 32, num_workers=2): model(batch).argmax(1)
print(len(files) / (time.perf_counter() - began))
"""


def alone(bundle, files):
    """Images per second of the plain loop in a process of its own; workers are started within that time."""
    resize = round(bundle.images.size / bundle.images.crop)
    told = [bundle.recipe.backbone.name, len(bundle.classes), bundle.images.size, resize, bundle.interpolation, *files]
    done = subprocess.run([sys.executable, "-c", ALONE, *map(str, told)], capture_output=True, text=True, check=True)
    return float(done.stdout)


def plain(model, files, images):
    loader = torch.utils.data.DataLoader(Files(files, images, model.backbone.normalization), 32, num_workers=2)
    with torch.inference_mode():
        return torch.cat([model(batch).logits.argmax(1) for batch in loader]).numpy()


def fieldmark(predictor, engine, files):
    answered = stream(named(files), predictor.see, engine, threads=num_decoders())
    return np.concatenate([one.output.logits.argmax(1) for one in answered])


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("photographs", type=Path)
    parser.add_argument("--number", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    rng = np.random.default_rng(0)
    files = sorted(map(str, asked.photographs.rglob("*.jpg")))
    files = [files[i] for i in rng.permutation(len(files))[: asked.number]]
    for file in files:
        Path(file).read_bytes()
    whole = Predictor.load(asked.run, device="cpu", engine="onnx")
    images = whole.bundle.images.model_copy(update={"mirror": False})
    bundle = replace(whole.bundle, recipe=whole.bundle.recipe.model_copy(update={"images": images}))
    predictor = Predictor(bundle)
    model = predictor.model
    ways = {"mirrored": whole.engine} if whole.bundle.images.mirror else {}
    ways |= {"torch": predictor.engine, "onnx": OnnxEngine(graph_of(bundle).SerializeToString(), bundle)}
    runs = {"plain, kept": lambda: plain(model, files, bundle.images)}
    runs |= {way: lambda engine=engine: fieldmark(predictor, engine, files) for way, engine in ways.items()}
    speeds, said = {name: [] for name in ("plain", *runs)}, {}

    def measured(name, work):
        began = time.perf_counter()
        said[name] = work()
        speeds[name].append(len(files) / (time.perf_counter() - began))

    keep_freed_memory()
    for _ in range(asked.rounds):
        speeds["plain"].append(alone(bundle, files))
        for name, work in runs.items():
            measured(name, work)
    middle = {name: float(np.median(some)) for name, some in speeds.items()}
    found = {
        "network": f"{bundle.recipe.backbone.name}, {bundle.images.size} px",
        "images": len(files),
        "images_per_second": {name: round(speed, 1) for name, speed in middle.items()},
        "ratio_to_plain": {name: round(speed / middle["plain"], 2) for name, speed in middle.items()},
        "same_class": {
            "torch and plain, whose decoders differ": float((said["torch"] == said["plain, kept"]).mean()),
            "onnx and torch": float((said["onnx"] == said["torch"]).mean()),
        },
        "rounds": {name: [round(one, 1) for one in some] for name, some in speeds.items()},
        "machine": {"threads": torch.get_num_threads(), "processor": processor()},
    }
    print(json.dumps(found, indent=1))
    if asked.out:
        write_json(asked.out, found)


if __name__ == "__main__":
    main()
