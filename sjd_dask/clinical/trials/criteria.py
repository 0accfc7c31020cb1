"""Criteria of a protocol read as three-valued queries: yes, no, or not known from what was recorded.

pandas takes a comparison with a missing value for false, so that an exclusion of unknown state would let a person in.
Here it is unknown, and a score that is known only as a range still decides where the whole range lies on one side.
"""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.clinical.definitions import did_you_mean
from sjd_dask.clinical.threeway import all_of, any_of, negate
from sjd_dask.designs.formula import unquote
from sjd_dask.errors import SpecError

Truth = NDArray[np.float64]

# What stands in a text column where nothing could be said; compared with another word, it is unknown.
UNDECIDED = ("undetermined", "undecided", "unknown")
_ALLOWED = (
    "use columns, comparisons, `in`, and, or, not, + - * /, .isna(), .notna(), .isin([...]), .between(low, high), "
    ".str.startswith, .str.endswith and .str.contains"
)
# A value this near to a cut-off, relatively, is at it: as the scores compare.
_RELATIVE = 1e-9
# Texts in quotes, passed over, or the bare word.
_CLASS = re.compile(r""""[^"]*"|'[^']*'|\bclass\b""")


@dataclass(frozen=True)
class Span:
    """Numbers known as a range; -inf to inf where nothing is known."""

    low: NDArray[np.float64]
    high: NDArray[np.float64]


@dataclass(frozen=True)
class Words:
    """Text, None where missing."""

    values: NDArray[Any]


@dataclass(frozen=True)
class Criterion:
    """A query that was read: its expression, and the columns it names in order."""

    text: str
    tree: ast.expr
    quoted: dict[str, str]
    columns: tuple[str, ...]


def read_criterion(query: str, where: str = "when") -> Criterion:
    """Parse a query without looking at data.

    Parameters
    ----------
    query : str
        ``essdai >= 5 and esspri_dryness >= 5``, ``5 <= essdai < 14``, ``molecular_class in ["C1", "C3"]``,
        ``anti_ssa`` (a flag), ``age.notna()``. Columns with unusual names stand in backticks.
    where : str
        The key that holds it, for messages.

    Raises
    ------
    SpecError
        It can't be read, or holds what is not allowed.
    """
    quoted, expression = unquote(query)
    # `class` is a word of Python's own, and of everyone who writes a protocol.
    expression = _CLASS.sub(lambda one: "quoted_class_" if one[0] == "class" else one[0], " ".join(expression.split()))
    quoted["quoted_class_"] = "class"
    try:
        tree = ast.parse(expression, mode="eval").body
    except SyntaxError as error:
        raise SpecError(f"`{where}: {query}` can't be read: {error.msg}") from None
    named = [quoted.get(one.id, one.id) for one in ast.walk(tree) if isinstance(one, ast.Name)]
    return Criterion(query, tree, quoted, tuple(dict.fromkeys(named)))


def evaluate(criterion: Criterion | str, frame: pd.DataFrame, where: str = "when") -> Truth:
    """A criterion for every row: 1 yes, 0 no, NaN unknown, (n,).

    ``and``, ``or`` and ``not`` are Kleene's: ``unknown and no`` is no, ``unknown or yes`` is yes. Each comparison is
    judged by itself, so ``essdai < 5 or essdai >= 5`` is unknown where the score is.

    Parameters
    ----------
    criterion : Criterion or str
    frame : DataFrame (n rows)
        A column ``X`` that is missing in a row counts as the range from ``X_min`` to ``X_max`` where there are such
        columns. In text columns ``undetermined``, ``undecided`` and ``unknown`` are missing, unless the query asks for
        that very word.
    where : str

    Raises
    ------
    SpecError
        An unknown column, types that don't compare, or a query that doesn't say yes or no.
    """
    read = read_criterion(criterion, where) if isinstance(criterion, str) else criterion
    return _Reader(read, frame, where).truth(read.tree)


class _Reader:
    def __init__(self, criterion: Criterion, frame: pd.DataFrame, where: str) -> None:
        self.criterion, self.frame, self.where = criterion, frame, where
        self.known = [str(one) for one in frame.columns]

    def refuse(self, what: str) -> SpecError:
        return SpecError(f"`{self.where}: {self.criterion.text}` {what}")

    def not_allowed(self, node: ast.AST) -> SpecError:
        return self.refuse(f"holds `{ast.unparse(node)}`, which is not allowed: {_ALLOWED}")

    # ---- yes or no ----

    def truth(self, node: ast.expr) -> Truth:
        if isinstance(node, ast.BoolOp):
            parts = [self.truth(one) for one in node.values]
            return all_of(*parts) if isinstance(node.op, ast.And) else any_of(*parts)
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.BitAnd, ast.BitOr)):
            parts = [self.truth(node.left), self.truth(node.right)]
            return all_of(*parts) if isinstance(node.op, ast.BitAnd) else any_of(*parts)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.Not, ast.Invert)):
            return negate(self.truth(node.operand))
        if isinstance(node, ast.Compare):
            return self._comparisons(node)
        if isinstance(node, ast.Call):
            return self._call(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, bool):
            return np.full(len(self.frame), float(node.value))
        if isinstance(node, ast.Name):
            return self._flag(node)
        raise self.refuse("must say yes or no for each person; compare a column with something")

    def _flag(self, node: ast.Name) -> Truth:
        column = self.column(node)
        if pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
            values = column.to_numpy(dtype=np.float64, na_value=np.nan)
            if np.isin(values[~np.isnan(values)], (0.0, 1.0)).all():
                return values
        raise self.refuse(f"takes {column.name!r} for a flag, but it holds other values than 0 and 1: compare it with "
                          "something")  # fmt: skip

    def _comparisons(self, node: ast.Compare) -> Truth:
        """``a < b <= c`` is both."""
        sides = [node.left, *node.comparators]
        parts = [self._compare(a, op, b) for a, op, b in zip(sides[:-1], node.ops, sides[1:], strict=True)]
        return all_of(*parts)

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Truth:
        if isinstance(op, (ast.In, ast.NotIn)):
            found = self._is_in(left, right)
            return found if isinstance(op, ast.In) else negate(found)
        a, b = self.value(left), self.value(right)
        if isinstance(a, Words) and isinstance(b, Words):
            return self._texts(a, op, b, _literals(left, right))
        if _blank(a) or _blank(b):  # a column without any value has no type of its own
            return np.full(len(self.frame), np.nan)
        a, b = _as_numbers(a), _as_numbers(b)  # visits are text in one sheet and numbers in another
        if isinstance(a, Words) or isinstance(b, Words):
            raise self.refuse("compares text with a number; text stands in quotes, numbers don't")
        if isinstance(op, (ast.Eq, ast.NotEq)):
            same = (a.low == a.high) & (b.low == b.high) & np.isfinite(a.low) & ~_beyond(a.low, b.low)
            same &= ~_beyond(b.low, a.low)
            found = self._three(same, _beyond(b.low, a.high) | _beyond(a.low, b.high))
            return found if isinstance(op, ast.Eq) else negate(found)
        if isinstance(op, (ast.Lt, ast.LtE)):
            a, b, op = b, a, ast.Gt() if isinstance(op, ast.Lt) else ast.GtE()
        if isinstance(op, ast.GtE):
            return self._three(~_beyond(b.high, a.low), _beyond(b.low, a.high))
        if isinstance(op, ast.Gt):
            return self._three(_beyond(a.low, b.high), ~_beyond(a.high, b.low))
        raise self.not_allowed(left)

    def _three(self, yes: Any, no: Any) -> Truth:
        return np.broadcast_to(np.where(yes, 1.0, np.where(no, 0.0, np.nan)), len(self.frame)).astype(np.float64)

    def _texts(self, a: Words, op: ast.cmpop, b: Words, asked: set[str]) -> Truth:
        left, right = (np.broadcast_to(one.values, len(self.frame)) for one in (a, b))
        known = _said(left, asked) & _said(right, asked)
        compare = {ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le,
                   ast.Gt: operator.gt, ast.GtE: operator.ge}.get(type(op))  # fmt: skip
        if compare is None:
            raise self.refuse("compares text in a way that is not allowed")
        out = np.full(len(self.frame), np.nan)
        out[known] = compare(left[known].astype(str), right[known].astype(str))
        return out

    def _is_in(self, left: ast.expr, right: ast.expr) -> Truth:
        if not isinstance(right, (ast.List, ast.Tuple, ast.Set)) or not right.elts:
            raise self.refuse("must have a list after `in`, such as [1, 2]")
        return any_of(*(self._compare(left, ast.Eq(), one) for one in right.elts))

    def _call(self, node: ast.Call) -> Truth:
        function = node.func
        if not isinstance(function, ast.Attribute) or node.keywords:
            raise self.not_allowed(node)
        on, name, given = function.value, function.attr, node.args
        if isinstance(on, ast.Attribute) and on.attr == "str" and name in ("startswith", "endswith", "contains"):
            if len(given) != 1 or not (isinstance(given[0], ast.Constant) and isinstance(given[0].value, str)):
                raise self.not_allowed(node)
            return self._pattern(on.value, name, given[0].value)
        if name in ("isna", "isnull", "notna", "notnull") and not given and isinstance(on, ast.Name):
            missing = self.column(on).isna().to_numpy(dtype=np.float64)
            return missing if name in ("isna", "isnull") else negate(missing)
        if name == "isin" and len(given) == 1:
            return self._is_in(on, given[0])
        if name == "between" and len(given) == 2:
            return all_of(self._compare(on, ast.GtE(), given[0]), self._compare(on, ast.LtE(), given[1]))
        raise self.not_allowed(node)

    def _pattern(self, on: ast.expr, name: str, pattern: str) -> Truth:
        words = self.value(on)
        if not isinstance(words, Words):
            raise self.refuse("asks for a pattern in a column of numbers")
        known = _said(words.values, set())
        text = pd.Series(words.values[known].astype(str), dtype=object)
        found = text.str.contains(pattern, regex=False) if name == "contains" else getattr(text.str, name)(pattern)
        out = np.full(len(self.frame), np.nan)
        out[known] = found.to_numpy(dtype=np.float64)
        return out

    # ---- values ----

    def column(self, node: ast.Name) -> pd.Series:
        name = self.criterion.quoted.get(node.id, node.id)
        if name not in self.frame.columns:
            shown = ", ".join(self.known[:30]) + (", ..." if len(self.known) > 30 else "")
            hint = did_you_mean(name, self.known)
            raise self.refuse(f"names the column {name!r}, which does not exist{hint}; there are: {shown}")
        found: pd.Series = self.frame[name]
        return found

    def value(self, node: ast.expr) -> Span | Words:
        if isinstance(node, ast.Name):
            return self._column_value(node)
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                return Words(np.array([node.value], dtype=object))
            if isinstance(node.value, (bool, int, float)):
                number = np.array([float(node.value)])
                return Span(number, number)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.UAdd)):
            inner = self.number(node.operand)
            return inner if isinstance(node.op, ast.UAdd) else Span(-inner.high, -inner.low)
        if isinstance(node, ast.BinOp):
            return self._arithmetic(node)
        raise self.not_allowed(node)

    def number(self, node: ast.expr) -> Span:
        found = self.value(node)
        if isinstance(found, Words):
            raise self.refuse(f"calculates with `{ast.unparse(node)}`, which is text")
        return found

    def _column_value(self, node: ast.Name) -> Span | Words:
        column = self.column(node)
        if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
            text = column.astype(object)
            return Words(text.where(text.notna(), None).map(_text).to_numpy(dtype=object))
        low = column.to_numpy(dtype=np.float64, na_value=np.nan)
        high = low
        least, most = f"{column.name}_min", f"{column.name}_max"
        if least in self.frame.columns and most in self.frame.columns:
            low = np.where(np.isnan(low), self.frame[least].to_numpy(dtype=np.float64, na_value=np.nan), low)
            high = np.where(np.isnan(high), self.frame[most].to_numpy(dtype=np.float64, na_value=np.nan), high)
        return _span(low, high)

    def _arithmetic(self, node: ast.BinOp) -> Span:
        a, b = self.number(node.left), self.number(node.right)
        with np.errstate(invalid="ignore", divide="ignore"):
            if isinstance(node.op, ast.Add):
                return _span(a.low + b.low, a.high + b.high)
            if isinstance(node.op, ast.Sub):
                return _span(a.low - b.high, a.high - b.low)
            if isinstance(node.op, ast.Mult):
                return _ends(operator.mul, a, b)
            if isinstance(node.op, ast.Div):
                through_zero = (b.low <= 0) & (b.high >= 0)
                made = _ends(operator.truediv, a, b)
                return Span(np.where(through_zero, -np.inf, made.low), np.where(through_zero, np.inf, made.high))
        raise self.not_allowed(node)


def missing_columns(criterion: Criterion, frame: pd.DataFrame) -> pd.DataFrame:
    """Where each column that a criterion names is missing: bool, a column each."""
    made = {}
    for name in criterion.columns:
        column = frame[name]
        missing = column.isna()
        if not (pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column)):
            missing |= column.astype(object).isin(UNDECIDED)
        made[name] = missing.to_numpy(dtype=bool)
    return pd.DataFrame(made, index=frame.index)


def _text(value: Any) -> Any:
    if value is None or isinstance(value, str):
        return value
    return value.isoformat()[:10] if isinstance(value, pd.Timestamp) else str(value)


def _said(values: NDArray[Any], asked: Iterable[str]) -> NDArray[np.bool_]:
    """Where a word says something: missing ones don't, nor do those that say so, unless asked for."""
    silent = [word for word in UNDECIDED if word not in asked]
    series = pd.Series(values, dtype=object)
    return (series.notna() & ~series.isin(silent)).to_numpy(dtype=bool)


def _literals(*nodes: ast.expr) -> set[str]:
    return {str(one.value) for one in nodes if isinstance(one, ast.Constant)}


def _span(low: NDArray[np.float64], high: NDArray[np.float64]) -> Span:
    return Span(np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high))


def _ends(operation: Callable[..., Any], a: Span, b: Span) -> Span:
    products = np.stack(np.broadcast_arrays(*(operation(x, y) for x in (a.low, a.high) for y in (b.low, b.high))))
    unknown = np.isnan(products).any(axis=0)
    filled = np.where(unknown, 0.0, products)
    return Span(np.where(unknown, -np.inf, filled.min(axis=0)), np.where(unknown, np.inf, filled.max(axis=0)))


def _beyond(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Where a > b by more than rounding."""
    size = np.maximum(np.abs(a), np.abs(b))
    return np.asarray(a > b + _RELATIVE * np.where(np.isfinite(size), np.maximum(size, 1.0), 0.0))


def _blank(value: Span | Words) -> bool:
    if isinstance(value, Words):
        return all(one is None for one in value.values)
    return bool(np.isinf(value.low).all() and np.isinf(value.high).all())


def _as_numbers(value: Span | Words) -> Span | Words:
    """Text that holds numbers alone as numbers; other text as it is."""
    if isinstance(value, Span):
        return value
    try:
        numbers = pd.to_numeric(pd.Series(value.values, dtype=object)).to_numpy(dtype=np.float64, na_value=np.nan)
    except (ValueError, TypeError):
        return value
    return _span(numbers, numbers)
