"""In which precision a network computes, and how its tensors lie in memory."""

from __future__ import annotations

import torch

from fieldmark.core.machine import Layout

__all__ = ["autocast", "memory_format"]

_FORMATS: dict[Layout, torch.memory_format] = {
    "channels_last": torch.channels_last,
    "contiguous": torch.contiguous_format,
}


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """bf16 autocast, or none for "fp32"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def memory_format(layout: Layout) -> torch.memory_format:
    """As torch has it."""
    return _FORMATS[layout]
