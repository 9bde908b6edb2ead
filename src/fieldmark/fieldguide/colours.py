"""Colours as (red, green, blue) in 0…255, and how different two of them look."""

from __future__ import annotations

import colorsys
import math

__all__ = ["Colour", "contrast", "dull", "mix", "scaled", "turn"]

Colour = tuple[float, float, float]


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with `share` (0…1) of `b` stirred in."""
    return (a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share)


def scaled(colour: Colour, factor: float) -> Colour:
    """Darker (factor < 1) or brighter (factor > 1)."""
    return (min(colour[0] * factor, 255.0), min(colour[1] * factor, 255.0), min(colour[2] * factor, 255.0))


def dull(colour: Colour, share: float) -> Colour:
    """Nearer to the brownish grey of a female's plumage of the same brightness."""
    grey = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2]
    return mix(colour, (grey * 1.04, grey * 0.98, grey * 0.88), share)


def turn(colour: Colour, hue: float) -> Colour:
    """The hue turned by `hue` (a share of the full circle)."""
    h, s, v = colorsys.rgb_to_hsv(*(channel / 255 for channel in colour))
    red, green, blue = colorsys.hsv_to_rgb((h + hue) % 1.0, s, v)
    return (red * 255, green * 255, blue * 255)


def contrast(a: Colour, b: Colour) -> float:
    """How different two colours look: their distance in OKLab, 0 (the same) to 1 (black and white).

    Source: B. Ottosson, "A perceptual color space for image processing" (2020).
    """
    return math.dist(_oklab(a), _oklab(b))


def _oklab(colour: Colour) -> Colour:
    red, green, blue = ((channel / 255) ** 2.2 for channel in colour)
    l = math.cbrt(0.4122214708 * red + 0.5363325363 * green + 0.0514459929 * blue)  # noqa: E741 (the paper's name)
    m = math.cbrt(0.2119034982 * red + 0.6806995451 * green + 0.1073969566 * blue)
    s = math.cbrt(0.0883024619 * red + 0.2817188376 * green + 0.6299787005 * blue)
    return (
        0.2104542553 * l + 0.7936177850 * m - 0.0040720468 * s,
        1.9779984951 * l - 2.4285922050 * m + 0.4505937099 * s,
        0.0259040371 * l + 0.7827717662 * m - 0.8086757660 * s,
    )
