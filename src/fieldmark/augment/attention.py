"""What attention maps do to images: look closer at what they see, or hide it.

The augmentations of Hu et al., "See better before looking closer" (2019), eq. 6–9. Pure functions of their arguments.

Shapes: B images of H × W pixels, an attention map of h × w cells for each.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["attended", "closer", "hidden", "regions"]


def attended(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Attention (B, h, w) at each pixel (B, H, W), from 0 (least) to 1 (most) within an image; 0 if it is even."""
    maps = maps.float() - maps.float().amin((1, 2), keepdim=True)  # first, so that an even map is exactly that
    maps = F.interpolate(maps.unsqueeze(1), size=size, mode="bilinear", align_corners=False).squeeze(1)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low).clamp_min(1e-12)


def regions(maps: Tensor, size: tuple[int, int], thresholds: Tensor, *, padding: float = 0.1) -> Tensor:
    """(B, 4) left, top, right, bottom: the smallest box around all attention above `thresholds` (B,), in pixels.

    It is enlarged by `padding` of the image's sides on each side and cut at the edge; where there is no such attention
    it is the whole image.
    """
    above = attended(maps, size) > thresholds.view(-1, 1, 1)
    spans = []
    for seen in (above.any(1), above.any(2)):  # columns (B, W), rows (B, H)
        length, seen = seen.shape[1], seen.float()  # the first maximum is the first that is seen
        start, end = seen.argmax(1), length - seen.flip(1).argmax(1)
        margin = int(padding * length)
        spans.append(((start - margin).clamp_min(0), (end + margin).clamp_max(length)))
    (left, right), (top, bottom) = spans
    return torch.stack([left, top, right, bottom], dim=1)


def closer(images: Tensor, boxes: Tensor) -> Tensor:
    """Each image's box (B, 4), enlarged to the size of the image (B, 3, H, W), bilinear."""
    height, width = images.shape[-2:]
    left, top, right, bottom = boxes.to(images.dtype).unbind(1)
    zero = torch.zeros_like(left)
    across = torch.stack([(right - left) / width, zero, (left + right) / width - 1], dim=1)
    down = torch.stack([zero, (bottom - top) / height, (top + bottom) / height - 1], dim=1)
    grid = F.affine_grid(torch.stack([across, down], dim=1), list(images.shape), align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def hidden(images: Tensor, maps: Tensor, thresholds: Tensor) -> Tensor:
    """Images (B, 3, H, W) without what is attended above `thresholds` (B,): normalised pixels become 0, the mean."""
    seen = attended(maps, (images.shape[-2], images.shape[-1])) > thresholds.view(-1, 1, 1)
    return images.masked_fill(seen.unsqueeze(1), 0.0)
