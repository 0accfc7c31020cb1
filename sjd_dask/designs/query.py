"""Which samples a query keeps.

pandas evaluates Python in a query, method calls that write files among it. A spec may come from someone else, so a
query is read first, and anything but comparisons, arithmetic and a few tests of a column is refused.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from difflib import get_close_matches

import pandas as pd

from sjd_dask.errors import SpecError

METHODS = ("isna", "notna", "isnull", "notnull", "isin", "between")
TEXT_METHODS = ("contains", "startswith", "endswith", "match", "fullmatch", "lower", "upper", "strip", "len")
_NODES = (
    ast.Expression, ast.BoolOp, ast.UnaryOp, ast.BinOp, ast.Compare, ast.Name, ast.Constant, ast.List, ast.Tuple,
    ast.Load, ast.boolop, ast.unaryop, ast.cmpop, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod,
    ast.BitAnd, ast.BitOr, ast.keyword,
)  # fmt: skip


def query_samples(samples: pd.DataFrame, query: str, key: str = "samples") -> pd.DataFrame:
    """Rows of the sample sheet that a pandas query keeps.

    Parameters
    ----------
    samples : DataFrame
        Index: sample ids; the index may be named in the query too.
    query : str
        ``visit == 1 and disease in ["patient", "control"]``, ``age.notna()``, ``site.str.startswith("A")``. Columns
        with unusual names stand in backticks. A comparison with a missing value is false.
    key : str
        The key of the spec that holds the query, for messages.

    Raises
    ------
    SpecError
        A query that can't be read, names an unknown column, does not say yes or no for each sample, or reaches further
        than columns.
    """
    # Formulas take long to load, and most jobs select no samples by a query.
    from sjd_dask.designs.formula import unquote

    quoted, expression = unquote(query)
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except SyntaxError as error:
        raise SpecError(f"`{key}: {query}` can't be read: {error.msg}") from None
    frame = samples.reset_index()
    known = [str(column) for column in frame.columns]
    allowed_parts: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            allowed_parts |= _method_parts(node)
        if id(node) not in allowed_parts and not isinstance(node, _NODES):
            raise SpecError(
                f"`{key}: {query}` holds `{ast.unparse(node)}`, which is not allowed: use columns, comparisons, "
                f"`in`, and, or, not, arithmetic, .{'(), .'.join(METHODS)}() and .str.{', '.join(TEXT_METHODS)}"
            )
        if isinstance(node, ast.Name) and quoted.get(node.id, node.id) not in known:
            raise SpecError(
                f"`{key}: {query}` names the sample column {quoted.get(node.id, node.id)!r}, which does not exist; "
                f"{known_columns(quoted.get(node.id, node.id), known)}"
            )
    try:
        kept = frame.eval(query, engine="python", local_dict={}, global_dict={})
    except Exception as error:
        # pandas raises many types here: types that don't compare, operators it doesn't know.
        raise SpecError(f"`{key}: {query}` can't be evaluated: {error}") from None
    if not isinstance(kept, pd.Series) or not pd.api.types.is_bool_dtype(kept):
        raise SpecError(f"`{key}: {query}` must be true or false for each sample; compare a column with something")
    return samples.loc[kept.fillna(False).to_numpy(dtype=bool)]


def known_columns(name: str, known: Iterable[object], most: int = 20) -> str:
    """What to say of a sample column that isn't there: the one that is meant, if one is near, and which there are."""
    columns = [str(column) for column in known]
    by_case = {column.casefold(): column for column in columns}
    near = get_close_matches(name.casefold(), list(by_case), n=1, cutoff=0.6)
    more = f" and {len(columns) - most} more" if len(columns) > most else ""
    there = f"there are: {', '.join(columns[:most]) or 'none'}{more}"
    return f"did you mean {by_case[near[0]]!r}? {there[0].upper()}{there[1:]}" if near else there


def _method_parts(call: ast.Call) -> set[int]:
    """Nodes of a call that are fine: a listed method of a column, or of its .str."""
    function = call.func
    if not isinstance(function, ast.Attribute):
        return set()
    if function.attr in METHODS and isinstance(function.value, ast.Name):
        return {id(call), id(function)}
    text = function.value
    if function.attr in TEXT_METHODS and isinstance(text, ast.Attribute) and text.attr == "str":
        inner = text.value
        if isinstance(inner, ast.Name) or (isinstance(inner, ast.Call) and _method_parts(inner)):
            return {id(call), id(function), id(text)}
    return set()
