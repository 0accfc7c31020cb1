"""Plate centring: each plate's centre of each feature moved to that of the reference set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.designs.labels import label_text
from sjd_dask.errors import DataError, SpecError
from sjd_dask.normalise.method import (
    PENDING_BATCH,
    Arrays,
    Block,
    Method,
    Partial,
    Reference,
    Stripe,
    register,
    require_columns,
)
from sjd_dask.normalise.scales import column_centre

MISSING_PLATE = "missing_plate"
_YES, _NO = {"true", "yes", "y", "1", "1.0"}, {"false", "no", "n", "0", "0.0", ""}


def plate_labels(column: pd.Series) -> NDArray[Any]:
    """Plates as text, "" where missing; a number reads the same whether its column holds whole or real numbers."""
    return np.array([label_text(value).strip() for value in column], dtype=object)


def is_marked(column: pd.Series) -> NDArray[np.bool_]:
    """Control samples of a column of yes and no; a missing mark is a no.

    Raises
    ------
    DataError
        A value that is neither: it is named.
    """
    text = ["" if pd.isna(value) else str(value).strip().lower() for value in column]
    strange = [i for i, value in enumerate(text) if value not in _YES | _NO]
    if strange:
        raise DataError(
            f"sample column {column.name!r} must say yes or no (true/false, 1/0), and sample "
            f"{str(column.index[strange[0]])!r} has {column.iloc[strange[0]]!r} ({len(strange)} such samples)"
        )
    return np.array([value in _YES for value in text], dtype=bool)


def _centres(stripe: Stripe, common: tuple[NDArray[np.int64], int, bool]) -> Partial:
    codes, n_plates, is_median = common
    centre = np.stack([column_centre(stripe.values[codes == plate], is_median) for plate in range(n_plates)])
    return Partial(columns={"centre": centre, "overall": column_centre(stripe.values[codes >= 0], is_median)})


@register
@dataclass(frozen=True)
class PlateCentre(Method):
    """Value less the plate's centre plus the overall centre of the reference set, feature by feature.

    Parameters
    ----------
    plate : str
        Sample column of plates.
    centre : "median" or "mean"
        What a centre is.
    controls : str, optional
        Sample column that marks bridging or control samples (yes/no): the centres are theirs alone, as for the
        inter-plate controls of proximity extension assays.
    min_samples : int
        Fewest reference samples of a plate (control samples, when `controls` is given).

    Notes
    -----
    Values should be on an additive scale (logarithms). Missing values are left out of the centres and stay missing; a
    feature that no reference sample of a plate measured is missing on that plate. A sample of a plate outside the
    reference set is ``pending_batch``; one without a plate is ``missing_plate``. Parameters: ``plates`` (plates,),
    ``centre`` (plates, features), ``overall`` (features,), ``n_samples`` (plates,).
    """

    plate: str = field(default="plate", metadata={"description": "sample column of plates"})
    centre: Literal["median", "mean"] = field(default="median", metadata={"description": "what a centre is"})
    controls: str | None = field(
        default=None,
        metadata={"description": "sample column that marks the control samples the centres are taken from"},
    )
    min_samples: int = field(default=2, metadata={"description": "fewest reference samples of a plate"})

    method: ClassVar[str] = "plate_centre"
    pointwise: ClassVar[bool] = True
    takes: ClassVar[frozenset[str]] = frozenset({"expression", "m_value"})
    dims: ClassVar[dict[str, tuple[str, ...]]] = {
        "plates": ("plates",),
        "centre": ("plates", "features"),
        "overall": ("features",),
        "n_samples": ("plates",),
    }

    def fit_columns(self) -> list[str]:
        return [self.plate, self.controls] if self.controls else [self.plate]

    def apply_columns(self) -> list[str]:
        return [self.plate]

    def check(self, reference: Reference) -> None:
        require_columns(self.fit_columns(), reference.samples, self.method)
        if self.min_samples < 1:
            raise SpecError(f"step `plate_centre`: min_samples must be at least 1, not {self.min_samples}")
        labels = plate_labels(reference.samples[self.plate])
        without = np.flatnonzero(labels == "")
        if without.size:
            shown = ", ".join(repr(reference.sample_ids[i]) for i in without[:5])
            raise DataError(
                f"step `plate_centre`: {without.size} reference samples have no {self.plate!r}: {shown}"
                f"{', ...' if without.size > 5 else ''}; fill the sheet or leave them out of the reference"
            )

    def fit(self, reference: Reference) -> Arrays:
        self.check(reference)
        labels = plate_labels(reference.samples[self.plate])
        used = np.ones(len(labels), dtype=bool)
        if self.controls:
            used = is_marked(reference.samples[self.controls])
        plates = np.unique(labels.astype(str))
        codes = np.where(used, np.searchsorted(plates, labels.astype(str)), -1)
        count = np.bincount(codes[used], minlength=len(plates))
        few = np.flatnonzero(count < self.min_samples)
        if few.size:
            kind = "control samples" if self.controls else "reference samples"
            shown = ", ".join(f"{plates[i]} ({count[i]})" for i in few[:5])
            raise DataError(
                f"step `plate_centre`: {few.size} plates have fewer than {self.min_samples} {kind}: {shown}"
                f"{', ...' if few.size > 5 else ''}; leave these plates out of the reference (their samples are then "
                f"pending_batch), or lower `min_samples`"
            )
        found = reference.by_features(_centres, (codes, len(plates), self.centre == "median")).columns
        return {"plates": plates, "n_samples": count.astype(np.int64), **found}

    def apply(self, block: Block, parameters: Mapping[str, NDArray[Any]]) -> Block:
        require_columns([self.plate], block.samples, self.method)
        labels = plate_labels(block.samples[self.plate])
        at = {str(plate): i for i, plate in enumerate(parameters["plates"])}
        codes = np.array([at.get(str(label), -1) for label in labels], dtype=np.int64)
        block = block.put_off(labels == "", MISSING_PLATE).put_off(codes < 0, PENDING_BATCH)
        shift = parameters["centre"] - parameters["overall"]
        values = block.values - shift[np.maximum(codes, 0)]
        values[codes < 0] = np.nan
        return block.with_(values=values)
