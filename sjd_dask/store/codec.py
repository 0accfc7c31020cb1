"""Which code compresses and decompresses chunks.

The `zarrs` pipeline is used where it is installed: it decodes 2-4 times faster and gives the same bytes. It must never
be used after a fork (its threads do not survive one), so processes that read segments are spawned; and its threads obey
only RAYON_NUM_THREADS, which has to be set before the process first uses it.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Any

import zarr

from sjd_dask.errors import SjdError

FAST_PIPELINE = "zarrs.ZarrsCodecPipeline"
_state: dict[str, bool] = {}


def use_fast_pipeline() -> bool:
    """Choose the fast codec pipeline for this process where it is installed.

    Returns
    -------
    bool
        True with the fast pipeline, False with zarr's own. Calling it again costs nothing.
    """
    known = _state.get("fast")
    if known is None:
        known = importlib.util.find_spec("zarrs") is not None
        if known:
            zarr.config.set({"codec_pipeline.path": FAST_PIPELINE})
        _state["fast"] = known
    if known:
        # Neither notice asks for anything: text arrays (ids) are outside the fast pipeline by design, and its object
        # store client keeps connections of its own. Set each time, since a caller may have reset the filters.
        for message, category in (
            ("Array is unsupported by ZarrsCodecPipeline", UserWarning),
            ("Successfully reconstructed a store", RuntimeWarning),
        ):
            warnings.filterwarnings("ignore", message=message, category=category)
    return known


def assert_fast(array: zarr.Array[Any]) -> None:
    """Raise where an array silently fell back to zarr's own pipeline though the fast one is installed."""
    if not use_fast_pipeline():
        return
    pipeline = array.async_array.codec_pipeline
    if type(pipeline).__name__ != "ZarrsCodecPipeline" or getattr(pipeline, "impl", None) is None:
        raise SjdError(
            f"{array.store_path}: the fast codec pipeline does not serve this array "
            f"({type(pipeline).__name__}, {type(array.store_path.store).__name__}); reading would be 2-4 times slower. "
            f"Object stores must be opened through obstore, and codecs must be zstd or blosc over plain bytes."
        )
