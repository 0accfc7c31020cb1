"""What a formula may hold: columns of the sample sheet, arithmetic, and a fixed set of transforms.

formulaic evaluates the Python inside a formula. A spec may come from someone else, so every such piece is read first, and
anything but calls of known transforms on columns and constants is refused.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable

from formulaic import Formula
from formulaic.errors import FormulaicError
from formulaic.parser.types import Factor

from sjd_dask.errors import DesignError, SpecError

TRANSFORMS = ("C", "bs", "cr", "cs", "cc", "poly", "center", "scale", "standardize", "log", "log2", "log10", "exp", "I")
_CONTRASTS = ("treatment", "sum", "helmert", "diff", "poly")
_PLAIN = (
    ast.Expression, ast.Name, ast.Load, ast.Constant, ast.keyword, ast.BinOp, ast.UnaryOp, ast.Compare, ast.List, ast.Tuple,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip


def parse_formula(text: str, columns: Iterable[str]) -> Formula:
    """A formula without a left-hand side, over known columns.

    Raises
    ------
    SpecError
        If it can't be parsed, has a response, holds Python that is not allowed, or names an unknown column.
    """
    known = [str(column) for column in columns]
    try:
        formula = Formula(text)
        factors = [factor for term in formula for factor in term.factors] if not hasattr(formula, "lhs") else None
    except (FormulaicError, SyntaxError, ValueError, TypeError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SpecError(f"the formula `{text}` can't be read: {first}") from None
    if factors is None:
        raise SpecError(f"the formula `{text}` has a left-hand side; every feature is the response in turn: begin with `~`")
    for factor in factors:
        for name in factor_columns(factor, text):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                hint = f"did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else f"there are: {', '.join(known[:20])}"
                raise SpecError(f"the formula `{text}` names the sample column `{name}`, which does not exist; {hint}")
    return formula


def factor_columns(factor: Factor, text: str) -> list[str]:
    """Columns that one factor of a formula reads; refuses Python that is not allowed."""
    if factor.eval_method.value == "lookup":
        return [factor.expr]
    if factor.eval_method.value == "literal":
        return []
    quoted, expression = _unquote(factor.expr)
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError:
        raise SpecError(f"the formula `{text}` can't be read at `{factor.expr}`") from None
    called: set[int] = set()
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called.add(id(node.func))
            if isinstance(node.func, ast.Attribute):
                called.add(id(node.func.value))
            _check_call(node, factor.expr, text)
        elif isinstance(node, ast.Name):
            if id(node) not in called and node.id != "contr":
                found.append(quoted.get(node.id, node.id))
        elif isinstance(node, ast.Attribute):
            if id(node) not in called:
                raise _refused(factor.expr, text)
        elif not isinstance(node, _PLAIN):
            raise _refused(factor.expr, text)
    return list(dict.fromkeys(found))


def _check_call(node: ast.Call, expression: str, text: str) -> None:
    function = node.func
    if isinstance(function, ast.Name) and function.id in TRANSFORMS:
        return
    is_contrast = isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name) and function.value.id == "contr"
    if is_contrast and function.attr in _CONTRASTS:  # type: ignore[union-attr]
        return
    raise _refused(expression, text)


def _refused(expression: str, text: str) -> SpecError:
    return SpecError(
        f"the formula `{text}` holds `{expression}`, which is not allowed: use sample columns, arithmetic, and "
        f"{', '.join(TRANSFORMS)} (with contr.treatment and its kin inside C)"
    )


def _unquote(expression: str) -> tuple[dict[str, str], str]:
    """Backticked names as identifiers that Python can parse, and what each stands for."""
    pieces = expression.split("`")
    names = {}
    for i in range(1, len(pieces), 2):
        names[f"quoted_{i}_"] = pieces[i]
        pieces[i] = f"quoted_{i}_"
    return names, "".join(pieces)


def require_estimable(n_samples: int, n_columns: int, text: str) -> None:
    """Refuse a design that leaves nothing to estimate the variance from."""
    if n_samples <= n_columns:
        raise DesignError(
            f"the design `{text}` has {n_columns} coefficients for {n_samples} samples, which leaves no residual degrees of "
            "freedom: use fewer terms or more samples"
        )
