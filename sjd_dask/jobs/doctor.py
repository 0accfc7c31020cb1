"""`sjd doctor`: what works on this machine, and what doesn't, found by trying."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

_OPTIONAL = {
    "dask_jobqueue": ("dask-jobqueue", "slurm"),
    "dask_kubernetes": ("dask-kubernetes", "kubernetes"),
    "psycopg": ("psycopg", "postgres"),
    "obstore": ("obstore", "s3"),
    "cryptography": ("cryptography", "tls"),
    "phenopackets": ("phenopackets", "exchange"),
}


def examine(cluster: str | None = None) -> list[dict[str, Any]]:
    """Try each part once.

    Parameters
    ----------
    cluster : str, optional
        Also start, or connect to, this cluster and ask its workers.

    Returns
    -------
    list of dict
        ``what``, ``ok`` and ``detail`` of each trial.
    """
    trials: list[tuple[str, Callable[[], str]]] = [
        ("python", lambda: sys.version.split()[0]),
        ("libraries", _libraries),
        ("codec pipeline", _codec),
        ("cohort on disk", _cohort),
        ("kernel", _kernel),
        *(
            (f"extra {extra}", lambda name=name, package=package, extra=extra: _optional(name, package, extra))
            for name, (package, extra) in _OPTIONAL.items()
        ),
    ]
    if cluster is not None:
        trials.append((f"cluster {cluster}", lambda: _cluster(cluster)))
    return [_attempt(what, trial) for what, trial in trials]


def _attempt(what: str, trial: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"what": what, "ok": True, "detail": trial()}
    except Exception as error:
        # The doctor's purpose is to report any failure, whatever its type.
        return {"what": what, "ok": False, "detail": f"{type(error).__name__}: {error}"}


def _libraries() -> str:
    names = ("dask", "distributed", "numpy", "scipy", "pandas", "xarray", "zarr", "numba", "pyarrow", "sqlalchemy")
    return ", ".join(f"{name} {version(name)}" for name in names)


def _codec() -> str:
    from sjd_dask.store.codec import use_fast_pipeline

    return f"{'zarrs' if use_fast_pipeline() else 'the slower one of zarr (no zarrs here)'}, {os.cpu_count()} CPUs"


def _cohort() -> str:
    from sjd_dask.store.cohort import create_cohort, open_cohort

    with tempfile.TemporaryDirectory() as folder:
        create_cohort(str(Path(folder) / "cohort"))
        return f"made and opened, snapshot {open_cohort(str(Path(folder) / 'cohort')).snapshot()}"


def _kernel() -> str:
    from sjd_dask.kernels.linear import accumulate, finish, linear_design, new_sums

    x = np.column_stack([np.ones(20), np.arange(20.0)])
    y = (3.0 + 2.0 * np.arange(20.0))[:, None] + np.random.default_rng(1).normal(size=(20, 4))
    design = linear_design(x)
    sums = new_sums(design, 4)
    accumulate(sums, design.q, y)
    worst = float(np.abs(finish(sums, design).coefficients - np.linalg.lstsq(x, y, rcond=None)[0]).max())
    if not worst < 1e-10:
        raise ArithmeticError(f"differs from least squares by {worst:.1e}")
    return f"equal to least squares within {worst:.0e}"


def _optional(name: str, package: str, extra: str) -> str:
    try:
        importlib.import_module(name)
        return version(package)
    except (ImportError, PackageNotFoundError):
        raise ImportError(f"optional: pip install 'sjd-dask[{extra}]'") from None


def _cluster(spec: str) -> str:
    from sjd_dask.runtime.cluster import open_cluster

    with open_cluster(spec) as cluster:
        return f"{cluster.description}, {cluster.n_workers} workers, {cluster.memory_per_worker / 2**30:.1f} GiB each"
