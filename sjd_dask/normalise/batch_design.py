"""Batch labels of samples, and the refusal of batches that can't be told from what is protected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.designs.labels import label_text
from sjd_dask.errors import DataError, DesignError
from sjd_dask.kernels.linear import aliased_columns

_SHOWN = 5
_LEVELS_SHOWN = 12


def named(ids: Any) -> str:
    """Some sample ids for a message."""
    ids = list(ids)
    return ", ".join(repr(str(one)) for one in ids[:_SHOWN]) + (f" and {len(ids) - _SHOWN} more" * (len(ids) > _SHOWN))


def sample_labels(samples: pd.DataFrame, column: str, method: str) -> NDArray[Any]:
    """Labels of samples as text, (n,) of str objects; the number 3 and the text "3" are one label.

    Raises
    ------
    DataError
        A sample has none: it is named.
    """
    labels = np.array([label_text(value).strip() for value in samples[column]], dtype=object)
    empty = labels == ""
    if empty.any():
        raise DataError(
            f"step `{method}` needs the column {column!r} of every sample, and {int(empty.sum())} have no label: "
            f"{named(samples.index[empty])}. Fill the sheet, or leave these samples out."
        )
    return labels


def levels_of(labels: NDArray[Any]) -> tuple[list[str], NDArray[np.int64]]:
    """Sorted labels, and the place of each sample's among them."""
    levels, codes = np.unique(labels.astype(str), return_inverse=True)
    return [str(one) for one in levels], codes.astype(np.int64)


def cross_table(labels: NDArray[Any], column: str, samples: pd.DataFrame, factors: tuple[str, ...]) -> str:
    """How many samples each batch has at each value of the covariates, as text."""
    tables = []
    for name in factors:
        batch = pd.Series(labels.astype(str), name=column)
        values = pd.Series(samples[name].to_numpy(), name=name)
        if values.nunique() <= _LEVELS_SHOWN:
            tables.append(pd.crosstab(batch, values.astype(str)).to_string())
        else:
            spread = values.groupby(batch.to_numpy()).agg(["count", "min", "max"])
            spread.index.name = column
            tables.append(f"{name} by batch:\n{spread.to_string()}")
    return "\n\n".join(tables)


def refuse_confounded(
    batch_columns: NDArray[np.float64],
    batch_names: list[str],
    protected: NDArray[np.float64],
    protected_names: list[str],
    table: str,
    what: str,
) -> None:
    """Refuse a design in which batches and protected covariates are combinations of each other.

    Parameters
    ----------
    batch_columns : ndarray, (n, b)
    protected : ndarray, (n, k)
        Columns that stand after the batches: the ones named are combinations of the columns before them.
    table : str
        Shows the confounding; part of the message.

    Raises
    ------
    DesignError
    """
    matrix = np.column_stack([batch_columns, protected])
    names = [*batch_names, *protected_names]
    aliased = aliased_columns(matrix)
    if not aliased:
        return
    own = aliased_columns(protected) if protected.shape[1] else []
    inside = [protected_names[j] for j in own]
    said = ", ".join(repr(names[j]) for j in aliased)
    why = (
        f"and {', '.join(map(repr, inside))} already are within the covariates"
        if inside
        else f"so {what} can't be told from what is to be kept"
    )
    raise DesignError(
        f"batch is confounded with the protected covariates: the columns {said} are combinations of the batches and "
        f"the columns before them, {why}. Samples per batch:\n\n{table}\n\n"
        "Leave these covariates out (their effect is then removed with the batch), merge batches, or add samples that "
        "have them in several batches."
    )
