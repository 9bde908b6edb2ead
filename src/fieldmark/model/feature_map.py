"""A feature map asked for by stride.

Small networks at small sizes end in maps too coarse for parts: MobileNetV2 at 160 px in 5 × 5 cells. The last map is
enlarged and fused with the earlier one of the wanted stride, as in feature pyramids (Lin et al. 2017), by one 1 × 1
convolution over both. BatchNorm behind it takes away what all cells of all images have in common: maps that were
rectified have large means, and a random mixture of those drowns what tells one cell from another. A transformer's
tokens are such a map already.
"""

from __future__ import annotations

from typing import final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fieldmark.model.backbone import Backbone, Features

__all__ = ["FeatureMap"]


@final
class FeatureMap(nn.Module):
    """`Features` → map (B, C, S / stride, S / stride). Ask the backbone for `levels` in the forward pass."""

    def __init__(self, backbone: Backbone, *, stride: int = 16, width: int = 512) -> None:
        super().__init__()
        found = backbone.levels  # also says that there are none
        finer = [index for index, level in enumerate(found) if level.stride == stride]
        coarser = found[-1].stride > stride
        self.levels: tuple[int, ...] = (finer[-1],) if coarser and finer else ()
        self.fuse = None
        self.channels = backbone.channels
        if self.levels:
            self.channels = min(width, backbone.channels)
            both = found[finer[-1]].channels + backbone.channels
            self.fuse = nn.Sequential(nn.Conv2d(both, self.channels, 1, bias=False), nn.BatchNorm2d(self.channels))

    def forward(self, features: Features) -> Tensor:
        """(B, C, h, w)."""
        if self.fuse is None:
            return features.map
        (fine,) = features.levels
        enlarged = F.interpolate(features.map, size=fine.shape[-2:], mode="bilinear", align_corners=False)
        fused: Tensor = self.fuse(torch.cat([fine, enlarged], dim=1))
        return fused
