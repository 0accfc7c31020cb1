"""The items that positions on the axes are made of: what each may still be, row by row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.clinical.essdai import domain_ranges
from sjd_dask.clinical.gland_axis import gland_axis
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.clinical.weighted_sum import item_names

_DOMAINS = ("essdai", "clinessdai")
_SCALES = ("esspri",)


@dataclass(frozen=True)
class AxisItem:
    """An item of an axis, of n rows.

    Attributes
    ----------
    name
    weight
        What a unit of it adds to the position; 0 for a test that has a say in the state only.
    low, high
        Least and greatest value, (n,); equal where it is known.
    answer
        1 where it makes the state positive by itself, 0 where not, NaN unknown, (n,); None: the position decides.
    """

    name: str
    weight: float
    low: np.ndarray
    high: np.ndarray
    answer: np.ndarray | None = None


def axis_items(
    sheet: Sheet,
    *,
    definitions: Overrides | None = None,
    domains: Sequence[str] | str | None = None,
    laboratory: str = "propose",
) -> dict[str, list[AxisItem]]:
    """Items by axis; an axis whose measure is no weighted sum of items has none.

    Parameters
    ----------
    sheet, definitions, domains, laboratory
        As in `axes.axis_positions`.
    """
    table = load_definition("axes", definitions)
    found = {}
    for axis, own in table["axes"].items():
        measure = own.get("measure")
        if axis == "gland":
            found[axis] = _gland(sheet, table, definitions)
        elif measure in _DOMAINS:
            names, weights, low, high = domain_ranges(sheet, measure, domains, laboratory, definitions)
            found[axis] = [AxisItem(*one) for one in zip(names, weights, low, high, strict=True)]
        elif measure in _SCALES:
            found[axis] = _scales(sheet, load_definition(measure, definitions))
        else:
            found[axis] = []
    return found


def _scales(sheet: Sheet, definition: Mapping[str, Any]) -> list[AxisItem]:
    entries = {name: definition["items"][name] for name in item_names(definition)}
    share = 1.0 / len(entries) if definition["combine"]["how"] == "mean" else 1.0
    found = []
    for name, entry in entries.items():
        value = sheet.number(name)
        low, high = (np.where(np.isnan(value), float(end(entry["levels"])), value) for end in (min, max))
        found.append(AxisItem(name, share * float(entry["weight"]), low, high))
    return found


def _gland(sheet: Sheet, table: Mapping[str, Any], definitions: Overrides | None) -> list[AxisItem]:
    found = gland_axis(sheet, definitions=definitions)
    share = 1.0 / len(found.in_position)
    needs = table["gland_not_impaired"]["needs"]
    return [
        AxisItem(test, share if test in found.in_position else 0.0, found.low[test], found.high[test], answer)
        for test, answer in found.answers.items()
        # A test that is neither in the position nor waited for by the state leaves nothing open.
        if test in found.in_position or test in needs
    ]
