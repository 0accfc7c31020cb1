"""A frozen chain for some features only: which source features they need, and the same values bit for bit.

A classifier looks at a few features, and most steps treat each feature by itself, so that only these have to be read.
A step that looks at a whole sample (a library size, a quantile) needs all the features that it was fitted on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.normalise.chain import Chain, scaled_counts
from sjd_dask.normalise.method import Arrays, Block, Method


@dataclass(frozen=True, eq=False)
class Restricted:
    """What a chain needs and does for some of its features.

    Attributes
    ----------
    feature_ids : ndarray of str objects, shape (q,)
        Features that `apply` gives, in the order asked for.
    source_ids : ndarray of str objects, shape (m,)
        Source features that these need, in the chain's order.
    source_index : ndarray of int64, shape (m,)
        Their places among the chain's source features.
    needs_all : bool
        A step looks at whole samples: none of `source_ids` may be absent. Else an absent one is a missing value.
    columns : tuple of str
        Sample columns that `apply` needs.
    source_scale, scale : str
        What the values are before and after.
    steps : tuple of (Method, dict of arrays, ndarray of int64 or None)
        With the parameters of the features at hand, and which features go on after the step (None: all).
    order : ndarray of int64, shape (q,)
        Where the features asked for stand after the last step.
    of : ndarray of int64, shape (q,)
        The source feature of each feature asked for, by its place in `source_ids`.
    """

    feature_ids: NDArray[Any]
    source_ids: NDArray[Any]
    source_index: NDArray[np.int64]
    needs_all: bool
    columns: tuple[str, ...]
    source_scale: str
    scale: str
    steps: tuple[tuple[Method, Arrays, NDArray[np.int64] | None], ...]
    order: NDArray[np.int64]
    of: NDArray[np.int64]

    def apply(
        self,
        values: NDArray[np.float64],
        sample_ids: tuple[str, ...],
        samples: pd.DataFrame,
        pending: NDArray[Any] | None = None,
    ) -> Block:
        """Values of the features asked for.

        Parameters
        ----------
        values : ndarray of float64, shape (n, m)
            Values of `source_ids`; NaN is missing.
        sample_ids : tuple of str
        samples : DataFrame
            Sample columns, n rows in the same order; only `columns` are looked at.
        pending : ndarray of str objects, shape (n,), optional
            Why a sample gets no values; empty for the others.

        Returns
        -------
        Block
            (n, q); equal bit for bit to what the whole chain gives these features.

        Raises
        ------
        DataError
            What a step refuses.
        """
        block = Block(
            np.ascontiguousarray(values, dtype=np.float64),
            sample_ids,
            self.source_ids,
            pd.DataFrame(index=pd.RangeIndex(len(self.source_ids))),
            samples,
            self.source_scale,
        )
        if pending is not None:
            block = block.with_(pending=pending)
        for method, parameters, keep in self.steps:
            block = method.apply(block, parameters)
            if keep is not None:
                block = block.take_features(keep)
        block = scaled_counts(block)
        return block if self._in_order else block.take_features(self.order)

    @cached_property
    def _in_order(self) -> bool:
        return bool(np.array_equal(self.order, np.arange(len(self.order))))


def restrict(chain: Chain | None, feature_ids: NDArray[Any], scale: str | None = None) -> Restricted:
    """A chain for some of the features that it gives.

    Parameters
    ----------
    chain : Chain or None
        None: the values are taken as they are.
    feature_ids : ndarray of str
        Features wanted, each once, in any order.
    scale : str, optional
        What the values are, where there is no chain.

    Raises
    ------
    DataError
        The chain doesn't give one of these features.
    SpecError
        No chain and no scale.
    """
    wanted = np.array([str(one) for one in feature_ids], dtype=object)
    if chain is None:
        if scale is None:
            raise SpecError("without a chain it must be said what the values are")
        own = np.arange(len(wanted), dtype=np.int64)
        return Restricted(wanted, wanted, own, False, (), scale, scale, (), own, own)
    place = pd.Index(chain.out_feature_ids.astype(object)).get_indexer(pd.Index(wanted, dtype=object))
    if (place < 0).any():
        absent = wanted[place < 0]
        raise DataError(
            f"{len(absent):,} of {len(wanted):,} features are not among those that the chain ({chain.text}) gives, the "
            f"first {str(absent[0])!r}: model and chain don't belong together"
        )
    spaces = _spaces(chain)
    need = np.unique(place).astype(np.int64)
    order, trace = np.searchsorted(need, place), place.astype(np.int64)
    steps: list[tuple[Method, Arrays, NDArray[np.int64] | None]] = []
    for (method, parameters), (n_in, kept, is_whole) in reversed(list(zip(chain.steps, spaces, strict=True))):
        trace = kept[trace]
        if is_whole:
            steps.append((method, dict(parameters), need if len(need) < len(kept) else None))
            need = np.arange(n_in, dtype=np.int64)
        else:
            steps.append((method, _narrow(method, parameters, kept[need], need), None))
            need = kept[need]
    return Restricted(
        feature_ids=wanted,
        source_ids=chain.feature_ids[need],
        source_index=need,
        needs_all=any(is_whole for *_, is_whole in spaces),
        columns=tuple(chain.columns),
        source_scale=chain.source_scale,
        scale=chain.scale,
        steps=tuple(reversed(steps)),
        order=order,
        of=np.searchsorted(need, trace),
    )


def _spaces(chain: Chain) -> list[tuple[int, NDArray[np.int64], bool]]:
    """Of each step: features that go in, which of them come out, and whether it looks at whole samples."""
    found, known, feature_ids = [], frozenset[str](), chain.feature_ids
    for method, parameters in chain.steps:
        n_in = len(feature_ids)
        mask = method.out_features(parameters, feature_ids)
        kept = np.arange(n_in, dtype=np.int64) if mask is None else np.flatnonzero(mask).astype(np.int64)
        found.append((n_in, kept, not method.is_pointwise(parameters, known)))
        known |= method.gives_context
        feature_ids = feature_ids[kept]
    return found


def _narrow(
    method: Method, parameters: Mapping[str, NDArray[Any]], inner: NDArray[np.int64], outer: NDArray[np.int64]
) -> Arrays:
    """Parameters of some features: `inner` of those before the step, which are `outer` of those after it."""
    found: Arrays = {}
    for name, value in parameters.items():
        array = np.asarray(value)
        if name not in method.dims and array.ndim:
            raise TypeError(f"step {method.method!r} doesn't say what the axes of its parameter {name!r} are")
        for axis, dim in enumerate(method.dims.get(name, ())):
            if dim in ("features", "features_in"):
                array = np.take(array, outer if dim == "features" else inner, axis=axis)
        found[name] = np.ascontiguousarray(array) if array.ndim else array
    return found
