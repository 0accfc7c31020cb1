"""What an association job takes from the cohort: quantity, samples, blocks; checked, and refused by name."""

from __future__ import annotations

from collections.abc import Sequence
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
    from sjd_dask.store.layer import Layer

EFFECTIVE_LIBRARY_SIZE = "effective_library_size"


def open_matrix(spec: AssociateSpec, cohort: Cohort) -> Assay:
    """The assay or the layer that a spec names."""
    if spec.layer is not None:
        return cohort.layer(spec.layer)
    assert spec.assay is not None
    return cohort.assay(spec.assay)


def tested_quantity(spec: AssociateSpec, assay: Assay) -> str:
    """What is tested: the stored quantity, or M-values of stored betas."""
    if spec.layer is not None:
        if spec.quantity not in (None, assay.quantity):
            raise SpecError(
                f"a layer is tested as it is: leave `quantity: {spec.quantity}` out, or choose a layer that ends in it"
            )
        return assay.quantity
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
    what = f"layer {spec.layer!r}" if spec.layer is not None else f"assay {assay.name!r}"
    stored = pd.Index(assay.sample_ids(), name=names.SAMPLE_ID)
    sheet = cohort.samples()
    known = stored[stored.isin(sheet.index)]
    dropped = []
    if len(known) < len(stored):
        dropped.append({"reason": "no sample sheet", "count": len(stored) - len(known)})
    if not len(known):
        raise DataError(
            f"none of the {len(stored):,} samples of {what} has sample columns; add them with "
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


def last_step(layer: Layer) -> str | None:
    """The method of the last step of a layer's chain; None where its record doesn't say."""
    steps = layer.meta.get("steps")
    if isinstance(steps, list) and steps:
        last = steps[-1]
        return str(last["method"]) if isinstance(last, dict) and "method" in last else str(last)
    text = str(layer.meta.get("steps_text") or "")
    return text.split(",")[-1].strip() or None


def layer_library_sizes(cohort: Cohort, layer: Layer, sample_ids: Sequence[str]) -> NDArray[np.float64]:
    """Effective library sizes of some samples of a layer, from its quality table.

    Parameters
    ----------
    cohort : Cohort
    layer : Layer
    sample_ids : sequence of str

    Returns
    -------
    ndarray of float64, (n,)
        In the order of `sample_ids`.

    Raises
    ------
    DataError
        There is no ``qc/NAME``, it lacks the column, or it has no size for one of the samples.
    """
    ref = f"qc/{layer.layer}"
    remedy = f"run the normalisation of layers/{layer.layer} again, or say `weights: none`"
    try:
        table = cohort.result(ref, layer.snapshot).table()
    except SpecError:
        raise DataError(
            f"voom weights need the effective library sizes of layers/{layer.layer}, and there is no {ref} that would "
            f"hold them; {remedy}"
        ) from None
    absent = [name for name in (names.SAMPLE_ID, EFFECTIVE_LIBRARY_SIZE) if name not in table.column_names]
    if absent:
        raise DataError(
            f"voom weights need the column {EFFECTIVE_LIBRARY_SIZE!r} of {ref}, and that table has no {absent[0]!r}; "
            f"{remedy}"
        )
    index = pd.Index(table[names.SAMPLE_ID].to_pylist())
    known = pd.Series(table[EFFECTIVE_LIBRARY_SIZE].to_numpy(zero_copy_only=False), index=index, dtype=np.float64)
    sizes = known[~known.index.duplicated(keep="last")].reindex(list(sample_ids)).to_numpy(dtype=np.float64)
    check_library_sizes(sizes, sample_ids, f"{ref}, column {EFFECTIVE_LIBRARY_SIZE!r}", remedy)
    return sizes


def check_library_sizes(sizes: NDArray[np.float64], sample_ids: Sequence[str], where: str, remedy: str) -> None:
    """Refuse samples without counts, by name."""
    bad = np.flatnonzero(~(np.isfinite(sizes) & (sizes > 0)))
    if bad.size:
        shown = ", ".join(f"{sample_ids[i]} ({sizes[i]:g})" for i in bad[:5])
        raise DataError(
            f"{bad.size} of {len(sample_ids)} samples have no library size above zero in {where}: {shown}"
            f"{', ...' if bad.size > 5 else ''}; leave them out with `samples`, or {remedy}"
        )
