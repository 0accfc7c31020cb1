"""What a score does under placebo: an Emax model of weeks and baseline."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sjd_dask.clinical.definitions import Overrides, did_you_mean, load_definition
from sjd_dask.errors import SpecError

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class PlaceboModel:
    """Drop of a score under placebo: ``Emax t / (half_time + t)``, ``Emax = emax + slope (baseline - reference)``.

    Attributes
    ----------
    name : str
    emax, slope, reference, lowest_emax : float
        In points of the score (slope: points a point of baseline).
    half_time : float
        Weeks to half of Emax.
    mark, source : str
    largest_baseline : float
        The score's own largest value; its least is 0.
    """

    name: str
    emax: float
    slope: float
    reference: float
    half_time: float
    lowest_emax: float
    mark: str
    source: str
    largest_baseline: float = math.inf

    def drop(self, baseline: ArrayLike, weeks: ArrayLike) -> FloatArray:
        """Expected drop in points, broadcast; NaN where the baseline is missing.

        Raises
        ------
        SpecError
            Weeks below 0.
        """
        t = np.asarray(weeks, dtype=np.float64)
        if (t < 0).any():
            raise SpecError(f"weeks is {t.min():g}; a visit is at week 0 or later")
        emax = self.emax + self.slope * (np.asarray(baseline, dtype=np.float64) - self.reference)
        return np.maximum(emax, self.lowest_emax) * t / (self.half_time + t)

    def slope_at(self, baseline: float, week: float) -> float:
        """Points of drop for a point of baseline, at a week; 0 where Emax stands at its floor."""
        emax = self.emax + self.slope * (baseline - self.reference)
        return self.slope * week / (self.half_time + week) if emax > self.lowest_emax else 0.0


def placebo_model(name: str = "essdai", definitions: Overrides | None = None) -> PlaceboModel:
    """A model of definitions/placebo.yaml.

    Raises
    ------
    SpecError
        There is none of that name.

    References
    ----------
    S: Emax model of the ESSDAI under placebo, half-time 12.2 weeks, Emax 4.44 at a baseline of 10.1.
    """
    models: Mapping[str, Mapping[str, Any]] = load_definition("placebo", definitions)["models"]
    if name not in models:
        raise SpecError(f"no placebo model {name!r}{did_you_mean(name, models)}; there are {', '.join(models)}")
    return PlaceboModel(name=name, **models[name])


def placebo_table(
    model: PlaceboModel, *, weeks: ArrayLike | None = None, baselines: ArrayLike | None = None,
    sd: float | None = None, at_least: float | None = None, definitions: Overrides | None = None,
) -> pd.DataFrame:  # fmt: skip
    """Expected drop by week and baseline; with ``sd`` and ``at_least``, the share with so large a drop too.

    Returns
    -------
    DataFrame
        ``model``, ``week``, ``baseline``, ``drop`` and, when asked, ``responders``: the share of persons whose drop is
        at least ``at_least`` when drops are normal with standard deviation ``sd``.
    """
    shipped = load_definition("placebo", definitions)["tables"]
    t = np.asarray(shipped["weeks"]["value"] if weeks is None else weeks, dtype=np.float64)
    b = np.asarray(shipped["baselines"]["value"] if baselines is None else baselines, dtype=np.float64)
    week, baseline = (grid.ravel() for grid in np.meshgrid(t, b, indexing="ij"))
    table = pd.DataFrame({"model": model.name, "week": week, "baseline": baseline, "drop": model.drop(baseline, week)})
    if sd is not None and at_least is not None:
        table["responders"] = responders(table["drop"], sd, at_least)
    return table


def responders(mean_drop: ArrayLike, sd: ArrayLike, at_least: float) -> FloatArray:
    """Share of persons whose drop is at least so large, when drops are normal."""
    return stats.norm.sf((at_least - np.asarray(mean_drop, dtype=np.float64)) / np.asarray(sd, dtype=np.float64))
