"""What an auxiliary is: a loss on the embeddings of a batch, which are compared with each other.

Shapes: B images, D features.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from fieldmark.core.registry import Registry

__all__ = ["AUXILIARIES", "Auxiliary"]


class Auxiliary(nn.Module, ABC):
    """A loss that compares images. A subclass is final, takes (width) and its options as keyword-only arguments, and
    registers itself in AUXILIARIES. It is there in training only: checkpoints keep its weights, a bundle does not.
    """

    @abstractmethod
    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        """Features (B, D), one label each (B,) → scalar, weighted as it joins the sum of the losses.

        They are those of the whole batch, even if several processes share it.
        """


AUXILIARIES: Registry[type[Auxiliary]] = Registry("auxiliary", "fieldmark.model.auxiliaries", base=lambda: Auxiliary)
