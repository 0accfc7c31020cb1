"""Numbers of a report that come from the result table itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names

# Below this number of features a median chi-square ratio says little about a genome.
GENOMIC_FEATURES = 10_000
MEDIAN_CHI2 = 0.454936423119572  # of one degree of freedom


@dataclass(frozen=True)
class ContrastSummary:
    """One contrast at a glance; counts are of features with a p-value."""

    name: str
    n_features: int
    n_without_p: int
    inflation: float
    n_q05: int
    n_q10: int
    n_up: int
    n_down: int
    smallest_p: float

    @property
    def is_genomic(self) -> bool:
        return self.n_features > GENOMIC_FEATURES

    @property
    def inflation_name(self) -> str:
        """The name of the ratio: it is called genomic above 10,000 features only."""
        return "genomic inflation (λ)" if self.is_genomic else "median chi-square ratio (λ)"

    @property
    def inflation_note(self) -> str:
        return "" if self.is_genomic else f"{self.n_features:,} features: not a genomic estimate"


def inflation(p: np.ndarray) -> float:
    """Median of the one-degree chi-square quantiles of p over its expected value (Devlin and Roeder 1999).

    NaN p-values are left out; NaN when none is left.
    """
    from scipy.special import chdtri

    p = np.asarray(p, dtype=np.float64)
    p = p[~np.isnan(p)]
    if p.size == 0:
        return float("nan")
    # The quantile falls with p, so only the one or two middle p-values are turned into quantiles.
    middle = [(p.size - 1) // 2, p.size // 2]
    return float(np.mean(chdtri(1.0, np.partition(p, middle)[middle]))) / MEDIAN_CHI2


def split_contrasts(table: Any, order: list[str]) -> dict[str, pd.DataFrame]:
    """Rows of each contrast: contrasts of ``order`` first, then others as they appear, the F-test last.

    Parameters
    ----------
    table : pyarrow.Table or DataFrame
        Columns as ``names.ASSOCIATION_COLUMNS``.
    order : list of str
        Names in the order of the page.
    """
    frame = table if isinstance(table, pd.DataFrame) else table.to_pandas()
    codes, found = pd.factorize(frame[names.CONTRAST])
    present = [str(name) for name in found]
    ordered = [name for name in order if name in present]
    ordered += [name for name in present if name not in ordered]
    ordered.sort(key=lambda name: name == names.F_CONTRAST)
    return {name: frame[codes == present.index(name)].reset_index(drop=True) for name in ordered}


def summarise(name: str, rows: pd.DataFrame, known: Mapping[str, float]) -> ContrastSummary:
    """Counts and inflation of one contrast."""
    p = rows["p_value"].to_numpy(dtype=np.float64)
    q = rows["q_value"].to_numpy(dtype=np.float64)
    effect = rows["effect"].to_numpy(dtype=np.float64)
    has_p = ~np.isnan(p)
    below = q < 0.05  # False for NaN
    given = known.get(name)
    return ContrastSummary(
        name=name,
        n_features=int(has_p.sum()),
        n_without_p=int((~has_p).sum()),
        inflation=inflation(p) if given is None else float(given),
        n_q05=int(below.sum()),
        n_q10=int((q < 0.1).sum()),
        n_up=int((below & (effect > 0)).sum()),
        n_down=int((below & (effect < 0)).sum()),
        smallest_p=float(p[has_p].min()) if has_p.any() else float("nan"),
    )


def minus_log10(p: np.ndarray) -> np.ndarray:
    """-log10 p; a p-value of zero counts as the smallest positive number (323.3)."""
    return -np.log10(np.maximum(np.asarray(p, dtype=np.float64), 5e-324))


def significance_line(p: np.ndarray, q: np.ndarray, level: float = 0.05) -> float | None:
    """Height (-log10 p) between the last feature with q below ``level`` and the next one; None when none is below."""
    below = q < level
    if not below.any():
        return None
    last = float(minus_log10(p[below].max()))
    above = p[~below & ~np.isnan(p)]
    return last if above.size == 0 else (last + min(last, float(minus_log10(above.min())))) / 2


def natural_order(chromosomes: list[str]) -> list[str]:
    """Chromosomes as people order them: 1 to 22, X, Y, M, then the rest by name."""
    special = {"X": 100, "Y": 101, "XY": 102, "M": 103, "MT": 103}

    def key(name: str) -> tuple[int, str]:
        short = short_chromosome(name)
        return (int(short) if short.isdecimal() else special.get(short.upper(), 1000), short)

    return sorted(chromosomes, key=key)


def short_chromosome(name: str) -> str:
    """``chr7`` is ``7``."""
    return name[3:] if name.lower().startswith("chr") else name
