"""What part maps say: where a part is, and whether it is there.

Shapes: B images, M maps of h × w cells, C channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["cell_centres", "part_centres", "part_vectors"]


def cell_centres(height: int, width: int, *, device: torch.device | None = None) -> Tensor:
    """x and y of each cell's centre (h, w, 2), in shares of the picture's side."""
    y = (torch.arange(height, device=device) + 0.5) / height
    x = (torch.arange(width, device=device) + 0.5) / width
    return torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1)


def part_centres(maps: Tensor, *, has_background: bool) -> Tensor:
    """Maps (B, M, h, w), of which the last may be the background → (B, parts, 3): x, y, visible.

    A part's centre is that of the mass in the cells that reach half of its peak: what little it has elsewhere would
    draw a centre of all its mass to the middle of the picture. x and y are shares of the picture's side. A part is
    visible (1, else 0) if it is the first in some cell; without a background to lose to, if it is anywhere at all.
    """
    maps = maps.float()
    parts = maps[:, :-1] if has_background else maps
    peaks = parts.amax(dim=(2, 3))  # (B, parts)
    mass = parts * (parts >= peaks[..., None, None] / 2)
    total = mass.sum(dim=(2, 3))
    at = torch.einsum("bmhw,hwd->bmd", mass, cell_centres(*maps.shape[-2:], device=maps.device))
    at = torch.where(total[..., None] > 0, at / total.clamp_min(1e-12)[..., None], 0.5)
    first = maps.argmax(dim=1).flatten(1)  # (B, h·w)
    wins = torch.stack([(first == m).any(dim=1) for m in range(parts.shape[1])], dim=1)
    visible = wins if has_background else total > 0
    return torch.cat([at, visible[..., None].to(at)], dim=-1)


def part_vectors(cells: Tensor, maps: Tensor) -> Tensor:
    """Cells (B, C, h', w') and maps of parts (B, M, h, w) → (B, M, C): the mean of the cells, weighed by each map.

    A part without any mass has zeros.
    """
    maps = maps.float().clamp_min(0)
    fine = F.interpolate(cells.float(), size=list(maps.shape[-2:]), mode="bilinear", align_corners=False)
    mass = maps.sum(dim=(2, 3)).clamp_min(1e-12)
    return torch.einsum("bmhw,bchw->bmc", maps, fine) / mass[..., None]
