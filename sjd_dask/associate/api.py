"""`associate`: per-feature tests of an xarray matrix, lazy where the matrix is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.associate import model as models
from sjd_dask.associate import weights as weighing
from sjd_dask.associate.results import summarise
from sjd_dask.designs import design as designs
from sjd_dask.errors import DataError, PlanRefused, SpecError
from sjd_dask.kernels import linear, multiplicity
from sjd_dask.kernels.correlation import consensus_correlation

Test = Literal["linear", "wilcoxon", "kruskal", "welch"]
Contrasts = Sequence[str] | Mapping[str, Mapping[str, float]]

# Features that a NumPy matrix is worked through at a time, so that memory does not grow with it.
STRIPE = 16384
ROWS = 256
# Bytes of decoded values held at a time where a test needs whole columns.
COLUMN_BYTES = 32 << 20

_PER_CONTRAST = {
    names.FEATURE_EFFECT: "effect",
    names.FEATURE_STANDARD_ERROR: "standard_error",
    names.FEATURE_T_STATISTIC: "statistic",
    names.FEATURE_P_VALUE: "p_value",
    names.FEATURE_Q_VALUE: "q_value",
    names.FEATURE_LOG_ODDS: "log_odds",
}
_PER_FEATURE = {
    names.FEATURE_DF: "df",
    names.FEATURE_MEAN: "mean",
    names.FEATURE_SIGMA: "sigma",
    names.FEATURE_N_SAMPLES: "n_samples",
}
_OVERALL = {
    names.FEATURE_F_STATISTIC: "f_statistic",
    names.FEATURE_F_P_VALUE: "f_p_value",
    names.FEATURE_F_Q_VALUE: "f_q_value",
}


def associate(
    data: xr.DataArray,
    *,
    design: str,
    samples: pd.DataFrame | None = None,
    contrasts: Contrasts | None = None,
    moderation: Literal["ebayes", "none"] = "ebayes",
    trend: bool = False,
    robust: bool = False,
    block: str | None = None,
    test: Test = "linear",
    na_contrasts: linear.NaContrasts = "exact",
    precision: linear.Precision = "double",
    quantity: str | None = None,
    weights: xr.DataArray | pd.Series[Any] | None = None,
) -> xr.Dataset:
    """Test every feature of a matrix for association with columns of the samples.

    Parameters
    ----------
    data : DataArray, dims (samples, features), NumPy or Dask
        With coordinates ``sample_id`` and ``feature_id`` (or an index on these dimensions). Dask arrays stay lazy:
        samples stream through each chunk of features, which is never rechunked.
    design : str
        Formula over sample columns, as ``~ disease + age``; see `design.build_design`.
    samples : DataFrame, optional
        Sample columns, matched by id: its index, or a column ``sample_id``. Default: coordinates of `data` along
        samples.
    contrasts : list of coefficient names, or {name: {coefficient: weight}}, optional
        Default: every coefficient but the intercept.
    moderation : {'ebayes', 'none'}
        Variances shrunk towards a common prior (Smyth 2004), or ordinary t.
    trend, robust : bool
        The prior follows the mean; the prior withstands outlying variances. As limma's eBayes.
    block : str, optional
        A sample column that names the person of repeated measures: one within-block correlation for all features is
        estimated and allowed for, as limma's duplicateCorrelation.
    test : {'linear', 'wilcoxon', 'kruskal', 'welch'}
        The last three compare the groups of the one factor of the design, and need whole columns: one chunk along
        samples.
    na_contrasts : {'exact', 'limma'}
        See `kernels.linear.contrast_fit`.
    precision : {'double', 'single'}
        'single' multiplies in float32 and sums in float64.
    quantity : str, optional
        ``m_value`` to test beta values (an array named ``beta``) as M-values.
    weights : Series or DataArray, optional
        Of the linear model: a Series by sample id, or a DataArray (samples,) or (samples, features) with ids; beside a
        Dask matrix, Dask weights of cells need its chunks. Weights that are zero, negative or not finite leave a
        sample or cell out, as in limma.

    Returns
    -------
    Dataset, dims (contrasts, features)
        ``feature_effect``, ``feature_standard_error``, ``feature_t_statistic`` (or the statistic of the test),
        ``feature_p_value``, ``feature_q_value`` (Benjamini-Hochberg within contrast), ``feature_log_odds`` and
        ``genomic_inflation`` per contrast; ``feature_degrees_of_freedom``, ``feature_mean``, ``feature_sigma``,
        ``feature_n_samples`` per feature; with several contrasts ``feature_f_statistic``, ``feature_f_p_value``,
        ``feature_f_q_value``. Attributes say what was left out and why.

    Notes
    -----
    Missing rule: samples without a value in a column of the design are left out; a missing cell is left out of its
    feature's model, exactly; a test that can't be made is NaN.

    Raises
    ------
    SpecError, DesignError
        An option, formula or contrast that can't be used.
    DataError
        Sample ids that don't match, or are not unique.
    PlanRefused
        Whole columns are needed and the data are chunked along samples.
    """
    _check_options(test, moderation, na_contrasts, precision, contrasts, block)
    if weights is not None and (test != "linear" or block is not None or precision != "double"):
        raise SpecError("`weights` belong to test='linear' with precision='double', without `block`")
    array, sheet, feature_ids = _aligned(data, samples)
    given = weighing.Weights()
    if weights is not None:
        given = weighing.aligned_weights(weights, sheet.index, data.transpose(names.SAMPLES, names.FEATURES))
        if given.cells is not None and not isinstance(given.cells, np.ndarray) and isinstance(array, np.ndarray):
            raise PlanRefused("Dask weights beside a NumPy matrix: say weights.compute(), or data.chunk(...)")
    to_m_values = _to_m_values(data, quantity)
    plan = designs.build_design(design, sheet)
    rows = np.flatnonzero(sheet.index.isin(plan.sample_ids))
    used = sheet.iloc[rows]
    attributes = {
        "design": design,
        "test": test,
        "n_samples": len(used),
        "samples_left_out": [f"{reason}: {count}" for reason, count in plan.dropped.items()],
        "warnings": list(plan.warnings),
    }
    if test == "linear":
        matrix, labels = designs.contrast_matrix(plan, contrasts)
        designs.check_design(plan)
        model = models.LinearModel(
            linear.linear_design(plan.matrix), matrix, na_contrasts, precision, to_m_values, _blocks(block, used),
            sample_weights=None if given.samples is None else given.samples[rows],
        )  # fmt: skip
        options = {"moderated": moderation == "ebayes", "trend": trend, "robust": robust}
        reduce = partial(_linear_variables, labels=tuple(labels), options=options)
        attributes |= {"moderation": moderation, "trend": int(trend), "robust": int(robust), "precision": precision}
        variables = _run(array, rows, model, reduce, _linear_shapes(len(labels)), len(labels), given.cells)
    else:
        factor, codes, levels = designs.single_factor(plan, used)
        if test == "wilcoxon" and len(levels) != 2:
            raise SpecError(
                f"test='wilcoxon' compares two groups, and {factor} has {len(levels)}: {', '.join(levels)}; "
                "use 'kruskal'"
            )
        labels = [f"{factor}[T.{levels[1]}]" if len(levels) == 2 else factor]
        groups = models.GroupModel(test, codes, len(levels), to_m_values)
        variables = _run(array, rows, groups, _group_variables, _group_shapes(), 1)
    dims = _linear_shapes(len(labels)) if test == "linear" else _group_shapes()
    return xr.Dataset(
        {name: (dims[name][0], values) for name, values in variables.items()},
        coords={
            names.CONTRAST: (names.CONTRASTS, np.array(labels, dtype=object)),
            names.FEATURE_ID: (names.FEATURES, feature_ids),
        },
        attrs=attributes,
    )


def _check_options(
    test: str, moderation: str, na_contrasts: str, precision: str, contrasts: Contrasts | None, block: str | None
) -> None:
    for name, value, known in (
        ("test", test, ("linear", "wilcoxon", "kruskal", "welch")),
        ("moderation", moderation, ("ebayes", "none")),
        ("na_contrasts", na_contrasts, ("exact", "limma")),
        ("precision", precision, ("double", "single")),
    ):
        if value not in known:
            raise SpecError(f"{name} is one of {', '.join(known)}; not {value!r}")
    if test != "linear" and (contrasts is not None or block is not None):
        raise SpecError(
            f"test={test!r} compares the groups of one factor; `contrasts` and `block` belong to test='linear'"
        )


def _aligned(data: xr.DataArray, samples: pd.DataFrame | None) -> tuple[Any, pd.DataFrame, NDArray[Any]]:
    """The array, its sample columns row by row, and its feature ids."""
    if not isinstance(data, xr.DataArray) or set(data.dims) != {names.SAMPLES, names.FEATURES}:
        found = data.dims if isinstance(data, xr.DataArray) else type(data).__name__
        raise SpecError(f"data is a DataArray with dims ({names.SAMPLES}, {names.FEATURES}); this one is {found}")
    if data.dtype.kind not in "buif":
        raise SpecError(f"data holds {data.dtype}; numbers are needed")
    data = data.transpose(names.SAMPLES, names.FEATURES)
    sample_ids = _ids(data, names.SAMPLES, names.SAMPLE_ID)
    feature_ids = _ids(data, names.FEATURES, names.FEATURE_ID)
    if sample_ids is None:
        raise SpecError(
            f"data has no sample ids, and samples are never matched by position: "
            f'data.assign_coords({names.SAMPLE_ID}=("{names.SAMPLES}", ids))'
        )
    index = pd.Index([str(i) for i in sample_ids], name=names.SAMPLE_ID)
    _unique(index, "data")
    if samples is None:
        along = {str(n): c.to_numpy() for n, c in data.coords.items() if c.dims == (names.SAMPLES,)}
        sheet = pd.DataFrame(along, index=index).drop(columns=[names.SAMPLE_ID, names.SAMPLES], errors="ignore")
    else:
        sheet = samples.set_index(names.SAMPLE_ID) if names.SAMPLE_ID in samples.columns else samples
        sheet = sheet.set_axis(pd.Index([str(i) for i in sheet.index], name=names.SAMPLE_ID))
        missing = index[~index.isin(sheet.index)]
        if len(missing):
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise DataError(
                f"{len(missing)} of {len(index)} samples of the data are not in the sample sheet: {shown}; add them, "
                "or select the samples of the data first"
            )
        _unique(sheet.index[sheet.index.isin(index)], "the sample sheet")
        sheet = sheet.loc[index].infer_objects()
    ids = np.arange(data.sizes[names.FEATURES]).astype(str).astype(object) if feature_ids is None else feature_ids
    return data.data, sheet, ids


def _ids(data: xr.DataArray, dim: str, name: str) -> NDArray[Any] | None:
    for coordinate in (name, dim):
        if coordinate in data.coords and data.coords[coordinate].dims == (dim,):
            return np.asarray(data.coords[coordinate].to_numpy(), dtype=object)
    return None


def _unique(index: pd.Index[Any], where: str) -> None:
    repeated = index[index.duplicated()].unique()
    if len(repeated):
        raise DataError(
            f"{len(repeated)} sample ids stand more than once in {where}: {', '.join(map(str, repeated[:5]))}"
        )


def _to_m_values(data: xr.DataArray, quantity: str | None) -> bool:
    held = data.attrs.get("quantity", data.name)
    if quantity is None or quantity == held:
        return False
    if quantity == names.M_VALUE and held == names.BETA:
        return True
    raise SpecError(
        f"quantity={quantity!r} can't be made of an array of {held!r}; only {names.M_VALUE!r} of {names.BETA!r} "
        f"(data.rename({names.BETA!r}) says that it holds betas)"
    )


def _blocks(column: str | None, used: pd.DataFrame) -> NDArray[np.int64] | None:
    if column is None:
        return None
    if column not in used.columns:
        raise SpecError(f"block={column!r} is not a sample column; there are: {', '.join(map(str, used.columns[:20]))}")
    absent = used.index[used[column].isna()]
    if len(absent):
        raise DataError(f"block={column!r} has no value for {len(absent)} samples, {', '.join(absent[:5])} among them")
    return np.asarray(pd.factorize(used[column])[0], dtype=np.int64)


def _run(
    array: Any, rows: NDArray[np.int64], model: Any, reduce: Any, shapes: Any, k: int, cells: Any = None
) -> dict[str, Any]:
    if isinstance(array, np.ndarray):
        return dict(reduce(list(_stripes(array, rows, model, cells))))
    from sjd_dask.associate import graph

    if isinstance(model, models.LinearModel):
        return graph.reduce_stripes(graph.linear_stripes(array, rows, model, cells), reduce, array.chunks[1], shapes, k)
    return graph.reduce_stripes(graph.group_stripes(array, rows, model), reduce, array.chunks[1], shapes, k)


def _stripes(
    array: NDArray[Any], rows: NDArray[np.int64], model: models.LinearModel | models.GroupModel, cells: Any = None
) -> Any:
    """Fits of a NumPy matrix, a stripe of features at a time."""
    streamed = isinstance(model, models.LinearModel) and model.blocks is None
    width = STRIPE if streamed else max(1, min(STRIPE, COLUMN_BYTES // max(1, 8 * rows.size)))
    edges = range(0, max(1, array.shape[1]), width)
    pick = slice(None) if rows.size == array.shape[0] else rows
    if isinstance(model, models.GroupModel):
        for start in edges:
            yield models.compare_groups(model, array[:, start : start + width][pick])
        return
    rho = None
    if model.blocks is not None:
        parts = [models.block_correlations(model, array[:, start : start + width][pick]) for start in edges]
        rho = consensus_correlation(np.concatenate(parts))
    complete = weighing.takes_weighted_design(model) and all(
        bool(np.isfinite(model.values(array[part, start : start + width])).all())
        for start in edges
        for part in _row_parts(pick, rows)
    )
    for start in edges:
        stripe = array[:, start : start + width]
        if rho is not None:
            yield models.fit_blocks(model, stripe[pick], rho)
            continue
        if cells is not None or model.sample_weights is not None:
            own = None if cells is None else cells[:, start : start + width]
            yield _weighted_stripe(model, stripe, own, pick, rows, complete)
            continue
        stream = models.new_stream(model, stripe.shape[1])
        for part in _row_parts(pick, rows):
            stream = stream.step(model, stripe[part])
        yield models.finish_stream(model, stream, partial(_columns, stripe, pick))


def _row_parts(pick: Any, rows: NDArray[np.int64]) -> Iterator[Any]:
    """What picks the samples used, a block of them at a time."""
    for first in range(0, rows.size, ROWS):
        yield slice(first, first + ROWS) if isinstance(pick, slice) else rows[first : first + ROWS]


def _weighted_stripe(
    model: models.LinearModel, stripe: Any, cells: Any, pick: Any, rows: NDArray[np.int64], complete: bool
) -> Any:
    stream = weighing.new_weighted_stream(model, stripe.shape[1])
    for part in _row_parts(pick, rows):
        stream = stream.step(model, stripe[part], None if cells is None else cells[part])
    own = None if cells is None else partial(_columns, cells, pick)
    return weighing.finish_weighted_stream(model, stream, partial(_columns, stripe, pick), own, complete)


def _columns(stripe: NDArray[Any], pick: Any, features: NDArray[np.int64]) -> NDArray[Any]:
    picked: NDArray[Any] = stripe[:, features][pick]
    return picked


def _linear_shapes(k: int) -> dict[str, tuple[tuple[str, ...], Any]]:
    both, one = (names.CONTRASTS, names.FEATURES), (names.FEATURES,)
    shapes: dict[str, tuple[tuple[str, ...], Any]] = {name: (both, np.dtype(np.float64)) for name in _PER_CONTRAST}
    shapes |= {name: (one, np.dtype(np.float64)) for name in _PER_FEATURE}
    shapes[names.FEATURE_N_SAMPLES] = (one, np.dtype(np.int64))
    if k > 1:
        shapes |= {name: (one, np.dtype(np.float64)) for name in _OVERALL}
    return shapes | {names.GENOMIC_INFLATION: ((names.CONTRASTS,), np.dtype(np.float64))}


def _group_shapes() -> dict[str, tuple[tuple[str, ...], Any]]:
    absent = (names.FEATURE_LOG_ODDS, names.FEATURE_SIGMA)
    return {name: shape for name, shape in _linear_shapes(1).items() if name not in absent}


def _linear_variables(stripes: list[Any], labels: tuple[str, ...], options: dict[str, bool]) -> dict[str, NDArray[Any]]:
    summary = summarise(labels, models.join_fits(stripes), **options)
    wanted = {**_PER_CONTRAST, **_PER_FEATURE, **(_OVERALL if len(labels) > 1 else {})}
    n_features = summary.effect.shape[1]
    found = {name: np.asarray(getattr(summary, attribute)) for name, attribute in wanted.items()}
    found[names.FEATURE_DF] = np.broadcast_to(found[names.FEATURE_DF], (n_features,)).copy()
    found[names.GENOMIC_INFLATION] = np.array([summary.lambdas[label] for label in labels])
    return found


def _group_variables(stripes: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    joined = {key: np.concatenate([stripe[key] for stripe in stripes]) for key in stripes[0]}
    joined["q_value"] = multiplicity.benjamini_hochberg(joined["p_value"])
    found = {name: joined[key][None, :] for name, key in _PER_CONTRAST.items() if key in joined}
    found |= {name: joined[key] for name, key in _PER_FEATURE.items() if key in joined}
    found[names.GENOMIC_INFLATION] = np.array([multiplicity.genomic_inflation(p=joined["p_value"])])
    return found
