"""Which of tonight's samples the watch of drift looks at, and what it says of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.classify.reference import Reference
from sjd_dask.jobs.drift import DriftReport, batch_codes, watch
from sjd_dask.jobs.score_values import Watch

if TYPE_CHECKING:
    from sjd_dask.jobs.bundle import Bundle
    from sjd_dask.jobs.drift_spec import DriftWatch
    from sjd_dask.jobs.night_inputs import Before
    from sjd_dask.jobs.night_state import Night
    from sjd_dask.store.cohort import Cohort


def watched_samples(cohort: Cohort, bundle: Bundle, state: pd.DataFrame, before: Night | None) -> NDArray[np.bool_]:
    """Samples whose data are new tonight.

    Those of a new model were watched when they came. Those that the model was trained on are its reference: its scores
    of them are surer than of anybody else.

    Parameters
    ----------
    state : DataFrame
        `row_hash`, `sheet_hash` of the samples to score.
    before : Night or None
    """
    if not bundle.reference or not len(state):
        return np.zeros(len(state), dtype=bool)
    known = np.zeros(len(state), dtype=bool)
    new = ~known
    if before is not None:
        then = before.state.reindex(state.index)
        known = then["row_hash"].notna().to_numpy(dtype=bool)
        same = (state["row_hash"] == then["row_hash"]) & (state["sheet_hash"] == then["sheet_hash"])
        new = ~(same & then["eligible"].eq(True)).to_numpy(dtype=bool)
    trained = bundle.record.get("samples")
    if trained is not None and len(trained) and not known.all():
        own = set(trained.tolist())
        strangers = np.flatnonzero(~known)
        hashes = cohort.keyed_hashes([str(one) for one in state.index[strangers]])
        new[strangers[[one in own for one in hashes]]] = False
    return new


def counting(bundle: Bundle, sheet: pd.DataFrame, new: NDArray[np.bool_], settings: DriftWatch) -> Watch | None:
    """What the scoring tasks count of these samples.

    Parameters
    ----------
    sheet : DataFrame
        The samples to score.
    new : ndarray of bool, (n,)
        From `watched_samples`.
    """
    if not new.any():
        return None
    groups, batches = _batches(sheet, new, settings)
    return Watch(Reference.from_arrays(bundle.reference), groups, len(batches))


def judge(
    bundle: Bundle,
    scores: pd.DataFrame,
    histograms: NDArray[np.int64] | None,
    sheet: pd.DataFrame,
    persons: pd.Series[Any],
    new: NDArray[np.bool_],
    before: Before,
    settings: DriftWatch,
    run: str,
) -> DriftReport | None:
    """Compare tonight's new data with the model's reference; None where there is nothing to compare.

    Parameters
    ----------
    scores : DataFrame
        From `read_scores`.
    histograms : ndarray
        From `read_histograms`.
    sheet : DataFrame
        The samples to score, in the order of `new`.
    persons : Series
        By sample id.
    """
    if histograms is None or not new.any():
        return None
    groups, batches = _batches(sheet, new, settings)
    ids = sheet.index[new]
    frame = scores.loc[ids].assign(
        person_id=persons.reindex(ids), batch=np.array(batches, dtype=object)[groups[new]]
    )  # fmt: skip
    return watch(
        Reference.from_arrays(bundle.reference), frame, histograms, settings,
        batches=batches, earlier=before.window, night=run, model=bundle.hash,
    )  # fmt: skip


def _batches(sheet: pd.DataFrame, new: NDArray[np.bool_], settings: DriftWatch) -> tuple[NDArray[np.int64], list[str]]:
    """Batch of each sample, -1 for those that aren't watched, and the names of the batches."""
    column = sheet[settings.batch][new] if settings.batch in sheet else None
    codes, batches = batch_codes(column, int(new.sum()))
    groups = np.full(len(sheet), -1, dtype=np.int64)
    groups[new] = codes
    return groups, batches
