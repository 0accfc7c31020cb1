"""Sixteen features at a time: products of short vectors that lie side by side in flat float64 arrays.

Compilers unroll so short a loop before they would make vectors of it, and then compute it one number at a time; so
the vectors are written out. Every step is one fused multiply-add in each lane, on any machine.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

LANES = 16
_VECTOR = ir.VectorType(ir.DoubleType(), LANES)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, at: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [at]), _VECTOR.as_pointer())


def _three(combine: Callable[[Any, Any, Any, Any], Any]) -> Any:
    """An operation out[o : o + LANES] = combine(a[i : i + LANES], b[j : j + LANES], out[o : o + LANES])."""

    def operation(typingctx: Any, out: Any, o: Any, a: Any, i: Any, b: Any, j: Any) -> Any:
        signature = types.void(out, types.intp, a, types.intp, b, types.intp)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            target, first, second = (
                _pointer(context, builder, signature.args[n], arguments[n], arguments[n + 1]) for n in (0, 2, 4)
            )
            loaded = [builder.load(pointer, align=8) for pointer in (first, second, target)]
            builder.store(combine(builder, *loaded), target, align=8)
            return context.get_dummy_value()

        return signature, generate

    return intrinsic(operation)


def _call(builder: Any, name: str, arguments: list[Any]) -> Any:
    """Call one of LLVM's own functions on vectors."""
    full = f"llvm.{name}.v{LANES}f64"
    function = builder.module.globals.get(full)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(_VECTOR, [_VECTOR] * len(arguments)), full)
    return builder.call(function, arguments)


def _add(builder: Any, a: Any, b: Any, out: Any) -> Any:
    return _call(builder, "fma", [a, b, out])


def _take(builder: Any, a: Any, b: Any, out: Any) -> Any:
    return _call(builder, "fma", [builder.fneg(a), b, out])


def _scale(builder: Any, a: Any, b: Any, out: Any) -> Any:
    return builder.fmul(a, b)


def _safe_root(builder: Any, a: Any, b: Any, out: Any) -> Any:
    safe = builder.select(builder.fcmp_ordered(">", a, b), a, ir.Constant(_VECTOR, [1.0] * LANES))
    return _call(builder, "sqrt", [safe])


def _divide(builder: Any, a: Any, b: Any, out: Any) -> Any:
    return builder.fdiv(a, b)


def _least(builder: Any, a: Any, b: Any, out: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", a, b), a, b)


# Each over LANES lanes from the given places: out += a * b; out -= a * b; out = a * b; out = sqrt(a where a > b, else
# 1); out = a / b; out = the smaller of a and b.
add_lanes: Any = _three(_add)
take_lanes: Any = _three(_take)
scale_lanes: Any = _three(_scale)
safe_root_lanes: Any = _three(_safe_root)
divide_lanes: Any = _three(_divide)
least_lanes: Any = _three(_least)
