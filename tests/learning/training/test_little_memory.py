"""The default network in a process that may not have all the memory that it asks for."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the limit is not kept")

LIMITED = """
import resource, sys

def limit(room):
    # more is refused to PyTorch, to NumPy and to oneDNN; None: everything is allowed again
    with open("/proc/self/statm") as file:
        taken = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY if room is None else taken + room, -1))
"""

STEP = """
import numpy as np
import torch
from fieldmark.answering.engine import TorchEngine
from fieldmark.core.machine import Machine
from fieldmark.data.task import Task
from fieldmark.learning.fitting.resolve import resolve_recipe
from fieldmark.learning.training.batchnorm import adopt_statistics, freeze_statistics, refresh_statistics
from fieldmark.learning.training.optimizer import build_optimizer
from fieldmark.learning.training.pieces import gradients
from fieldmark.learning.training.setting import Setting
from fieldmark.learning.training.state import TrainingState
from fieldmark.model.batch import Batch
from fieldmark.model.build import build_model

torch.manual_seed(0)
recipe = resolve_recipe("finetune", overrides=["images.size=160", "train.precision=fp32"])
model = build_model(recipe, Task(3)).to(memory_format=torch.channels_last)
pixels = np.random.default_rng(0).integers(256, size=(32, 3, 160, 160), dtype=np.uint8)
images = model.backbone.normalization(torch.from_numpy(pixels)).contiguous(memory_format=torch.channels_last)
batch = Batch(images, torch.arange(32)[:, None] % 3, torch.ones(32, 1), torch.arange(32))
state = TrainingState.begin(model, build_optimizer(model, recipe.train), ema=False, num_steps=1)
setting = Setting(recipe, Machine("cpu", 1, 0, "fp32"))

def step():
    model.train()
    freeze_statistics(model)
    torch.manual_seed(0)
    gradients(state, batch, 0, 1.0, setting)
    return [one.grad.clone() for one in model.parameters() if one.grad is not None]

def statistics(learn):
    learn(model, [torch.from_numpy(pixels)])
    return [one.clone() for one in model.buffers()]

def refreshed(model, batches):
    refresh_statistics(model, batches, precision="fp32")

start = {key: value.clone() for key, value in model.state_dict().items()}
limit(2**28)
little = step()
pieces = state.pieces
limit(None)
state.pieces = 1
whole = step()
assert state.pieces == 1
apart = max(float((a - b).norm() / (1e-12 + b.norm())) for a, b in zip(little, whole))
print(pieces > 1, apart < 1e-2)

limit(2**27)
few = TorchEngine(model)
answers = few(pixels)
limit(None)
print(few._pieces._most < 32, np.allclose(answers.logits, TorchEngine(model)(pixels).logits, atol=1e-3))

found = []
for room in (2**27, None):
    model.load_state_dict(start)
    limit(room)
    found.append(statistics(adopt_statistics))
print(max(float((a - b).abs().max()) for a, b in zip(*found)) < 1e-2)
limit(2**27)
print(all(one.isfinite().all() for one in statistics(refreshed)))
"""

KERNELS = """
import torch
from fieldmark.core.memory import lacks_memory, with_kernels

layer = torch.nn.Conv2d(16, 32, 3)

def look(side):
    with torch.no_grad():
        return layer(torch.zeros(1, 16, side, side)).shape[-1]

with_kernels(lambda: look(40))
limit(50_000)
try:
    for side in range(41, 100):
        with_kernels(lambda: look(side))
except RuntimeError as error:
    print(lacks_memory(error))
limit(None)
try:
    look(100)
except RuntimeError as error:
    print(error)
print(with_kernels(lambda: look(100)), with_kernels(lambda: look(101)))
"""


def said_by(code: str) -> list[str]:
    ended = subprocess.run([sys.executable, "-c", LIMITED + code], text=True, capture_output=True)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.split("\n")[:-1]


@pytest.mark.slow
def test_all_that_a_training_computes_goes_on_in_pieces() -> None:
    """A step, answers, and both kinds of statistics. The first attempt leaves neither tensors nor a thread behind that
    oneDNN makes no kernels in."""
    assert said_by(STEP) == ["True True", "True True", "True", "True"]


def test_a_thread_without_kernels_is_left() -> None:
    assert said_by(KERNELS) == ["True", "could not create a primitive", "98 99"]
