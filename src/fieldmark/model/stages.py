"""Where methods that read a backbone at several depths tap it."""

from __future__ import annotations

from fieldmark.core.errors import RecipeError
from fieldmark.model.backbone import Backbone

__all__ = ["last_stages"]


def last_stages(backbone: Backbone, count: int) -> tuple[int, ...]:
    """Indices into `backbone.levels`, from early to late; fewer than `count` where the backbone has fewer.

    Of a network whose maps get coarser the last `count` stages; of a transformer, whose blocks all have the same cells,
    the blocks at 1/count, 2/count, … of its depth. Raises RecipeError for a count below 1 or a backbone without maps.
    """
    if count < 1:
        raise RecipeError(f"method.stages = {count} is not allowed", "Expected 1 or more; 3 is usual.")
    levels = backbone.levels
    if len({level.stride for level in levels}) > 1:
        return tuple(range(len(levels))[-count:])
    ends = (-(-len(levels) * part // count) for part in range(1, count + 1))  # rounded up
    return tuple(dict.fromkeys(end - 1 for end in ends))
