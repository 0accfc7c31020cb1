"""Batch labels of samples, and the refusal of batches that can't be told from what is protected."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from formulaic import Formula
from formulaic.errors import FormulaicError
from numpy.typing import NDArray

from sjd_dask.designs.formula import factor_columns
from sjd_dask.errors import DataError, DesignError, SpecError
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
    values = samples[column]
    empty = values.isna().to_numpy(dtype=bool)
    if pd.api.types.is_float_dtype(values):
        # A column of whole numbers is read as floats where one of them is missing elsewhere.
        whole = ~empty & (values.fillna(0.5) % 1 == 0).to_numpy(dtype=bool)
        text = [str(int(v)) if w else str(v) for v, w in zip(values, whole, strict=True)]
    else:
        text = [str(v).strip() for v in values]
    labels = np.empty(len(text), dtype=object)
    labels[:] = text
    empty = empty | (labels == "")
    if empty.any():
        raise DataError(
            f"step `{method}` needs the column {column!r} of every sample, and {int(empty.sum())} have no label: "
            f"{named(samples.index[empty])}. Fill the sheet, or leave these samples out."
        )
    return labels


def formula_columns(formula: str) -> list[str]:
    """Sample columns that a formula reads.

    Raises
    ------
    SpecError
        The formula can't be read.
    """
    try:
        factors = [factor for term in Formula(formula) for factor in term.factors]
    except (FormulaicError, SyntaxError, ValueError, TypeError, AttributeError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise SpecError(f"the formula `{formula}` can't be read: {first}") from None
    return list(dict.fromkeys(name for factor in factors for name in factor_columns(factor, formula)))


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
