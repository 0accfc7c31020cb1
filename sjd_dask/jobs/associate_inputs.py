"""What an association job takes from the cohort: quantity, samples, blocks; checked, and refused by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.designs import design as designs
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.spec import AssociateSpec

if TYPE_CHECKING:
    from sjd_dask.store.assay import Assay
    from sjd_dask.store.cohort import Cohort


def tested_quantity(spec: AssociateSpec, assay: Assay) -> str:
    """What is tested: the stored quantity, or M-values of stored betas."""
    wanted = spec.quantity or assay.quantity
    if wanted == assay.quantity or (assay.quantity == names.BETA and wanted == names.M_VALUE):
        return wanted
    possible = f"{names.BETA} or {names.M_VALUE}" if assay.quantity == names.BETA else assay.quantity
    raise SpecError(
        f"assay {assay.name!r} holds {assay.quantity}; `quantity: {wanted}` can't be made of it, only {possible}"
    )


def select_samples(
    spec: AssociateSpec, cohort: Cohort, assay: Assay, warnings: list[str]
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Sample columns of the assay's samples that the query keeps, in the order they are stored."""
    stored = pd.Index(assay.sample_ids(), name=names.SAMPLE_ID)
    sheet = cohort.samples()
    known = stored[stored.isin(sheet.index)]
    dropped = []
    if len(known) < len(stored):
        dropped.append({"reason": "no sample sheet", "count": len(stored) - len(known)})
    if not len(known):
        raise DataError(
            f"none of the {len(stored):,} samples of assay {assay.name!r} has sample columns; add them with "
            f"`sjd samples {cohort.path} SHEET`"
        )
    frame = sheet.loc[known].infer_objects()
    if spec.samples is not None:
        kept = designs.query_samples(frame, spec.samples)
        dropped.append({"reason": f"not selected by `{spec.samples}`", "count": len(frame) - len(kept)})
        if kept.empty:
            raise SpecError(f"`samples: {spec.samples}` selects none of the {len(frame):,} samples")
        frame = kept
    return frame, {"available": len(stored), "filter": spec.samples, "dropped": dropped}


def block_codes(column: str, sheet: pd.DataFrame) -> NDArray[np.int64]:
    """Block of each sample, as whole numbers, for repeated measures."""
    if column not in sheet.columns:
        raise SpecError(f"`block: {column}` is not a sample column; there are: {', '.join(map(str, sheet.columns))}")
    missing = sheet[column].isna()
    if missing.any():
        raise DataError(
            f"`block: {column}` is missing for {int(missing.sum())} samples, the first {sheet.index[missing][0]}; "
            "fill it in the sample sheet or leave those samples out with `samples`"
        )
    codes, levels = pd.factorize(sheet[column])
    if len(levels) == len(codes):
        raise SpecError(
            f"`block: {column}` differs for each of the {len(codes)} samples, so there are no repeated measures"
        )
    return np.asarray(codes, dtype=np.int64)
