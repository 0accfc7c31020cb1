"""Every method of this room, known by name once this module is imported."""

from __future__ import annotations

from typing import Any

from sjd_dask.errors import SpecError
from sjd_dask.normalise import (
    arrays,
    batch,
    censoring,
    counts,
    counts_factors,
    plates,
    probe_types,
    quantile,
    removal,
    scales,
    vst,
)
from sjd_dask.normalise.method import METHODS, Method

# Importing a module registers its methods.
MODULES = (arrays, batch, censoring, counts, counts_factors, plates, probe_types, quantile, removal, scales, vst)


def make_method(step: str | dict[str, Any]) -> Method:
    """A method from its name, or from its name and options.

    Parameters
    ----------
    step : str or dict
        ``"tmm"`` or ``{"method": "log_cpm", "prior_count": 2}``.

    Raises
    ------
    SpecError
        No method of that name, or an option that it doesn't have.
    """
    options = {"method": step} if isinstance(step, str) else dict(step)
    name = options.pop("method", None)
    if name not in METHODS:
        raise SpecError(f"there is no method {name!r}; there are: {', '.join(sorted(METHODS))}")
    try:
        return METHODS[name](**options)
    except TypeError as error:
        raise SpecError(f"method {name!r}: {error}") from None
