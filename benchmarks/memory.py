"""Processor time of a training step where the process keeps the memory that it frees, against the C library's habit.

usage: memory.py [--backbone mobilenetv2_100] [--size 160] [--batch 32] [--rounds 5] [--steps 10]

Each round runs both in processes of their own, one after the other; a ratio is taken within a round. The backbone has
random weights, images are noise; fp32, one thread, channels last.
"""

import argparse
import statistics
import subprocess
import sys
import time


def seconds_of_a_step(options):
    """Processor time, the system's included."""
    import timm
    import torch

    from fieldmark.core.memory import keep_freed_memory

    if options.child == "kept":
        keep_freed_memory()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = timm.create_model(options.backbone, num_classes=50).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4)
    images = torch.randn(options.batch, 3, options.size, options.size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(50, (options.batch,))
    warm_up = 3
    for step in range(warm_up + options.steps):
        if step == warm_up:
            begun = time.process_time()
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    return (time.process_time() - begun) / options.steps


parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--backbone", default="mobilenetv2_100")
parser.add_argument("--size", type=int, default=160)
parser.add_argument("--batch", type=int, default=32)
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--steps", type=int, default=10)
parser.add_argument("--child", choices=["returned", "kept"], help=argparse.SUPPRESS)
options = parser.parse_args()
if options.child:
    print(seconds_of_a_step(options))
    sys.exit()
ratios = []
for round_number in range(options.rounds):
    took = {
        way: float(subprocess.check_output([sys.executable, *sys.argv, "--child", way])) for way in ("returned", "kept")
    }
    ratios.append(took["returned"] / took["kept"])
    print(
        f"round {round_number + 1}: {took['returned']:.3f} s a step, {took['kept']:.3f} s where memory is kept:"
        f" {ratios[-1]:.2f} times as fast"
    )
print(f"median {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
