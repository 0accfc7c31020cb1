"""The top of a result as cells of text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.report.format import number


@dataclass(frozen=True)
class Column:
    """One column: ``kind`` is text, number, or the role that the filters use (effect, q)."""

    title: str
    kind: str
    note: str = ""

    @property
    def is_number(self) -> bool:
        return self.kind != "text"


@dataclass(frozen=True)
class TopTable:
    """Rows of text, best first."""

    columns: list[Column]
    rows: list[list[str]]


NUMBERS = (
    ("effect", "effect", "effect"),
    ("standard_error", "SE", "number"),
    ("statistic", "statistic", "number"),
    ("df", "df", "number"),
    ("p_value", "p", "number"),
    ("q_value", "q", "q"),
    ("log_odds", "log odds", "number"),
    ("mean", "mean", "number"),
    ("sigma", "sigma", "number"),
    ("n_samples", "n", "number"),
)


def top_table(rows: pd.DataFrame, annotation: pd.DataFrame | None, limit: int, effect_note: str = "") -> TopTable:
    """The ``limit`` features of smallest p; columns without any value are left out.

    Parameters
    ----------
    rows : DataFrame
        One contrast, columns as ``names.ASSOCIATION_COLUMNS``.
    annotation : DataFrame or None
        Chromosome, position and gene symbol in the order of ``rows``.
    """
    p = rows["p_value"].to_numpy(dtype=np.float64)
    tested = np.flatnonzero(~np.isnan(p))
    # A tie in p is broken by the statistic: very small p-values may all be zero.
    size = np.abs(rows["statistic"].to_numpy(dtype=np.float64)[tested])
    best = tested[np.lexsort((-size, p[tested]))[:limit]]
    top = rows.iloc[best]
    columns = [Column("feature", "text")]
    cells: list[list[str]] = [[str(v) for v in top[names.FEATURE_ID]]]
    if annotation is not None:
        near = annotation.iloc[best]
        for name, title in ((names.GENE_SYMBOL, "gene"), (names.CHROMOSOME, "chr")):
            if name in near and near[name].notna().any():
                columns.append(Column(title, "text"))
                cells.append(["" if pd.isna(v) else str(v) for v in near[name]])
        if names.POSITION in near and near[names.POSITION].notna().any():
            columns.append(Column("position", "number", "base pairs"))
            cells.append(["" if pd.isna(v) else str(int(v)) for v in near[names.POSITION]])
    for name, title, kind in NUMBERS:
        values = top[name].to_numpy(dtype=np.float64)
        if np.isnan(values).all():
            continue
        columns.append(Column(title, kind, effect_note if kind == "effect" else ""))
        cells.append([f"{int(v)}" if name == "n_samples" and v == v else number(v) for v in values.tolist()])
    return TopTable(columns, [list(row) for row in zip(*cells, strict=True)])
