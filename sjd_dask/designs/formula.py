"""What a formula may hold: columns of the sample sheet, arithmetic, and a fixed set of transforms.

formulaic evaluates the Python inside a formula. A spec may come from someone else, so every such piece is read first,
and anything but calls of known transforms on columns and constants is refused.
"""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable

from formulaic import Formula, SimpleFormula
from formulaic.errors import FormulaicError
from formulaic.parser.types import Factor

from sjd_dask.errors import DesignError, SpecError

TRANSFORMS = ("C", "bs", "cr", "cs", "cc", "poly", "center", "scale", "standardize", "log", "log2", "log10", "exp", "I")
_CONTRASTS = ("treatment", "sum", "helmert", "diff", "poly")
_SPLINES = ("bs", "cr", "cs", "cc", "poly")
_ARITHMETIC = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow)
_COMPARISONS = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)
# Columns a spline may have, and the highest power: beyond these a formula costs memory or time and means nothing.
_MOST_COLUMNS = 100
_HIGHEST_POWER = 64


def parse_formula(text: str, columns: Iterable[str]) -> Formula:
    """A formula without a left-hand side, over known columns.

    Raises
    ------
    SpecError
        If it can't be parsed, has a response, holds Python that is not allowed, or names an unknown column.
    """
    known = [str(column) for column in columns]
    formula, factors = _read(text)
    for factor in factors:
        for name in factor_columns(factor, text):
            if name not in known:
                near = difflib.get_close_matches(name, known, n=3)
                there = f"there are: {', '.join(known[:20])}"
                hint = f"did you mean {' or '.join(f'`{n}`' for n in near)}?" if near else there
                raise SpecError(f"the formula `{text}` names the sample column `{name}`, which does not exist; {hint}")
    return formula


def formula_columns(text: str | None) -> list[str]:
    """Sample columns that a formula reads; none for no formula.

    Raises
    ------
    SpecError
        As `parse_formula`, whatever the columns are.
    """
    if not text:
        return []
    return list(dict.fromkeys(name for factor in _read(text)[1] for name in factor_columns(factor, text)))


def _read(text: str) -> tuple[Formula, list[Factor]]:
    try:
        formula = Formula(text)
        if hasattr(formula, "lhs"):
            raise SpecError(
                f"the formula `{text}` has a left-hand side; every feature is the response in turn: begin with `~`"
            )
        if not isinstance(formula, SimpleFormula):
            raise SpecError(f"the formula `{text}` has several parts; one without `|` is needed")
        return formula, [factor for term in formula for factor in term.factors]
    except (FormulaicError, SyntaxError, ValueError, TypeError) as error:
        if isinstance(error, SpecError):
            raise
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise SpecError(f"the formula `{text}` can't be read: {first}") from None


def factor_columns(factor: Factor, text: str) -> list[str]:
    """Columns that one factor of a formula reads; refuses Python that is not allowed."""
    if factor.eval_method.value == "lookup":
        return [factor.expr]
    if factor.eval_method.value == "literal":
        return []
    quoted, expression = unquote(factor.expr)
    try:
        tree = ast.parse(expression, mode="eval")
    except SyntaxError:
        raise SpecError(f"the formula `{text}` can't be read at `{factor.expr}`") from None
    found: list[str] = []
    if not _allowed(tree.body, found):
        raise SpecError(
            f"the formula `{text}` holds `{factor.expr}`, which is not allowed: use sample columns, arithmetic, and "
            f"{', '.join(TRANSFORMS)} (with contr.treatment and its kin inside C)"
        )
    return list(dict.fromkeys(quoted.get(name, name) for name in found))


def _allowed(node: ast.AST, found: list[str]) -> bool:
    """Whether an expression is made of columns, numbers, arithmetic and known transforms; its columns go to `found`."""
    if isinstance(node, ast.Name):
        found.append(node.id)
        return True
    if isinstance(node, ast.Constant):
        return _is_number(node)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, (ast.USub, ast.UAdd, ast.Invert, ast.Not)) and _allowed(node.operand, found)
    if isinstance(node, ast.BinOp):
        if not isinstance(node.op, _ARITHMETIC) or not _allowed(node.left, found) or not _allowed(node.right, found):
            return False
        return not isinstance(node.op, ast.Pow) or _is_small_power(node)
    if isinstance(node, ast.Compare):
        sides = (node.left, *node.comparators)
        return all(isinstance(op, _COMPARISONS) for op in node.ops) and all(
            isinstance(side, ast.Constant) or _allowed(side, found) for side in sides
        )
    return isinstance(node, ast.Call) and _allowed_call(node, found)


def _allowed_call(node: ast.Call, found: list[str]) -> bool:
    if not isinstance(node.func, ast.Name) or node.func.id not in TRANSFORMS or not node.args:
        return False
    settings = [*node.args[1:], *(keyword.value for keyword in node.keywords)]
    if not _allowed(node.args[0], found) or any(keyword.arg is None for keyword in node.keywords):
        return False
    if node.func.id == "C":
        return all(_is_plain(value) or _is_coding(value) for value in settings)
    if node.func.id in _SPLINES:
        counts = [*node.args[1:], *(k.value for k in node.keywords if k.arg in ("df", "degree"))]
        numbers = [value.value for value in counts if isinstance(value, ast.Constant)]
        if any(isinstance(number, (int, float)) and abs(number) > _MOST_COLUMNS for number in numbers):
            return False
    return all(_is_plain(value) for value in settings)


def _is_coding(node: ast.AST) -> bool:
    """`contr.treatment` and its kin, bare or called with plain arguments."""
    if isinstance(node, ast.Call):
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        return _is_coding(node.func) and all(map(_is_plain, values)) and all(k.arg is not None for k in node.keywords)
    return (
        isinstance(node, ast.Attribute)
        and node.attr in _CONTRASTS
        and isinstance(node.value, ast.Name)
        and node.value.id == "contr"
    )


def _is_plain(node: ast.AST) -> bool:
    """A constant, a negative number, or a list of these."""
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.USub) and _is_number(node.operand)
    if isinstance(node, (ast.List, ast.Tuple)):
        return all(map(_is_plain, node.elts))
    return isinstance(node, ast.Constant)


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, (int, float))


def _is_small_power(node: ast.BinOp) -> bool:
    """A power that is a small constant; of a constant only if that is written out, so that powers don't tower."""
    power = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
    if not _is_number(power) or abs(power.value) > _HIGHEST_POWER:  # type: ignore[attr-defined]
        return False
    return _is_number(node.left) or any(isinstance(part, ast.Name) for part in ast.walk(node.left))


def unquote(expression: str) -> tuple[dict[str, str], str]:
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
            f"the design `{text}` has {n_columns} coefficients for {n_samples} samples, which leaves no residual "
            "degrees of freedom: use fewer terms or more samples"
        )
