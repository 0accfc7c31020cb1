"""Trials: who may enter, how many are needed, who gets what, and what a finished trial says by class and axis.

``design(spec)`` gives sizes and power of designs; the other names are its parts. They are loaded when first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "design": "designs",
    "DesignReport": "designs",
    "DesignSpec": "design_spec",
    "n_for_means": "sample_size",
    "n_for_proportions": "sample_size",
    "power_for_means": "sample_size",
    "power_for_proportions": "sample_size",
    "exact_power_for_proportions": "sample_size",
    "enrich": "enrichment",
    "population": "enrichment",
    "placebo_model": "placebo",
    "placebo_table": "placebo",
    "rejections": "hierarchy",
}

__all__ = list(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
