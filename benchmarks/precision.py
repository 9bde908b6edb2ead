"""Processor time in fp32 over that in bf16, of a training step and of an answer, on processors that compute in bf16.

usage: precision.py BACKBONE … [--size 160] [--batch 8] [--rounds 5]

Random weights, noise for images, one thread, channels last. Precisions take turns, and a ratio is taken within a round.
"""

import argparse
import statistics
import time

import timm
import torch

from fieldmark.core.machine import processor
from fieldmark.core.memory import keep_freed_memory
from fieldmark.model.precision import autocast

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("backbones", nargs="+")
parser.add_argument("--size", type=int, default=160)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--rounds", type=int, default=5)
options = parser.parse_args()
keep_freed_memory()
torch.set_num_threads(1)
torch.manual_seed(0)
cpu = torch.device("cpu")
images = torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
labels = torch.randint(50, (options.batch,))
print(processor())


def step(network, optimizer, precision):
    """One of training."""
    with autocast(precision, cpu):
        logits = network.train()(images)
    torch.nn.functional.cross_entropy(logits.float(), labels).backward()
    optimizer.step()
    optimizer.zero_grad()


def answer(network, precision):
    """For as many images."""
    with torch.inference_mode(), autocast(precision, cpu):
        network.eval()(images)


def seconds(work, *arguments):
    """Of the second of two, since the first one prepares itself."""
    work(*arguments)
    begun = time.process_time()
    work(*arguments)
    return time.process_time() - begun


for name in options.backbones:
    network = timm.create_model(name, num_classes=50).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    ratios = {"a step": [], "an answer": []}
    for _ in range(options.rounds):
        fp32, bf16 = (
            (seconds(step, network, optimizer, precision), seconds(answer, network, precision))
            for precision in ("fp32", "bf16")
        )
        for kind, slow, fast in zip(ratios, fp32, bf16, strict=True):
            ratios[kind].append(slow / fast)
    told = (f"{kind} {statistics.median(r):.2f} ({min(r):.2f} to {max(r):.2f})" for kind, r in ratios.items())
    print(f"{name}: fp32 over bf16: {', '.join(told)}", flush=True)
