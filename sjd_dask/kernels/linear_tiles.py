"""Machine code of the linear model: decode a tile of cells, centre it, and add it to the running sums.

The order of every sum is one sample after another, each step one fused multiply-add, written out by `fused`. So the
bits of a feature's sums depend on its values and the order of the samples alone: not on how rows, features or chunks
are cut, nor on how wide the machine's vectors are.

A tile is small enough for the first-level cache: `ROW_TILE` samples of `FEATURE_TILE` features, with the sums of
those features beside it. Four samples by four columns of the design are in registers at a time.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import njit, types
from numba.extending import intrinsic

FEATURE_TILE = 512
ROW_TILE = 8
# Samples whose float32 products are added in float32 before they go to the float64 sums (precision='single').
SINGLE_RUN = 16

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


def _fused(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c with one rounding; the three have one float type."""
    if not (a == b == c):
        raise TypeError(f"fused needs three values of one type, not {a}, {b}, {c}")
    signature = a(a, b, c)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fma(*arguments)

    return signature, generate


fused: Any = intrinsic(_fused)


def _nan_lanes(typingctx: Any, row: Any, at: Any) -> Any:
    """Bits of the eight values of a contiguous row from `at` that are NaN: one vector comparison."""
    signature = types.uint64(row, types.intp)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        item = context.get_data_type(signature.args[0].dtype)
        lanes = ir.VectorType(item, 8)
        pointer = builder.bitcast(builder.gep(array.data, [arguments[1]]), lanes.as_pointer())
        values = builder.load(pointer, align=4)
        bits = builder.fcmp_unordered("uno", values, values)
        return builder.zext(builder.bitcast(bits, ir.IntType(8)), ir.IntType(64))

    return signature, generate


nan_lanes: Any = intrinsic(_nan_lanes)


def _lowest_bit(typingctx: Any, bits: Any) -> Any:
    """Place of the lowest set bit."""
    signature = types.intp(types.uint64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return signature, generate


lowest_bit: Any = intrinsic(_lowest_bit)


@njit(**_OPTIONS)
def decode_rows(block, first, rows, start, width, table, fill, pilot, out):  # type: ignore[no-untyped-def]
    """Centred values of a tile into `out`; a missing cell becomes NaN.

    `table` and `fill` that are None are compiled away. Infinity times zero is NaN: a cell that is not finite counts
    as missing, as in limma.
    """
    for r in range(rows):
        source = block[first + r, start : start + width]
        target = out[r]
        if table is not None:
            for f in range(width):
                target[f] = table[source[f]] - pilot[f]
        elif fill is not None:
            for f in range(width):
                target[f] = np.nan if source[f] == fill else source[f] - pilot[f]
        else:
            for f in range(width):
                value = source[f] - pilot[f]
                target[f] = value if abs(value) < np.inf else np.nan


@njit(**_OPTIONS)
def take_missing(values, rows, start, width, packed, first, gram, n_missing):  # type: ignore[no-untyped-def]
    """Zero the missing cells of a tile; add their q q' (packed upper triangle) and number to the features' own."""
    size = packed.shape[1]
    for r in range(rows):
        row = values[r]
        outer = packed[first + r]
        # Lanes beyond `width` hold an earlier tile's values, which are finite: the buffers start as zeros.
        for eight in range(0, width, 8):
            lanes = nan_lanes(row, eight)
            while lanes != 0:
                f = eight + lowest_bit(lanes)
                lanes &= lanes - np.uint64(1)
                row[f] = 0.0
                n_missing[start + f] += 1
                target = gram[start + f]
                for m in range(size):
                    target[m] += outer[m]


@njit(**_OPTIONS)
def any_nan(values, width):  # type: ignore[no-untyped-def]
    """Whether one of the first `width` values is NaN."""
    bad = False
    for f in range(width):
        bad |= values[f] != values[f]
    return bad


@njit(**_OPTIONS)
def pack_outer(q):  # type: ignore[no-untyped-def]
    """Upper triangle of q q' of each row, row by row of the triangle: (rows, p (p + 1) / 2)."""
    rows, p = q.shape
    packed = np.empty((rows, p * (p + 1) // 2))
    for r in range(rows):
        m = 0
        for i in range(p):
            for j in range(i, p):
                packed[r, m] = q[r, i] * q[r, j]
                m += 1
    return packed


@njit(**_OPTIONS)
def add_products(q, first, rows, values, width, sums, squares):  # type: ignore[no-untyped-def]
    """sums[j] += q[row, j] * value and squares += value**2 over rows: four samples by four columns at a time."""
    columns = q.shape[1]
    r = 0
    while r + 4 <= rows:
        v0 = values[r]
        v1 = values[r + 1]
        v2 = values[r + 2]
        v3 = values[r + 3]
        p0 = q[first + r]
        p1 = q[first + r + 1]
        p2 = q[first + r + 2]
        p3 = q[first + r + 3]
        j = 0
        while j + 4 <= columns:
            a = sums[j]
            b = sums[j + 1]
            c = sums[j + 2]
            d = sums[j + 3]
            a0, a1, a2, a3 = p0[j], p1[j], p2[j], p3[j]
            b0, b1, b2, b3 = p0[j + 1], p1[j + 1], p2[j + 1], p3[j + 1]
            c0, c1, c2, c3 = p0[j + 2], p1[j + 2], p2[j + 2], p3[j + 2]
            d0, d1, d2, d3 = p0[j + 3], p1[j + 3], p2[j + 3], p3[j + 3]
            for f in range(width):
                x0, x1, x2, x3 = v0[f], v1[f], v2[f], v3[f]
                a[f] = fused(a3, x3, fused(a2, x2, fused(a1, x1, fused(a0, x0, a[f]))))
                b[f] = fused(b3, x3, fused(b2, x2, fused(b1, x1, fused(b0, x0, b[f]))))
                c[f] = fused(c3, x3, fused(c2, x2, fused(c1, x1, fused(c0, x0, c[f]))))
                d[f] = fused(d3, x3, fused(d2, x2, fused(d1, x1, fused(d0, x0, d[f]))))
            j += 4
        while j < columns:
            a = sums[j]
            a0, a1, a2, a3 = p0[j], p1[j], p2[j], p3[j]
            for f in range(width):
                a[f] = fused(a3, v3[f], fused(a2, v2[f], fused(a1, v1[f], fused(a0, v0[f], a[f]))))
            j += 1
        for f in range(width):
            x0, x1, x2, x3 = v0[f], v1[f], v2[f], v3[f]
            squares[f] = fused(x3, x3, fused(x2, x2, fused(x1, x1, fused(x0, x0, squares[f]))))
        r += 4
    while r < rows:
        v0 = values[r]
        p0 = q[first + r]
        for j in range(columns):
            a = sums[j]
            a0 = p0[j]
            for f in range(width):
                a[f] = fused(a0, v0[f], a[f])
        for f in range(width):
            squares[f] = fused(v0[f], v0[f], squares[f])
        r += 1


@njit(**_OPTIONS)
def accumulate_double(block, table, fill, pilot, q, sums, squares, gram, n_missing, begin):  # type: ignore[no-untyped-def]
    """Add a block (rows, F) to sums (columns, F) and squares (F,), tile by tile, from the tile that starts at `begin`.

    The last column of `q` is one, for the plain total. Returns F when done; or, when a missing cell turns up and
    `gram` has no rows yet, the start of the tile to begin again at once `gram` and `n_missing` exist (that tile's
    sums are untouched).
    """
    rows, features = block.shape
    columns = q.shape[1]
    values = np.zeros((ROW_TILE, FEATURE_TILE))
    tile = np.empty((columns, FEATURE_TILE))
    tile_squares = np.empty(FEATURE_TILE)
    careful = gram.shape[0] > 0
    packed = pack_outer(q[:, : columns - 1]) if careful else np.empty((0, 0))
    for start in range(begin, features, FEATURE_TILE):
        width = min(FEATURE_TILE, features - start)
        centre = pilot[start : start + width]
        for j in range(columns):
            tile[j, :width] = sums[j, start : start + width]
        tile_squares[:width] = squares[start : start + width]
        for first in range(0, rows, ROW_TILE):
            count = min(ROW_TILE, rows - first)
            decode_rows(block, first, count, start, width, table, fill, centre, values)
            if careful:
                take_missing(values, count, start, width, packed, first, gram, n_missing)
            add_products(q, first, count, values, width, tile, tile_squares)
        if not careful and any_nan(tile_squares, width):
            return start
        for j in range(columns):
            sums[j, start : start + width] = tile[j, :width]
        squares[start : start + width] = tile_squares[:width]
    return features


@njit(**_OPTIONS)
def accumulate_single(block, table, fill, pilot, q, q_exact, sums, squares, run, phase, gram, n_missing, begin):  # type: ignore[no-untyped-def]
    """As `accumulate_double` with float32 products; every SINGLE_RUN samples go to the float64 sums.

    `run` (columns + 1, F) float32 carries a run that a block's end cuts; `phase` is the number of samples in it
    already.
    """
    rows, features = block.shape
    columns = q.shape[1]
    values = np.zeros((SINGLE_RUN, FEATURE_TILE), np.float32)
    tile = np.empty((columns, FEATURE_TILE))
    tile_squares = np.empty(FEATURE_TILE)
    short = np.empty((columns, FEATURE_TILE), np.float32)
    short_squares = np.empty(FEATURE_TILE, np.float32)
    careful = gram.shape[0] > 0
    packed = pack_outer(q_exact[:, : columns - 1]) if careful else np.empty((0, 0))
    for start in range(begin, features, FEATURE_TILE):
        width = min(FEATURE_TILE, features - start)
        centre = pilot[start : start + width]
        for j in range(columns):
            tile[j, :width] = sums[j, start : start + width]
            short[j, :width] = run[j, start : start + width]
        tile_squares[:width] = squares[start : start + width]
        short_squares[:width] = run[columns, start : start + width]
        first = 0
        filled = phase
        while first < rows:
            count = min(SINGLE_RUN - filled, rows - first)
            decode_rows(block, first, count, start, width, table, fill, centre, values)
            if careful:
                take_missing(values, count, start, width, packed, first, gram, n_missing)
            add_products(q, first, count, values, width, short, short_squares)
            first += count
            filled += count
            if filled == SINGLE_RUN:
                filled = 0
                for j in range(columns):
                    for f in range(width):
                        tile[j, f] += short[j, f]
                        short[j, f] = 0.0
                for f in range(width):
                    tile_squares[f] += short_squares[f]
                    short_squares[f] = 0.0
        if not careful and (any_nan(tile_squares, width) or any_nan(short_squares, width)):
            return start
        for j in range(columns):
            sums[j, start : start + width] = tile[j, :width]
            run[j, start : start + width] = short[j, :width]
        squares[start : start + width] = tile_squares[:width]
        run[columns, start : start + width] = short_squares[:width]
    return features


@njit(**_OPTIONS)
def pilot_mean(block, rows, table, fill, pilot):  # type: ignore[no-untyped-def]
    """Mean of the first `rows` samples of each feature without its missing cells; zero where all are missing.

    Summed as differences from the first value, so that a constant feature's pilot is that constant to the bit.
    """
    features = block.shape[1]
    base = np.empty(FEATURE_TILE)
    total = np.empty(FEATURE_TILE)
    count = np.empty(FEATURE_TILE)
    for start in range(0, features, FEATURE_TILE):
        width = min(FEATURE_TILE, features - start)
        count[:] = 0.0
        total[:] = 0.0
        base[:] = 0.0
        for r in range(rows):
            for f in range(width):
                code = block[r, start + f]
                value = np.float64(code) if table is None else np.float64(table[code])
                if table is None and fill is not None and code == fill:
                    value = np.float64(np.nan)
                if abs(value) < np.inf:
                    if count[f] == 0.0:
                        base[f] = value
                    total[f] += value - base[f]
                    count[f] += 1.0
        for f in range(width):
            pilot[start + f] = base[f] + total[f] / count[f] if count[f] > 0.0 else 0.0
