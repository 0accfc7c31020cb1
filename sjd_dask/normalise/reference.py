"""A reference set held in memory: fits in a notebook and in tests go the same way as those of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.normalise.method import Arrays, Block, Method, Partial, Stripe


def total(partials: Iterable[Partial]) -> Partial:
    """Sums added, rows and columns concatenated, in the order of the calls."""
    sums: Arrays = {}
    rows: dict[str, list[NDArray[Any]]] = {}
    columns: dict[str, list[NDArray[Any]]] = {}
    for partial in partials:
        for name, value in partial.sums.items():
            if name in sums:
                sums[name] += value
            else:
                sums[name] = np.array(value)
        for name, value in partial.rows.items():
            rows.setdefault(name, []).append(value)
        for name, value in partial.columns.items():
            columns.setdefault(name, []).append(value)
    return Partial(
        sums,
        {name: np.concatenate(parts, axis=0) for name, parts in rows.items()},
        {name: np.concatenate(parts, axis=-1) for name, parts in columns.items()},
    )


class MemoryReference:
    """A reference set in memory.

    Parameters
    ----------
    values : ndarray, shape (n, p)
        One sample a row; NaN is missing.
    sample_ids, feature_ids : sequence of str
    samples : DataFrame, optional
        Sample columns, index sample ids (any order, more rows allowed).
    annotation : DataFrame, optional
        Feature columns, index feature ids.
    scale : str
        What the values are.
    context : dict, optional
        Per-sample arrays of steps before.
    block_rows, stripe : int
        Samples of a block, features of a stripe; results don't depend on them.
    """

    def __init__(
        self,
        values: NDArray[Any],
        sample_ids: Sequence[str],
        feature_ids: Sequence[str] | NDArray[Any],
        samples: pd.DataFrame | None = None,
        annotation: pd.DataFrame | None = None,
        *,
        scale: str = "expression",
        context: Arrays | None = None,
        block_rows: int = 64,
        stripe: int = 16_384,
    ) -> None:
        self.values = np.ascontiguousarray(values, dtype=np.float64)
        self.sample_ids = tuple(str(one) for one in sample_ids)
        self.feature_ids = np.array([str(one) for one in feature_ids], dtype=object)
        if self.values.shape != (len(self.sample_ids), len(self.feature_ids)):
            raise DataError(
                f"values have shape {self.values.shape}, and there are {len(self.sample_ids)} sample ids and "
                f"{len(self.feature_ids)} feature ids"
            )
        self.samples = (
            pd.DataFrame(index=pd.Index(self.sample_ids, name="sample_id"))
            if samples is None
            else samples.reindex(list(self.sample_ids))
        )
        self.annotation = (
            pd.DataFrame(index=pd.Index(self.feature_ids, name="feature_id"))
            if annotation is None
            else annotation.reindex(list(self.feature_ids))
        )
        self.scale = scale
        self.context = dict(context or {})
        self.block_rows, self.stripe = block_rows, stripe

    @property
    def n_features(self) -> int:
        """Features at this step."""
        return len(self.feature_ids)

    def block(self, rows: slice | NDArray[Any] = slice(None)) -> Block:
        """Some of the samples as a block."""
        index = np.arange(len(self.sample_ids))[rows]
        return Block(
            np.ascontiguousarray(self.values[index]),
            tuple(self.sample_ids[i] for i in index),
            self.feature_ids,
            self.annotation,
            self.samples.iloc[index],
            self.scale,
            {name: value[index] for name, value in self.context.items()},
        )

    def by_samples(self, function: Callable[[Block, Any], Partial], common: Any = None) -> Partial:
        """See `Reference`."""
        n = len(self.sample_ids)
        return total(
            function(self.block(slice(i, min(n, i + self.block_rows))), common) for i in range(0, n, self.block_rows)
        )

    def by_features(self, function: Callable[[Stripe, Any], Partial], common: Any = None) -> Partial:
        """See `Reference`."""
        return total(
            function(
                Stripe(
                    np.ascontiguousarray(self.values[:, i : i + self.stripe]),
                    i,
                    self.feature_ids[i : i + self.stripe],
                    self.annotation.iloc[i : i + self.stripe],
                ),
                common,
            )
            for i in range(0, self.n_features, self.stripe)
        )

    def by_range(self, function: Callable[[int, int, Any], Partial], common: Any, n: int) -> Partial:
        """See `Reference`."""
        return total(function(i, min(n, i + self.stripe), common) for i in range(0, n, self.stripe))

    def after(self, method: Method, parameters: Arrays) -> MemoryReference:
        """The reference as the next step sees it.

        Raises
        ------
        DataError
            The step can't normalise some of its own reference samples.
        """
        done = method.apply(self.block(), parameters)
        refuse_pending(done, method)
        return MemoryReference(
            done.values,
            done.sample_ids,
            done.feature_ids,
            done.samples,
            done.annotation,
            scale=done.scale,
            context=done.context,
            block_rows=self.block_rows,
            stripe=self.stripe,
        )


def refuse_pending(block: Block, method: Method) -> None:
    """Reference samples must all pass a step that was fitted on them.

    Raises
    ------
    DataError
        Naming samples and reasons.
    """
    held = np.flatnonzero(block.pending != "")
    if held.size:
        shown = ", ".join(f"{block.sample_ids[i]!r} ({block.pending[i]})" for i in held[:5])
        raise DataError(
            f"{held.size} reference samples can't pass step `{method.method}`: {shown}"
            f"{', ...' if held.size > 5 else ''}. Leave them out of the reference with `fit_on`."
        )
