"""What a matrix must satisfy before anything of it is published."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.ingest.ids import SHOWN, name_some
from sjd_dask.store.ingest.sources.base import MatrixSource
from sjd_dask.store.layout import RANGES

_HINTS = {
    names.BETA: (
        "Percentages must be divided by 100, and values that a correction pushed outside must be clipped; for M-values "
        "say --quantity m_value."
    ),
    names.PROPORTION: "Percentages must be divided by 100.",
    names.COUNTS: "Counts are whole numbers from 0; for normalised or log values say --quantity expression.",
    names.CONCENTRATION: "Concentrations start at 0; for log values say --quantity expression.",
    names.DOSAGE: "Dosages count copies of an allele, from 0 to 2.",
}


@dataclass(frozen=True)
class MissingLimits:
    """Share of missing values a sample may have.

    Parameters
    ----------
    warn : float
        Above it the sample is named in the report.
    refuse : float
        Above it the matrix is refused.
    """

    warn: float = 0.05
    refuse: float = 0.5

    def __post_init__(self) -> None:
        if not (0 <= self.warn <= 1 and 0 <= self.refuse <= 1):
            raise SpecError(f"limits of missing values are shares from 0 to 1, not {self.warn} and {self.refuse}")


class BlockChecker:
    """Checks blocks as they arrive, and keeps the range and the missing values of each sample.

    Attributes
    ----------
    minimum, maximum : float
        Range of the values seen; NaN before the first.
    n_missing : int
        Missing values in all.
    """

    def __init__(self, source: MatrixSource, quantity: str) -> None:
        self.source = source
        self.quantity = quantity
        self.low, self.high = RANGES[quantity]
        self.minimum = np.nan
        self.maximum = np.nan
        self.n_rows = 0
        self._by_minor: npt.NDArray[np.int64] = np.zeros(len(source.minor_ids), dtype=np.int64)
        self._by_major: list[npt.NDArray[np.int64]] = []

    def check(self, ids: Sequence[str], values: npt.NDArray[Any]) -> bool:
        """Check one block, shape (len(ids), n_minor).

        Returns
        -------
        bool
            Whether it holds missing values.

        Raises
        ------
        DataError
            Naming the first offender by place, feature, sample and value.
        """
        if values.shape != (len(ids), len(self.source.minor_ids)):
            raise DataError(
                f"{self.source.path}: {self.source.where(self.n_rows)} and below have shape {values.shape} where "
                f"{(len(ids), len(self.source.minor_ids))} is needed."
            )
        any_missing = False
        smallest, largest = (float(f(values, axis=None)) for f in (np.fmin.reduce, np.fmax.reduce))
        if values.dtype.kind == "f":
            total = float(values.sum(dtype=np.float64)) if np.isfinite(smallest) and np.isfinite(largest) else np.nan
            if np.isnan(total):
                missing = np.isnan(values)
                any_missing = bool(missing.any())
                self._by_minor += missing.sum(axis=0)
                self._by_major.append(missing.sum(axis=1))
            if np.isinf(smallest) or np.isinf(largest):
                self._refuse(ids, values, np.isinf(values), "is not a finite number.", "Leave it out for missing.")
        if not any_missing:
            self._by_major.append(np.zeros(len(values), dtype=np.int64))
        hint = _HINTS.get(self.quantity, "")
        # Comparisons with NaN are false, so missing values pass; a negative zero is a zero.
        if self.low is not None and smallest < self.low:
            self._refuse(
                ids, values, values < self.low, f"is below {self.low:g}, the least {self.quantity} can be.", hint
            )
        if self.high is not None and largest > self.high:
            self._refuse(
                ids, values, values > self.high, f"is above {self.high:g}, the most {self.quantity} can be.", hint
            )
        if self.quantity == names.COUNTS and values.dtype.kind == "f":
            fractional = np.rint(values) != values
            if any_missing:
                fractional &= ~np.isnan(values)
            if fractional.any():
                self._refuse(ids, values, fractional, "is not a whole number.", hint)
        self.minimum = float(np.fmin(self.minimum, smallest))
        self.maximum = float(np.fmax(self.maximum, largest))
        self.n_rows += len(ids)
        return any_missing

    def _refuse(
        self, ids: Sequence[str], values: npt.NDArray[Any], wrong: npt.NDArray[np.bool_], why: str, hint: str
    ) -> None:
        row, column = (int(i) for i in np.argwhere(wrong)[0])
        more = int(wrong.sum()) - 1
        also = f" ({more:,} more near it.)" if more else ""
        raise DataError(
            f"{self.source.path}: {self.source.where(self.n_rows + row)}: {self.source.major} {ids[row]!r}, "
            f"{self.source.minor} {self.source.minor_ids[column]!r}: {values[row, column]!s} {why}{also} "
            f"{hint}".rstrip()
        )

    @property
    def n_missing(self) -> int:
        """Missing values in all."""
        return int(self._by_minor.sum())

    def missing_by_sample(self) -> npt.NDArray[np.int64]:
        """Missing values of each sample, in the order of the source."""
        if self.source.orientation == "features":
            return self._by_minor
        return np.concatenate(self._by_major) if self._by_major else np.zeros(0, dtype=np.int64)


def check_missing(
    sample_ids: Sequence[str], n_missing: npt.NDArray[np.int64], n_features: int, limits: MissingLimits, where: str
) -> tuple[dict[str, float], list[str]]:
    """Refuse samples without values, or with too few.

    Parameters
    ----------
    sample_ids : sequence of str
    n_missing : ndarray of int, shape (samples,)
    n_features : int
        Features in the matrix.
    limits : MissingLimits
    where : str
        The file, for messages.

    Returns
    -------
    shares : dict
        Share of missing values of the samples above ``limits.warn``, worst first.
    warnings : list of str

    Raises
    ------
    DataError
    """
    shares = n_missing / max(1, n_features)
    empty = [sample_ids[int(i)] for i in np.flatnonzero(n_missing >= n_features)]
    if empty:
        raise DataError(
            f"{where}: {len(empty):,} of {len(sample_ids):,} samples have no value at all: {name_some(empty)}. "
            f"Remove them."
        )
    worst = np.argsort(-shares, kind="stable")
    over = [int(i) for i in worst if shares[i] > limits.refuse]
    if over:
        shown = ", ".join(f"{sample_ids[i]!r} ({shares[i]:.1%})" for i in over[:SHOWN])
        raise DataError(
            f"{where}: {len(over):,} samples lack more than {limits.refuse:.0%} of their values: {shown}"
            f"{f' and {len(over) - SHOWN:,} more' if len(over) > SHOWN else ''}. Remove them, or raise max_missing."
        )
    high = {sample_ids[int(i)]: float(shares[i]) for i in worst if shares[i] > limits.warn}
    warnings = []
    if high:
        shown = ", ".join(f"{k!r} ({v:.1%})" for k, v in list(high.items())[:SHOWN])
        warnings.append(f"{len(high):,} samples lack more than {limits.warn:.0%} of their values: {shown}")
    return high, warnings
