"""From a formula and a sample sheet to a design matrix, contrasts and groups."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from formulaic import model_matrix
from formulaic.errors import FormulaicError
from numpy.typing import NDArray

from sjd_dask.designs.formula import factor_columns, parse_formula, require_estimable
from sjd_dask.designs.query import query_samples
from sjd_dask.errors import DesignError, SpecError
from sjd_dask.kernels.linear import aliased_columns

INTERCEPT = "Intercept"


__all__ = ["Design", "build_design", "check_design", "contrast_matrix", "query_samples", "single_factor"]


@dataclass(frozen=True)
class Design:
    """A design matrix with what it was made of.

    Attributes
    ----------
    formula : str
    matrix : ndarray of float64, (n, p)
    columns : tuple of str
        Coefficient names as formulaic writes them: ``disease[T.patient]``, ``age``.
    sample_ids : tuple of str
        Rows of the matrix.
    dropped : dict of str to int
        Samples left out, by reason.
    groups : dict of str to dict of str to int
        Samples per level of each categorical column.
    factors : tuple of str
        The sheet's columns that the formula reads.
    warnings : tuple of str
    """

    formula: str
    matrix: NDArray[np.float64]
    columns: tuple[str, ...]
    sample_ids: tuple[str, ...]
    dropped: dict[str, int] = field(default_factory=dict)
    groups: dict[str, dict[str, int]] = field(default_factory=dict)
    factors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def build_design(formula: str, samples: pd.DataFrame) -> Design:
    """Design matrix of a formula over sample columns.

    Parameters
    ----------
    formula : str
        One-sided, as formulaic reads it: ``~ disease * age + bs(age, df=4) + C(batch)``. Text columns are factors
        with their levels sorted and the first as reference; ``C(x, contr.treatment(base="b"))`` names another.
    samples : DataFrame
        Index: sample ids. Levels that no row has don't enter.

    Notes
    -----
    Missing rule: a sample without a value in a column of the formula is left out and counted by its reason.

    Raises
    ------
    SpecError
        Unknown column, or a formula that can't be read or is not allowed.
    DesignError
        No sample is left, or a factor has one level only.
    """
    parsed = parse_formula(formula, samples.columns)
    factors = [factor for term in parsed for factor in term.factors]
    used = list(dict.fromkeys(name for factor in factors for name in factor_columns(factor, formula)))
    kept, dropped = _without_missing(samples, used)
    if kept.empty:
        reasons = ", ".join(f"{reason}: {count}" for reason, count in dropped.items())
        raise DesignError(f"no sample has all columns of `{formula}` ({reasons or 'the selection is empty'})")
    frame = kept[used].copy()
    categorical = [name for name in used if not _is_numeric(frame[name])]
    for name in categorical:
        # A category that no sample has would give a column of zeros.
        frame[name] = frame[name].astype(str) if frame[name].dtype != bool else frame[name]
    try:
        with np.errstate(all="ignore"):
            made = model_matrix(parsed, frame, context={}, na_action="ignore", output="pandas")
    except FormulaicError as error:
        raise SpecError(f"the formula `{formula}` can't be applied to the sample sheet: {_plain(error)}") from None
    except (ValueError, TypeError, ZeroDivisionError) as error:
        raise SpecError(f"the formula `{formula}` can't be applied to the sample sheet: {error}") from None
    columns = tuple(map(str, made.columns))
    if not columns:
        raise DesignError(f"the design `{formula}` has no column; keep the intercept or name a sample column")
    matrix = np.ascontiguousarray(made.to_numpy(dtype=np.float64))
    bad = ~np.isfinite(matrix)
    if bad.any():
        row, column = (int(i) for i in np.argwhere(bad)[0])
        raise DesignError(
            f"the design `{formula}` gives {matrix[row, column]} in column {columns[column]!r} for sample "
            f"{kept.index[row]}; check the values that the transform is given"
        )
    groups, warnings = {}, []
    for name in categorical:
        counts = frame[name].astype(str).value_counts().sort_index()
        groups[name] = {str(level): int(count) for level, count in counts.items()}
        if gone := _levels(samples[name]) - set(groups[name]):
            warnings.append(f"no sample is left with {name} = {', '.join(sorted(gone))}: left out of the design")
        alone = [level for level, count in groups[name].items() if count == 1]
        if len(groups[name]) == 1:
            raise DesignError(
                f"the column {name!r} has only the level {next(iter(groups[name]))!r} among the {len(frame)} samples "
                f"used, so `{formula}` can't estimate it: take it out of the design or select other samples"
            )
        if alone:
            warnings.append(
                f"one sample only in {name} = {', '.join(alone)}: it fits exactly and says nothing of the spread"
            )
    return Design(
        formula=formula,
        matrix=matrix,
        columns=columns,
        sample_ids=tuple(map(str, kept.index)),
        dropped=dropped,
        groups=groups,
        factors=tuple(used),
        warnings=tuple(warnings),
    )


def check_design(design: Design) -> None:
    """Refuse a design of deficient rank, or without residual degrees of freedom, naming the columns.

    Raises
    ------
    DesignError
    """
    aliased = aliased_columns(design.matrix)
    if aliased:
        said = "; ".join(f"{design.columns[j]} = {_combination(design, j)}" for j in aliased)
        raise DesignError(
            f"the design `{design.formula}` has {len(design.columns)} columns but rank "
            f"{len(design.columns) - len(aliased)}: {said}. Leave these terms out, or merge levels"
            f"{_spline_hint(design)}"
        )
    require_estimable(len(design.sample_ids), len(design.columns), design.formula)


def contrast_matrix(
    design: Design, wanted: Sequence[str] | Mapping[str, Mapping[str, float]] | None
) -> tuple[NDArray[np.float64], list[str]]:
    """Weights of each contrast over the coefficients.

    Parameters
    ----------
    design : Design
    wanted : list of coefficient names, or {name: {coefficient: weight}}, or None
        None: every coefficient but the intercept.

    Returns
    -------
    weights : ndarray, (p, k)
    names : list of str

    Raises
    ------
    DesignError
        A coefficient that the design doesn't have, or a contrast of zeros only.
    """
    if wanted is None:
        wanted = [name for name in design.columns if name != INTERCEPT] or list(design.columns)
    listed = wanted if isinstance(wanted, Mapping) else {name: {name: 1.0} for name in wanted}
    if isinstance(wanted, str):
        raise SpecError(
            f"`contrasts` is a list of names, or {{name: {{coefficient: weight}}}}; not the text {wanted!r}"
        )
    if not listed:
        raise DesignError("`contrasts` is empty; leave it out to test every coefficient but the intercept")
    weights = np.zeros((len(design.columns), len(listed)))
    for k, (name, terms) in enumerate(listed.items()):
        for coefficient, weight in terms.items():
            if coefficient not in design.columns:
                near = difflib.get_close_matches(coefficient, design.columns, n=2)
                hint = f" (did you mean {' or '.join(near)}?)" if near else ""
                raise DesignError(
                    f"contrast {name!r} names the coefficient {coefficient!r}, which `{design.formula}` does not have "
                    f"for these samples{hint}; it has: {', '.join(design.columns)}"
                )
            if isinstance(weight, bool) or not isinstance(weight, (int, float, np.number)):
                raise SpecError(f"contrast {name!r} gives {coefficient!r} the weight {weight!r}; a number is needed")
            weights[design.columns.index(coefficient), k] = float(weight)
        if not np.isfinite(weights[:, k]).all() or not weights[:, k].any():
            raise DesignError(f"contrast {name!r} needs finite weights, and one at least that is not zero")
    return weights, list(listed)


def single_factor(design: Design, samples: pd.DataFrame) -> tuple[str, NDArray[np.int64], list[str]]:
    """The one factor of a design for tests between groups: its name, group codes and sorted levels.

    Raises
    ------
    DesignError
        If the formula holds anything but one categorical column.
    """
    if len(design.factors) != 1 or design.factors[0] not in design.groups:
        raise DesignError(
            f"tests between groups need a design of one categorical column, such as `~ disease`; `{design.formula}` "
            f"reads {', '.join(design.factors) or 'none'}. A numeric column is made a factor by C(...) in a linear "
            "model only: "
            "write its groups as text in the sample sheet"
        )
    name = design.factors[0]
    levels = list(design.groups[name])
    codes = pd.Categorical(samples[name].astype(str), categories=levels).codes
    return name, np.asarray(codes, dtype=np.int64), levels


def _without_missing(samples: pd.DataFrame, used: list[str]) -> tuple[pd.DataFrame, dict[str, int]]:
    dropped: dict[str, int] = {}
    kept = samples
    for name in used:
        absent = kept[name].isna()
        if absent.any():
            dropped[f"missing {name}"] = int(absent.sum())
            kept = kept[~absent]
    return kept, dropped


def _is_numeric(column: pd.Series[Any]) -> bool:
    return pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)


def _combination(design: Design, j: int) -> str:
    """A column as a combination of those before it, in words."""
    before = [i for i in range(j) if i not in aliased_columns(design.matrix[:, :j])]
    weights, *_ = np.linalg.lstsq(design.matrix[:, before], design.matrix[:, j], rcond=None)
    terms = [f"{w:+.3g} {design.columns[i]}" for i, w in zip(before, weights, strict=True) if abs(w) > 1e-8]
    return " ".join(terms) or "0"


def _levels(column: pd.Series[Any]) -> set[str]:
    """Levels a column had before samples were left out; of a categorical, those it declares."""
    known = column.cat.categories if isinstance(column.dtype, pd.CategoricalDtype) else column.dropna().unique()
    return {str(level) for level in known}


def _spline_hint(design: Design) -> str:
    if any(name.startswith(("cr(", "cs(", "cc(")) for name in design.columns):
        return ". cr, cs and cc hold a constant of their own: give them constraints='center', or begin with `~ 0 +`"
    return ""


def _plain(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
