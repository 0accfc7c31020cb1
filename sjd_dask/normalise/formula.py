"""Designs inside normalisation: for a fit, and frozen so that later samples are coded in the same way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace

import numpy as np
import pandas as pd
from formulaic import model_matrix
from numpy.typing import NDArray

from sjd_dask.designs.design import INTERCEPT, Design, build_design
from sjd_dask.designs.formula import factor_columns, parse_formula
from sjd_dask.errors import DataError, DesignError, SpecError


def design_matrix(formula: str, samples: pd.DataFrame) -> tuple[NDArray[np.float64], list[str]]:
    """Design matrix of all these samples.

    Parameters
    ----------
    formula : str
        One-sided, over sample columns.
    samples : DataFrame
        Index: sample ids.

    Returns
    -------
    ndarray of float64, shape (n, k); list of str
        Rows in the samples' order; coefficient names.

    Raises
    ------
    SpecError, DesignError
        Unknown column, or a formula that can't be read.
    DataError
        A sample has no value in a column of the formula: it is named.
    """
    if formula.replace(" ", "") in ("~1", "1", "~"):
        return np.ones((len(samples), 1)), ["Intercept"]
    design = build_design(formula, samples)
    _require_all(design, samples)
    return design.matrix, list(design.columns)


def _require_all(design: Design, samples: pd.DataFrame) -> None:
    kept = set(design.sample_ids)
    gone = [str(one) for one in samples.index if str(one) not in kept]
    if gone:
        raise DataError(
            f"{len(gone)} samples have no value in a column of `{design.formula}` "
            f"({', '.join(design.factors)}): {', '.join(map(repr, gone[:5]))}{', ...' if len(gone) > 5 else ''}. "
            "Fill the sheet or leave them out."
        )


@dataclass(frozen=True)
class FrozenDesign:
    """A formula with its levels fixed: any later sample is coded as the reference samples were.

    Attributes
    ----------
    formula : str
    levels : dict of str to list of str
        Levels of each text column, the reference first.
    columns : tuple of str
        Coefficient names.
    factors : tuple of str
        Sample columns that the formula reads.
    is_plain : bool
        Whether each coefficient is the intercept, a column of numbers, or one level of a group.
    """

    formula: str
    levels: dict[str, list[str]]
    columns: tuple[str, ...]
    factors: tuple[str, ...]
    is_plain: bool = False

    @classmethod
    def fit(cls, formula: str, samples: pd.DataFrame) -> tuple[FrozenDesign, NDArray[np.float64]]:
        """Freeze the coding of these samples; give their matrix too.

        Raises
        ------
        SpecError
            The formula holds a transform that learns from the data (splines, centring): it can't be frozen.
        DesignError, DataError
            As `design_matrix`.
        """
        parsed = parse_formula(formula, samples.columns)
        for term in parsed:
            for factor in term.factors:
                if any(f"{name}(" in factor.expr.replace(" ", "") for name in _LEARNING):
                    raise SpecError(
                        f"`{factor.expr}` in `{formula}` learns from the data, so it can't be frozen for later "
                        f"samples: put the transformed numbers into a sample column and name that"
                    )
                if factor.expr.replace(" ", "").startswith("C(") and any(
                    pd.api.types.is_numeric_dtype(samples[name]) and samples[name].dtype != bool
                    for name in factor_columns(factor, formula)
                ):
                    raise SpecError(
                        f"`{factor.expr}` in `{formula}` makes groups of a column of numbers, whose levels can't be "
                        "frozen: keep the groups as text in the sample sheet"
                    )
        design = build_design(formula, samples)
        _require_all(design, samples)
        levels = {name: sorted(counts) for name, counts in design.groups.items()}
        frozen = cls(formula, levels, design.columns, design.factors)
        # Plain columns and groups need no formula to be read for every block of samples.
        quick = frozen._plain_matrix(samples)
        is_plain = quick is not None and np.array_equal(quick, design.matrix)
        return replace(frozen, is_plain=is_plain), design.matrix

    def matrix(self, samples: pd.DataFrame) -> NDArray[np.float64]:
        """Design matrix of later samples, shape (n, k).

        Raises
        ------
        SpecError
            A column is not there.
        DataError
            A value is missing, or is a level that the reference didn't have: sample, column and level are named.
        """
        used = list(self.factors)
        absent = [name for name in used if name not in samples.columns]
        if absent:
            raise SpecError(f"`{self.formula}` needs the sample columns {', '.join(map(repr, absent))}")
        if not used:
            return np.ones((len(samples), len(self.columns)))
        frame = samples[used].copy()
        for name in used:
            if frame[name].isna().any():
                who = frame.index[frame[name].isna()][0]
                raise DataError(f"sample {str(who)!r} has no {name!r}, which `{self.formula}` needs: fill the sheet")
            if name in self.levels:
                text = frame[name].astype(str)
                strange = ~text.isin(self.levels[name])
                if strange.any():
                    raise DataError(
                        f"sample {str(frame.index[strange][0])!r} has {name} = {text[strange].iloc[0]!r}, and the "
                        f"reference had only {', '.join(self.levels[name])}: fit again with such samples"
                    )
                if set(self.levels[name]) <= {"True", "False"}:
                    frame[name] = (text == "True").to_numpy()
                else:
                    frame[name] = pd.Categorical(text, categories=self.levels[name])
        if self.is_plain:
            quick = self._plain_matrix(frame)
            assert quick is not None
            return quick
        try:
            made = model_matrix(
                parse_formula(self.formula, frame.columns), frame, context={}, na_action="ignore", output="pandas"
            )
        except Exception as error:
            raise DesignError(f"`{self.formula}` can't be applied to these samples: {error}") from error
        found = made.reindex(columns=list(self.columns))
        if found.isna().any().any():
            raise DesignError(f"`{self.formula}` gives other coefficients for these samples than for the reference")
        return np.ascontiguousarray(found.to_numpy(dtype=np.float64))

    def _plain_matrix(self, frame: pd.DataFrame) -> NDArray[np.float64] | None:
        """The matrix where every coefficient's name says what it is; None where one doesn't."""
        made = np.ones((len(frame), len(self.columns)))
        known = {f"{name}[T.{level}]": (name, level) for name in self.levels for level in self.levels[name]}
        for j, column in enumerate(self.columns):
            if column in known:
                name, level = known[column]
                made[:, j] = frame[name].astype(str).to_numpy() == level
            elif column in self.factors and pd.api.types.is_numeric_dtype(frame[column]):
                made[:, j] = frame[column].to_numpy(dtype=np.float64)
            elif column != INTERCEPT:
                return None
        return made

    def to_text(self) -> str:
        """As text, for a parameter array."""
        return json.dumps(asdict(self))

    @classmethod
    def from_text(cls, text: str) -> FrozenDesign:
        """The reverse of `to_text`."""
        raw = json.loads(text)
        return cls(raw["formula"], raw["levels"], tuple(raw["columns"]), tuple(raw["factors"]), bool(raw["is_plain"]))


_LEARNING = ("bs", "cr", "cs", "cc", "poly", "center", "scale", "standardize")
