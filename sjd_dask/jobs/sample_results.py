"""Results with one row a sample, whose numbers also become sample columns for designs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa

from sjd_dask import names
from sjd_dask.errors import SpecError

if TYPE_CHECKING:
    from sjd_dask.runtime.runs import RunSession
    from sjd_dask.store.cohort import Cohort

# Key of a result's facts: the sample columns it made.
MADE = "sample_columns"


def check_columns(cohort: Cohort, kind: str, columns: list[str], remedy: str) -> None:
    """Refuse to write over sample columns that no result of this kind has made.

    Raises
    ------
    SpecError
        Naming them.
    """
    # The log knows the columns also where a run died before its result was published.
    made = [f"{entry['message']}," for entry in cohort.log() if str(entry["message"]).startswith(f"{kind}/")]
    present = set(cohort.samples().columns)
    taken = [one for one in columns if one in present and not any(f" {one}," in text for text in made)]
    if taken:
        raise SpecError(
            f"the sample columns {', '.join(map(repr, taken[:5]))}{', ...' if len(taken) > 5 else ''} are there "
            f"already, and no {kind} result made them: {remedy}"
        )


def sample_columns(cohort: Cohort, kind: str, name: str, made: pd.DataFrame) -> pd.DataFrame:
    """The new columns, and missing cells in place of what earlier versions of the result left elsewhere.

    Numbers of two versions never stand in one column: their units may differ (another table, another design).

    Parameters
    ----------
    made : DataFrame
        Index sample_id; the columns to write.
    """
    earlier = {
        one
        for result in cohort.results()
        if (result.kind, result.name) == (kind, name)
        for one in result.meta.get(MADE, [])
    }
    sheet = cohort.samples()
    old = sheet.reindex(columns=[one for one in sheet.columns if one in earlier | set(made.columns)])
    holding = old.index[old.notna().any(axis=1)]
    index = made.index.union(holding, sort=False)
    columns = [*made.columns, *(one for one in old.columns if one not in made.columns)]
    return pd.DataFrame(
        {one: made[one].reindex(index) if one in made else np.full(len(index), np.nan) for one in columns},
        index=pd.Index(index, name=names.SAMPLE_ID),
    )


def publish_with_columns(
    cohort: Cohort,
    session: RunSession,
    kind: str,
    name: str,
    made: pd.DataFrame,
    tables: dict[str, pa.Table],
    meta: dict[str, Any],
) -> list[str]:
    """Sample columns, then the result.

    In this order: a run that dies between the two is not published, and publishes the same columns again when it is
    taken up.
    """
    if len(made.columns):
        cohort.add_samples(sample_columns(cohort, kind, name, made), f"{kind}/{name}: {', '.join(made.columns)}")
    result = cohort.publish_result(kind, name, tables, meta, run_id=session.run_id, epoch=session.epoch)
    return [result.ref]
