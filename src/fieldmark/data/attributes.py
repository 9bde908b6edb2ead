"""The attributes of a catalogue that are learnt: which values they have, and which one each image has.

Shapes: N samples, A attributes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fieldmark.core.errors import RecipeError, nearest
from fieldmark.core.wording import counted, first_few
from fieldmark.data.catalog import Catalog
from fieldmark.data.readers.folder import natural_key

__all__ = ["UNKNOWN", "attribute_codes", "attribute_values", "unscored"]

UNKNOWN = -1
"""The code of a value that is not given, or that no image to learn from has."""


def attribute_values(catalog: Catalog, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """What each of these attributes may be: its values outside the test part, sorted naturally.

    Raises RecipeError for a name that the data does not have and for an attribute that is nothing to tell apart.
    """
    values = {}
    for name in names:
        if not catalog.attributes:
            raise RecipeError(
                f"labels.attributes names {name!r}, but {catalog.name} has no attributes",
                f"Give its table a column attribute.{name}, or leave labels.attributes out.",
            )
        if name not in catalog.attributes:
            hint = nearest(name.removeprefix("attribute."), catalog.attributes)
            raise RecipeError(f"labels.attributes names {name!r}, which {catalog.name} does not have", hint)
        if list(names).count(name) > 1:
            raise RecipeError(f"labels.attributes names {name!r} twice", "Name each attribute once.")
        given = catalog.attributes[name][catalog.splits != "test"]
        given = given[given != ""]
        found = sorted(set(given.tolist()), key=natural_key)
        problem = ""
        if len(found) < 2:
            problem = f"has {'the value ' + repr(found[0]) + ' only' if found else 'no value'} outside the test part"
        elif len(found) > len(given) / 2:
            problem = f"has {len(found):,} values in {len(given):,} images, too many to be learnt"
        if problem:
            raise RecipeError(f"The attribute {name!r} {problem}", "Leave it out of labels.attributes.")
        values[name] = tuple(found)
    return values


def attribute_codes(catalog: Catalog, values: Mapping[str, Sequence[str]]) -> NDArray[np.int64]:
    """(N, A) each image's value of each attribute as an index into its values, UNKNOWN where there is none such."""
    codes = np.full((len(catalog), len(values)), UNKNOWN, np.int64)
    for column, (name, known) in enumerate(values.items()):
        if name in catalog.attributes:
            index = {value: code for code, value in enumerate(known)}
            codes[:, column] = [index.get(value, UNKNOWN) for value in catalog.attributes[name].tolist()]
    return codes


def unscored(catalog: Catalog, values: Mapping[str, Sequence[str]], rows: NDArray[np.int64]) -> list[str]:
    """Why attributes of these rows cannot be scored, in words: the data does not say them, or says what is unknown."""
    found = []
    for name, known in values.items():
        if name not in catalog.attributes:
            found.append(f"{catalog.name} does not say the attribute {name!r}, so it is not scored")
            continue
        said = catalog.attributes[name][rows]
        strange = said[(said != "") & ~np.isin(said, list(known))]
        if len(strange):
            what = f"values of {name!r} that the model does not know ({first_few(sorted(set(strange.tolist())))})"
            found.append(f"{counted(len(strange), 'image')} left out of its score: {what}")
    return found
