"""What depends on the machine: device, precision, threads and workers; and how much memory the process took."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

from fieldmark.core.errors import DeviceError
from fieldmark.core.launch import local_size

if TYPE_CHECKING:
    from fieldmark.core.recipe import Recipe

__all__ = [
    "AUTO",
    "EngineName",
    "Layout",
    "Machine",
    "choose_device",
    "computes_bf16",
    "devices",
    "has_gpu",
    "memory_size",
    "num_cores",
    "num_decoders",
    "num_threads",
    "peak_memory",
    "processor",
]

AUTO = "auto"
"""The first CUDA GPU, or the CPU if there is none. Apple's GPU ("mps") is used only on request."""
Layout: TypeAlias = Literal["channels_last", "contiguous"]
"""How pictures and convolutions lie in memory: the channels of a pixel side by side, or plane after plane."""
EngineName: TypeAlias = Literal["auto", "torch", "onnx"]
"""What computes: PyTorch, ONNX Runtime, or whichever is faster here and gives the same answers."""


def devices() -> list[str]:
    """The devices of this machine: "cpu", "cuda:0" …, "mps"."""
    import torch

    found = ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]
    return [*found, "mps"] if torch.backends.mps.is_available() else found


def choose_device(asked: str = AUTO) -> str:
    """The device that "auto", "cpu", "cuda", "cuda:1" or "mps" means on this machine.

    Raises DeviceError for a device that is not here.
    """
    if asked == "cpu":  # wherever one is; torch takes seconds to load
        return "cpu"
    here = devices()
    if asked == AUTO:
        return "cuda" if "cuda:0" in here else "cpu"
    if asked in here or (asked == "cuda" and "cuda:0" in here):
        return asked
    raise DeviceError(f"There is no device {asked!r} on this machine", f"Choose one of: {', '.join(['auto', *here])}.")


def has_gpu() -> bool:
    """Whether there is a driver of a GPU, which is known without torch; it takes seconds to load."""
    windows = Path(os.environ.get("SYSTEMROOT", r"C:\Windows")) / "System32" / "nvcuda.dll"
    linux = Path("/dev/nvidiactl"), Path("/dev/dxg")  # the latter for Linux inside Windows
    return any(driver.exists() for driver in ([windows] if sys.platform == "win32" else linux))


def memory_size() -> int:
    """Bytes of memory: the machine's, or what its container may have of them; 16 GB where neither is told."""
    told = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")] if hasattr(os, "sysconf") else []
    with contextlib.suppress(OSError, ValueError):  # without a limit, it is no number
        told.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return min(told, default=16 * 2**30)


def num_threads() -> int:
    """How many threads compute, for libraries other than torch: the cores that this process may use, or fewer if
    OMP_NUM_THREADS says so, as torch has it."""
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(num_cores(), int(asked)) if asked.isdecimal() and int(asked) else num_cores()


def num_decoders() -> int:
    """How many threads decode pictures while the network computes; none of them computes for long."""
    return max(1, min(4, num_cores()))


def processor() -> str:
    """The name of the processor, as the kernel gives it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(errors="ignore").splitlines() if file.is_file() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def num_cores() -> int:
    """Cores for this process. Those that torchrun starts on a machine share it."""
    here = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, here // local_size())


@dataclass(frozen=True)
class Machine:
    """What depends on the machine. It is decided once per run and not again on resume."""

    device: str
    threads: int
    workers: int
    precision: str
    layout: Layout = "channels_last"
    compiled: bool = False
    """Whether torch.compile makes the network's steps faster; see `fieldmark.learning.training.compiling`."""

    @classmethod
    def decide(cls, recipe: Recipe, device: str = AUTO) -> Machine:
        """Read this machine. Raises DeviceError for a device that is not here."""
        import torch

        chosen = choose_device(device)
        gpu = chosen.startswith("cuda")
        cores = num_cores()
        precision = recipe.train.precision
        if precision == "auto":
            precision = "bf16" if computes_bf16(chosen) else "fp32"
        # few cores are better spent on the network than on a second process
        workers = min(8, cores - 1) if gpu else 0 if cores <= 2 else min(4, cores // 4)
        return cls(chosen, torch.get_num_threads(), workers, precision, compiled=recipe.train.compile is True)

    def moved(self, asked: str) -> Machine:
        """The same with a device of this machine, if the one that the run began on is gone or another is asked for.

        Raises DeviceError for a device that is not here.
        """
        stays = asked == AUTO and (self.device in devices() or (self.device == "cuda" and "cuda:0" in devices()))
        return self if stays else replace(self, device=choose_device(asked))


def computes_bf16(device: str) -> bool:
    """Whether the device multiplies bf16 itself; emulation is slower than fp32."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.is_bf16_supported(including_emulation=False)
    flags = Path("/proc/cpuinfo")
    return device == "cpu" and flags.is_file() and "avx512_bf16" in flags.read_text(errors="ignore")


def peak_memory() -> dict[str, int]:
    """The peak memory in bytes of the "process" and, if one was used, of the "gpu".

    "process" is missing on a system that does not report it, such as Windows.
    """
    return dict(_peaks())


def _peaks() -> Iterator[tuple[str, int]]:
    status = Path("/proc/self/status")
    # Linux counts for `getrusage` what a process was started from, so that a child has at least its parent's peak
    if status.is_file() and (line := re.search(r"VmHWM:\s+(\d+) kB", status.read_text())):
        yield "process", int(line[1]) * 1024
    else:
        with contextlib.suppress(ImportError):
            import resource  # Windows has none

            most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            yield "process", most if sys.platform == "darwin" else most * 1024
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        yield "gpu", torch.cuda.max_memory_allocated()
