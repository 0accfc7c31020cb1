"""`fit` and `apply` on xarray: the same chains as the job's, in a notebook."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.normalise.chain import Chain, fit_chain
from sjd_dask.normalise.method import Block, Method
from sjd_dask.normalise.methods import make_method
from sjd_dask.normalise.reference import MemoryReference

Step = str | dict[str, Any] | Method
# Decoded values that an apply holds at a time.
BLOCK_BYTES = 64 << 20


def fit(
    data: xr.DataArray,
    steps: Sequence[Step],
    *,
    samples: pd.DataFrame | None = None,
    features: pd.DataFrame | None = None,
    reference_samples: Sequence[str] | None = None,
    quantity: str | None = None,
) -> xr.Dataset:
    """Fit a chain of steps on a reference set and freeze it.

    Parameters
    ----------
    data : DataArray, dims (samples, features)
        With coordinates ``sample_id`` and ``feature_id``. The reference samples are loaded: for sets that don't fit in
        memory there is ``job: normalise``.
    steps : sequence of str, dict or Method
        ``["tmm", {"method": "log_cpm", "prior_count": 2}]``.
    samples, features : DataFrame, optional
        Sample and feature columns, index their ids.
    reference_samples : sequence of str, optional
        The declared reference set; default all samples of `data`.
    quantity : str, optional
        What the values are (see `sjd_dask.names.QUANTITIES`); default the name of `data`.

    Returns
    -------
    xarray.Dataset
        The parameters of all steps, with provenance in its attributes: steps with options and versions, reference
        samples, and a hash.

    Raises
    ------
    SpecError
        Unknown method or option, a sample column that isn't there, or a quantity that the first step doesn't take.
    DataError
        Samples that aren't in `data`, or values that a method refuses: named.
    """
    data, scale = _checked(data, quantity)
    ids = [str(one) for one in data[names.SAMPLE_ID].values]
    chosen = ids if reference_samples is None else [str(one) for one in reference_samples]
    absent = [one for one in chosen if one not in set(ids)]
    if absent:
        raise DataError(
            f"{len(absent)} reference samples are not in the data: {', '.join(map(repr, absent[:5]))}"
            f"{', ...' if len(absent) > 5 else ''}"
        )
    place = {one: i for i, one in enumerate(ids)}
    values = data.isel({names.SAMPLES: [place[one] for one in chosen]}).to_numpy()
    reference = MemoryReference(values, chosen, data[names.FEATURE_ID].values, samples, features, scale=scale)
    methods = [one if isinstance(one, Method) else make_method(one) for one in steps]
    return fit_chain(methods, reference).to_dataset()


def apply(
    data: xr.DataArray,
    parameters: xr.Dataset,
    *,
    samples: pd.DataFrame | None = None,
    quantity: str | None = None,
) -> xr.DataArray:
    """Normalise samples with frozen parameters, one by one: a sample's values don't depend on its company.

    Parameters
    ----------
    data : DataArray, dims (samples, features), NumPy or Dask
        Features in any order, matched by id. A Dask array stays lazy; its features must be one chunk, since a method
        sees whole samples (nothing is rechunked silently).
    parameters : Dataset
        From `fit`, or ``cohort.layer(...)`` by way of `Chain.to_dataset`.
    samples : DataFrame, optional
        Sample columns that the steps need, index sample ids.
    quantity : str, optional
        What the values are; default the name of `data`.

    Returns
    -------
    DataArray, dims (samples, features)
        float64. Samples that can't be normalised now (such as those of a batch without parameters) are NaN.

    Raises
    ------
    DataError
        Other features than the parameters'.
    SpecError
        Another quantity than the parameters', a missing sample column, or features in several chunks.
    """
    chain = Chain.from_dataset(parameters)
    data, scale = _checked(data, quantity)
    if scale != chain.source_scale:
        raise SpecError(f"the parameters ({chain.text}) are for {chain.source_scale}, and the data are {scale}")
    order = chain.check_features(np.asarray(data[names.FEATURE_ID].values, dtype=object))
    ids = np.array([str(one) for one in data[names.SAMPLE_ID].values], dtype=object)
    sheet = pd.DataFrame(index=pd.Index(ids)) if samples is None else samples.reindex(list(ids))
    absent = [name for name in chain.columns if name not in sheet.columns]
    if absent:
        raise SpecError(f"the parameters ({chain.text}) need the sample column {', '.join(map(repr, absent))}")
    work = _Work(chain, order, sheet)
    if data.chunks is None:
        values: Any = work(data.to_numpy(), 0)
    else:
        import dask.array as da

        if data.data.numblocks[1] > 1:
            raise SpecError(
                f"the features are in {data.data.numblocks[1]} chunks, and these methods see whole samples: "
                f'rechunk with .chunk({{"{names.FEATURES}": -1}})'
            )
        starts = np.cumsum([0, *data.chunks[0]])
        values = da.map_blocks(
            _apply_chunk,
            data.data,
            work=work,
            starts=starts,
            dtype=np.float64,
            chunks=(data.chunks[0], (len(chain.out_feature_ids),)),
            meta=np.empty((0, 0)),
        )
    return xr.DataArray(
        values,
        dims=(names.SAMPLES, names.FEATURES),
        coords={
            names.SAMPLE_ID: (names.SAMPLES, ids),
            names.FEATURE_ID: (names.FEATURES, chain.out_feature_ids),
        },
        name=chain.scale,
        attrs={"parameters": chain.hash(), "steps": chain.text},
    )


class _Work:
    """A chain with the sheet of the samples that it is applied to."""

    def __init__(self, chain: Chain, order: NDArray[np.int64] | None, sheet: pd.DataFrame) -> None:
        self.chain, self.order, self.sheet = chain, order, sheet
        self.annotation = pd.DataFrame(index=pd.Index(chain.feature_ids))

    def __call__(self, raw: NDArray[Any], start: int) -> NDArray[np.float64]:
        chain = self.chain
        out = np.empty((len(raw), len(chain.out_feature_ids)))
        step = max(1, BLOCK_BYTES // (8 * max(1, raw.shape[1])))
        for at in range(0, len(raw), step):
            values = np.asarray(raw[at : at + step], dtype=np.float64)
            if self.order is not None:
                values = values[:, self.order]
            sheet = self.sheet.iloc[start + at : start + at + len(values)]
            block = Block(
                np.ascontiguousarray(values), tuple(map(str, sheet.index)), chain.feature_ids, self.annotation, sheet,
                chain.source_scale,
            )  # fmt: skip
            done = chain.apply(block)
            out[at : at + step] = np.where((done.pending == "")[:, None], done.values, np.nan)
        return out


def _apply_chunk(
    raw: NDArray[Any], work: _Work, starts: NDArray[np.int64], block_info: Any = None
) -> NDArray[np.float64]:
    if raw.size == 0 or not block_info:
        return np.empty((0, len(work.chain.out_feature_ids)))
    return work(raw, int(starts[block_info[0]["chunk-location"][0]]))


def _checked(data: xr.DataArray, quantity: str | None) -> tuple[xr.DataArray, str]:
    if not isinstance(data, xr.DataArray) or set(data.dims) != {names.SAMPLES, names.FEATURES}:
        raise SpecError(f"a DataArray with dims ({names.SAMPLES}, {names.FEATURES}) is needed")
    for coordinate in (names.SAMPLE_ID, names.FEATURE_ID):
        if coordinate not in data.coords:
            raise SpecError(f"the data need the coordinate {coordinate!r}: everything is aligned by id")
    scale = quantity or str(data.name)
    if scale not in names.QUANTITIES:
        raise SpecError(f"say what the values are: quantity= one of {', '.join(names.QUANTITIES)} (found {scale!r})")
    return data.transpose(names.SAMPLES, names.FEATURES), scale
