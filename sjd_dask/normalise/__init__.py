"""Normalisation: methods that are fitted once on a reference set, frozen, and applied sample by sample.

``sjd_dask.normalise.fit(data, steps)`` gives the parameters as a Dataset, and
``sjd_dask.normalise.apply(data, parameters)`` the normalised matrix.
"""

from __future__ import annotations

from typing import Any

__all__ = ["apply", "fit"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: the methods bring their kernels.
    if name in __all__:
        from sjd_dask.normalise import api

        return getattr(api, name)
    raise AttributeError(f"module 'sjd_dask.normalise' has no attribute {name!r}")
