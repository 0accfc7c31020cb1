"""What the steps on counts share: which counts are refused, and library sizes and factors in a block's context."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.normalise.method import Arrays, Block, Partial, Reference

Floats = NDArray[np.float64]
COUNTS = frozenset({"counts"})
LIBRARY_SIZE = "library_size"
NORM_FACTOR = "norm_factor"
EFFECTIVE = "effective_library_size"
SIZE_FACTOR = "size_factor"
_SINGULAR = {"have": "has", "share": "shares"}


def active(block: Block) -> NDArray[np.intp]:
    """Rows of the samples that are not pending."""
    return np.flatnonzero(block.pending == "")


def counts_of(block: Block, rows: NDArray[np.intp], method: str) -> Floats:
    """Counts of some rows, not copied when they are all of them.

    Raises
    ------
    DataError
        A count is missing, infinite or negative: sample and feature are named. Fractions pass (estimated counts).
    """
    values = block.values if rows.size == block.n_samples else block.values[rows]
    # NaN makes the first comparison false.
    if values.size and not (values.min() >= 0 and values.max() < math.inf):
        bad = ~((values >= 0) & (values < math.inf))
        row, column = (int(i) for i in np.argwhere(bad)[0])
        value = values[row, column]
        what = "a missing count" if math.isnan(value) else f"the count {value:g}"
        raise DataError(
            f"step `{method}` needs counts from 0 up, and sample {block.sample_ids[rows[row]]!r} has {what} at feature "
            f"{str(block.feature_ids[column])!r} ({int(bad.sum()):,} such values in these {rows.size} samples): "
            "correct the matrix, or take these samples or features out; values on a log scale need no step on counts"
        )
    return values


def libraries(block: Block, rows: NDArray[np.intp], counts: Floats, method: str) -> tuple[Floats, Floats]:
    """Library sizes and norm factors of some rows: from the steps before, or the row sums and 1.

    Raises
    ------
    DataError
        A library size is not above 0: the samples are named.
    """
    known = block.context.get(LIBRARY_SIZE)
    size = counts.sum(axis=1) if known is None else np.asarray(known, dtype=np.float64)[rows]
    factor = block.context.get(NORM_FACTOR)
    factors = np.ones(rows.size) if factor is None else np.asarray(factor, dtype=np.float64)[rows]
    empty = np.flatnonzero(~(size > 0))
    if empty.size:
        refuse_samples(
            [block.sample_ids[rows[i]] for i in empty],
            method,
            f"have no counts at all on the {block.n_features:,} features here, so their library size is 0",
            "they were not sequenced or came from another matrix: leave them out, or check the features kept",
        )
    return size, factors


def refuse_samples(sample_ids: list[str], method: str, why: str, remedy: str) -> None:
    """Refuse samples by name.

    Raises
    ------
    DataError
        Always.
    """
    shown = ", ".join(repr(str(one)) for one in sample_ids[:5]) + (", ..." if len(sample_ids) > 5 else "")
    count = f"{len(sample_ids):,} samples"
    if len(sample_ids) == 1:
        verb, rest = why.split(" ", 1)
        count, why = "1 sample", f"{_SINGULAR.get(verb, verb)} {rest}"
    raise DataError(f"step `{method}`: {count} {why}: {shown}. {remedy[0].upper()}{remedy[1:]}.")


def spread(block: Block, rows: NDArray[np.intp], values: Floats) -> Floats:
    """Per-sample numbers of some rows in an array of the whole block, NaN elsewhere."""
    out = np.full(block.n_samples, np.nan)
    out[rows] = values
    return out


def with_libraries(block: Block, rows: NDArray[np.intp], size: Floats, factor: Floats, **more: Floats) -> Block:
    """The block with library sizes, norm factors, their product, and other per-sample numbers in its context."""
    context = {LIBRARY_SIZE: size, NORM_FACTOR: factor, EFFECTIVE: size * factor, **more}
    return block.with_(context={name: spread(block, rows, value) for name, value in context.items()})


def with_rows(block: Block, rows: NDArray[np.intp], values: Floats) -> Floats:
    """Values of some rows in an array of the whole block, NaN elsewhere."""
    if rows.size == block.n_samples:
        return values
    out = np.full((block.n_samples, values.shape[1]), np.nan)
    out[rows] = values
    return out


def require_space(block: Block, n_features: int, method: str) -> None:
    """Refuse parameters of another feature space.

    Raises
    ------
    DataError
    """
    if block.n_features != n_features:
        raise DataError(
            f"step `{method}` was fitted on {n_features:,} features and is given {block.n_features:,}: use parameters "
            "fitted on this feature space, or reconcile the features first"
        )


def reference_libraries(reference: Reference, method: str) -> tuple[Floats, Floats]:
    """Library sizes and norm factors of the reference samples; a pass over the data only if no step before knows them.

    Raises
    ------
    DataError
        See `counts_of` and `libraries`.
    """
    if LIBRARY_SIZE in reference.context:
        size = np.asarray(reference.context[LIBRARY_SIZE], dtype=np.float64)
        factor = np.asarray(reference.context.get(NORM_FACTOR, np.ones(len(size))), dtype=np.float64)
        return size, factor
    rows = reference.by_samples(libraries_pass, method).rows
    return rows[LIBRARY_SIZE], rows[NORM_FACTOR]


def libraries_pass(block: Block, method: str) -> Partial:
    """Map function: library sizes and norm factors."""
    rows = active(block)
    size, factor = libraries(block, rows, counts_of(block, rows, method), method)
    return Partial(rows={LIBRARY_SIZE: size, NORM_FACTOR: factor})


def number(parameters: Mapping[str, NDArray[Any]], name: str) -> float:
    """A parameter that is one number."""
    return float(np.asarray(parameters[name]).reshape(()))


def scalars(**values: float) -> Arrays:
    """Numbers as parameter arrays without dimensions."""
    return {name: np.array(value, dtype=np.float64) for name, value in values.items()}
