"""Machine code of weighted sums: a weight for every cell, or one for every sample.

As in `linear_tiles`, every sum goes one sample after another, each step one fused multiply-add, so the bits of a
feature don't depend on how rows, features or chunks are cut.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

from sjd_dask.kernels.linear_tiles import ROW_TILE, add_products, fused, pack_outer

_OPTIONS: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}
# Bytes of running sums of a tile of features: they stay in the second-level cache.
_TILE_BYTES = 256 << 10


@njit(**_OPTIONS)
def tile_width(columns):  # type: ignore[no-untyped-def]
    """Features of a tile whose design has so many products a sample."""
    return max(32, min(512, _TILE_BYTES // (8 * columns) // 8 * 8))


@njit(**_OPTIONS)
def add_weighted(values, weights, q, pilot, gram, products, squares, weight_sum, total, n_used, n_values):  # type: ignore[no-untyped-def]
    """Add a block: values (rows, F) and weights (rows, F), or (rows, 1) where a sample has one weight.

    gram (p (p + 1) / 2, F) += w q q'; products (p, F) += w q (y - pilot); squares += w (y - pilot)**2; weight_sum += w;
    total += y - pilot, without weight, over finite values; n_used counts cells with a value and a weight above zero,
    n_values those with a value.
    """
    rows, features = values.shape
    p = q.shape[1]
    packed = pack_outer(q)
    size = packed.shape[1]
    wide = tile_width(size + p)
    per_cell = weights.shape[1] > 1 or features == 1
    weight = np.zeros((ROW_TILE, wide))
    pulled = np.zeros((ROW_TILE, wide))
    gram_tile = np.empty((size, wide))
    product_tile = np.empty((p, wide))
    unused = np.zeros(wide)
    for start in range(0, features, wide):
        width = min(wide, features - start)
        for m in range(size):
            gram_tile[m, :width] = gram[m, start : start + width]
        for j in range(p):
            product_tile[j, :width] = products[j, start : start + width]
        centre = pilot[start : start + width]
        own_squares = squares[start : start + width]
        own_weight = weight_sum[start : start + width]
        own_total = total[start : start + width]
        own_used = n_used[start : start + width]
        own_values = n_values[start : start + width]
        for first in range(0, rows, ROW_TILE):
            count = min(ROW_TILE, rows - first)
            for r in range(count):
                source = values[first + r, start : start + width]
                w_row = weight[r]
                y_row = pulled[r]
                given = weights[first + r, 0]
                cells = weights[first + r, start : start + width] if per_cell else weights[first + r]
                for f in range(width):
                    w = cells[f] if per_cell else given
                    y = source[f] - centre[f]
                    there = abs(y) < np.inf
                    used = there and w > 0.0 and w < np.inf
                    y = y if there else 0.0
                    w = w if used else 0.0
                    w_row[f] = w
                    y_row[f] = w * y
                    own_squares[f] = fused(w * y, y, own_squares[f])
                    own_weight[f] += w
                    own_total[f] += y
                    own_used[f] += 1 if used else 0
                    own_values[f] += 1 if there else 0
            unused[:] = 0.0
            add_products(packed, first, count, weight, width, gram_tile, unused)
            add_products(q, first, count, pulled, width, product_tile, unused)
        for m in range(size):
            gram[m, start : start + width] = gram_tile[m, :width]
        for j in range(p):
            products[j, start : start + width] = product_tile[j, :width]
