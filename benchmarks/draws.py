"""What several random draws of one measurement say together."""

import numpy as np
from scipy.stats import t

__all__ = ["interval"]


def interval(values, base=None):
    """The mean over draws, or that of the differences from `base`, and its 95 % interval by Student's t."""
    values = np.asarray(values, float) - (0.0 if base is None else np.asarray(base, float))
    number = len(values)
    half = t.ppf(0.975, number - 1) * values.std(ddof=1) / np.sqrt(number) if number > 1 else np.nan
    return [float(values.mean()), float(values.mean() - half), float(values.mean() + half)]
