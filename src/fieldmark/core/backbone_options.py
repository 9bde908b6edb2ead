"""What a recipe may ask of a timm model beyond its name: numbers and switches of its architecture, and nothing else.

`timm.create_model` takes many more arguments, among them files to open and addresses to fetch. A recipe and a bundle
may come from anybody, so only what is listed here is passed on.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, ConfigDict, Field, GetPydanticSchema, Strict
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12

__all__ = ["ALLOWED", "BackboneName", "BackboneOptions"]

_ONE = r"[\w-]{1,100}(\.\w{1,100})?"  # no model has a hyphen, but packages do, and who types one is told the name
_NAME = re.compile(rf"{_ONE}(\+{_ONE}){{0,3}}", re.ASCII)

Share = Annotated[float, Field(ge=0, lt=1)]
Width = Annotated[int, Field(ge=1, le=8192)]
Depth = Annotated[int, Field(ge=1, le=64)]
Pixels = Annotated[int, Field(ge=1, le=4096)]
Ratio = Annotated[float, Field(gt=0, le=64)]
Widths = Annotated[tuple[Width, ...], Field(max_length=8), Strict(False)]
Depths = Annotated[tuple[Depth, ...], Field(max_length=8), Strict(False)]


class _Options(TypedDict, total=False):
    __pydantic_config__ = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)  # type: ignore[misc]  # a TypedDict has no such field, but pydantic reads it

    # what is left out at random while learning
    drop_rate: Share
    drop_path_rate: Share
    proj_drop_rate: Share
    attn_drop_rate: Share
    pos_drop_rate: Share
    patch_drop_rate: Share
    # the size
    depth: Depth
    depths: Depths
    layers: Depths
    embed_dim: Width | Widths
    dims: Widths
    channels: Widths
    num_heads: Width | Widths
    mlp_ratio: Ratio | Annotated[tuple[Ratio, ...], Field(max_length=8), Strict(False)]
    # the grid
    img_size: Pixels
    patch_size: Pixels
    window_size: Pixels
    output_stride: Literal[8, 16, 32]
    dynamic_img_size: bool
    dynamic_img_pad: bool
    # the layers
    global_pool: Literal["", "avg", "max", "avgmax", "catavgmax", "token", "map", "fast", "fastavg"]
    class_token: bool
    reg_tokens: Annotated[int, Field(ge=0, le=64)]
    fc_norm: bool
    qkv_bias: bool
    qk_norm: bool
    init_values: Annotated[float, Field(gt=0, le=1e3)]
    ls_init_value: Annotated[float, Field(gt=0, le=1e3)]


ALLOWED = tuple(_Options.__annotations__)
"""The names of the options."""

BackboneOptions = Annotated[dict[str, Any], GetPydanticSchema(lambda _, handler: handler(_Options))]
"""Options that are passed on to timm, by name."""


def _plain(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise PydanticCustomError(
            "backbone_name",
            "Expected the plain name of a timm model, such as 'resnet50', or up to four with + between them: no "
            "address and no path",
        )
    return name


BackboneName = Annotated[str, AfterValidator(_plain)]
"""A name like "resnet50" or "resnet50.a1_in1k", or several with + between them. timm takes others for places to load a
model from."""
