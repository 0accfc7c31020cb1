"""Groups of samples by consensus clustering: found, defended, and none where there are none.

``sjd_dask.stratify.find_groups(data)`` does it all on a DataArray; ``adjusted_rand_index``,
``normalised_mutual_information`` and ``cross_table`` compare labellings.
"""

from __future__ import annotations

from typing import Any

_WHERE = {
    "find_groups": "api",
    "adjusted_rand_index": "agreement",
    "cross_table": "agreement",
    "normalised_mutual_information": "agreement",
}
__all__ = ["adjusted_rand_index", "cross_table", "find_groups", "normalised_mutual_information"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: the algorithms bring their libraries.
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(f"sjd_dask.stratify.{_WHERE[name]}"), name)
    raise AttributeError(f"module 'sjd_dask.stratify' has no attribute {name!r}")
