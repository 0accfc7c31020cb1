"""Distributed batch processing for large biobank cohorts in Sjögren disease.

The public names, loaded when first used so that ``import sjd_dask`` stays quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "open_cohort": "sjd_dask.store.cohort",
    "create_cohort": "sjd_dask.store.cohort",
    "ingest": "sjd_dask.store.ingest.pipeline",
    "associate": "sjd_dask.associate.api",
    "normalise": "sjd_dask.normalise",
    "stratify": "sjd_dask.stratify",
    "classify": "sjd_dask.classify",
    "clinical": "sjd_dask.clinical",
    "open_cluster": "sjd_dask.runtime.cluster",
    "Simulation": "sjd_dask.simulate",
    "names": "sjd_dask.names",
    "errors": "sjd_dask.errors",
}

_MODULES = ("names", "errors", "normalise", "stratify", "classify", "clinical")

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'sjd_dask' has no attribute {name!r}")
    module = import_module(_PUBLIC[name])
    value = module if name in _MODULES else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
