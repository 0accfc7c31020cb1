"""Small data of every scale that a normalisation takes, with a chain or more for every registered method."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.normalise.chain import Chain, fit_chain
from sjd_dask.normalise.method import Block
from sjd_dask.normalise.methods import make_method
from sjd_dask.normalise.reference import MemoryReference

N, N_REFERENCE, P = 64, 40, 600
# Their samples take a hundredth of a second each: tests take fewer of them.
SLOW = frozenset(("mask_probes", "bmiq", "bmiq_own", "normexp", "normexp_mle"))
# Of a batch and a plate that the reference set doesn't have.
STRANGER = 47
SAMPLES = np.array([f"s{i:02d}" for i in range(N)])
FEATURES = np.array([f"cg{i:05d}" for i in range(P)])
QUANTITIES = ("counts", "beta", "m_value", "expression", "concentration", "proportion")

_BATCH = {"batch": "batch"}
# Name: what the values are, and the steps.
CHAINS: dict[str, tuple[str, list[Any]]] = {
    "library_size": ("counts", ["library_size"]),
    "tmm": ("counts", ["tmm"]),
    "tmmwsp": ("counts", ["tmmwsp"]),
    "rle": ("counts", ["rle"]),
    "poscounts": ("counts", [{"method": "rle", "type": "poscounts"}]),
    "upper_quartile": ("counts", ["upper_quartile"]),
    "filter_by_expr": ("counts", ["tmm", {"method": "filter_by_expr", "group": "disease"}, "tmm", "voom"]),
    "log_cpm": ("counts", ["tmm", "log_cpm"]),
    "log_cpm_combat": ("counts", ["tmm", "log_cpm", {"method": "combat", **_BATCH}]),
    "voom": ("counts", ["voom"]),
    "vst": ("counts", [{"method": "vst", "n_sub": 80}]),
    "vst_design": ("counts", [{"method": "vst", "n_sub": 80, "blind": False, "design": "~ disease"}]),
    "m_value": ("beta", ["m_value"]),
    "beta": ("m_value", ["beta"]),
    "mask_probes": (
        "beta",
        [{"method": "mask_probes", "column": "chromosome", "equals": ["X"], "missing_share": 0.2}, "bmiq", "m_value"],
    ),
    "bmiq": ("beta", ["bmiq"]),
    "bmiq_own": ("beta", [{"method": "bmiq", "target": "own"}]),
    "quantile": ("beta", ["quantile", "m_value"]),
    "quantile_noties": ("expression", [{"method": "quantile", "ties": "limma_noties"}]),
    "quantile_target": (
        "expression",
        [{"method": "quantile", "ties": "preprocesscore", "target_samples": ["s03", "s20"]}],
    ),
    "scale": ("concentration", ["scale"]),
    "scale_absolute": ("m_value", [{"method": "scale", "absolute": True}]),
    "normexp": ("concentration", [{"method": "normexp", "offset": 16}, {"method": "log", "offset": 1}]),
    "normexp_mle": ("concentration", [{"method": "normexp", "normexp_method": "mle"}]),
    "combat": ("expression", [{"method": "combat", **_BATCH}]),
    "combat_covariates": ("m_value", [{"method": "combat", "covariates": "~ disease + age", **_BATCH}]),
    "combat_nonparametric": ("expression", [{"method": "combat", "prior": "nonparametric", **_BATCH}]),
    "combat_reference": ("expression", [{"method": "combat", "mean_only": True, "reference_batch": "b1", **_BATCH}]),
    "remove_batch_effect": (
        "expression",
        [{"method": "remove_batch_effect", "covariates": ["age"], "design": "~ disease", **_BATCH}],
    ),
    "plate_centre": ("concentration", ["log", "plate_centre"]),
    "plate_centre_controls": ("expression", [{"method": "plate_centre", "centre": "mean", "controls": "bridge"}]),
    "limit_of_detection": ("concentration", [{"method": "limit_of_detection", "max_share": 0.5}, "log"]),
    "log": ("concentration", [{"method": "log", "offset": "half_minimum"}]),
    "arcsinh": ("concentration", ["arcsinh"]),
    "logit": ("proportion", ["logit"]),
    "logit_shrink": ("proportion", [{"method": "logit", "rule": "shrink"}]),
    "clr": ("proportion", ["clr"]),
    "clr_counts": ("counts", [{"method": "clr", "zero_replacement": 0.001}]),
    "standardise": ("expression", ["standardise"]),
    "standardise_robust": ("expression", ["quantile", {"method": "standardise", "robust": True}]),
}


def scene_values(scale: str, seed: int = 0) -> np.ndarray:
    """Samples x features; with ties, and missing values where the scale has them."""
    rng = np.random.default_rng([seed, QUANTITIES.index(scale)])
    effects = rng.normal(0, 0.4, (4, P))[np.arange(N) % 4]
    if scale == "counts":
        mean = np.exp(rng.normal(4, 1.5, P) + effects) * np.exp(rng.normal(0, 0.6, (N, 1)))
        size = 1 / (0.1 + 4 / mean)
        values = rng.negative_binomial(size, size / (size + mean)).astype(np.float64)
        values[:, 100:110] = values[:, 90:100]
        return values
    if scale in ("beta", "m_value"):
        state = rng.choice(3, P, p=[0.45, 0.15, 0.40])
        values = rng.beta(np.array([2.5, 4, 30])[state], np.array([40, 4, 3])[state], (N, P))
        two = np.arange(P) % 2 > 0
        values[:, two] = 0.05 + 0.85 * values[:, two]
        values = np.clip(np.round(values, 4), 1e-4, 1 - 1e-4)
        if scale == "m_value":
            values = np.log2(values / (1 - values)) + effects
    elif scale == "expression":
        values = np.round(6 + rng.gamma(2, 2, (N, P)) + rng.normal(0, 1, (N, 1)) + effects, 2)
    else:
        values = rng.normal(200, 20, (N, P)) + np.round(rng.exponential(500, (N, P)))
    if scale == "proportion":
        values[rng.random((N, P)) < 0.05] = 0.0
        return np.asarray(values / values.sum(axis=1, keepdims=True))
    values[rng.random((N, P)) < 0.02] = np.nan
    values[:, 5][rng.random(N) < 0.5] = np.nan
    return np.asarray(values)


def scene_sheet() -> pd.DataFrame:
    """Sample columns."""
    batch = np.array([f"b{i % 4}" for i in range(N)])
    plate = np.array([f"p{i % 3}" for i in range(N)])
    batch[STRANGER] = plate[STRANGER] = "unknown"
    return pd.DataFrame(
        {
            "batch": batch,
            "plate": plate,
            "disease": np.where(np.arange(N) // 4 % 2, "patient", "control"),
            "age": np.linspace(20, 80, N) % 31,
            "bridge": np.arange(N) % 9 < 6,
            "reference": np.where(np.arange(N) < N_REFERENCE, "yes", "no"),
        },
        index=pd.Index(SAMPLES.astype(object), name="sample_id"),
    )


def scene_annotation() -> pd.DataFrame:
    """Feature columns."""
    at = np.arange(P)
    return pd.DataFrame(
        {
            "probe_type": np.where(at % 2 > 0, "II", "I"),
            "chromosome": np.where(at < 40, "X", "1"),
            "lod": np.where(at % 5, 150.0 + at, np.nan),
        },
        index=pd.Index(FEATURES.astype(object), name="feature_id"),
    )


def scene(scale: str, seed: int = 0, n: int = N, **cut: Any) -> MemoryReference:
    """The first `n` samples in memory."""
    return MemoryReference(
        scene_values(scale, seed)[:n], SAMPLES[:n], FEATURES, scene_sheet(), scene_annotation(), scale=scale, **cut
    )


@functools.cache
def fitted(name: str, seed: int = 0) -> tuple[Chain, MemoryReference]:
    """A chain, fitted on the reference set, and everyone."""
    scale, steps = CHAINS[name]
    chain = fit_chain([make_method(step) for step in steps], scene(scale, seed, N_REFERENCE))
    return chain, scene(scale, seed)


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference over max(1, |value|); infinite where only one is missing."""
    found, wanted = np.asarray(found, np.float64), np.asarray(wanted, np.float64)
    if found.shape != wanted.shape or not np.array_equal(np.isnan(found), np.isnan(wanted)):
        return np.inf
    return float(np.nanmax(np.abs(found - wanted) / np.fmax(1, np.abs(wanted)), initial=0.0))


def block_difference(found: Block, whole: Block, rows: np.ndarray) -> float:
    """The same of some samples against these rows of everyone, with what the steps say of each sample.

    Samples without values now must be the same; what would be their values is nothing.
    """
    assert found.pending.tolist() == whole.pending[rows].tolist()
    assert found.feature_ids.tolist() == whole.feature_ids.tolist() and found.scale == whole.scale
    assert found.sample_ids == tuple(whole.sample_ids[i] for i in rows)
    here = found.pending == ""
    worst = difference(found.values[here], whole.values[rows][here])
    assert found.context.keys() == whole.context.keys()
    for key, value in found.context.items():
        if value.dtype.kind in "fiub":
            worst = max(worst, difference(value[here], whole.context[key][rows][here]))
        else:
            assert value[here].tolist() == whole.context[key][rows][here].tolist()
    return worst
