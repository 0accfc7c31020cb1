"""The honest peer of the runtime: a bare loop of two spawned processes over a Zarr store of uint16 betas.

No catalogue, no plan, no checks, no resume: each process reads stripes of features with the zarrs codec pipeline,
decodes codes to M-values by look-up table, multiplies by the design with BLAS, and gives back effects, residual
variances and t and p of one contrast with ordinary (not moderated) t. Complete data only. `sjd run` is compared with
it at the same precision.

    python benchmarks/bare_loop.py STORE --array beta --precision double

The design is made up of `--columns` columns (a constant, one group, covariates) from a fixed seed.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
CLIP = 2.0**-17
# Features decoded at a time, so that the values are still in the second-level cache for the products.
TILE = 2048


@dataclass(frozen=True)
class Settings:
    """What a process needs to work on its stripes."""

    store: str
    array: str
    scale: float
    fill: int
    precision: str
    stripe: int
    rows: int
    contrast: int


def design(n: int, columns: int) -> NDArray[np.float64]:
    """A constant, a group of about one half, and standard normal covariates."""
    rng = np.random.default_rng(1)
    return np.column_stack([np.ones(n), rng.random(n) < 0.5, rng.normal(size=(n, columns - 2))]).astype(np.float64)


def m_table(scale: float, fill: int, precision: str) -> NDArray[Any]:
    """Look-up table from codes to M-values."""
    beta = np.clip(np.arange(65536) * scale, CLIP, 1 - CLIP)
    table = np.log2(beta / (1 - beta))
    table[fill] = np.nan
    return table.astype(np.float32 if precision == "single" else np.float64)


_OPEN: dict[str, Any] = {}


def prepare(settings: Settings, matrix: NDArray[np.float64]) -> None:
    """Start of a process: open the array and build what all stripes share."""
    import scipy.special
    import zarr

    pipeline = "zarrs.ZarrsCodecPipeline"
    try:
        import zarrs  # noqa: F401

        zarr.config.set({"codec_pipeline.path": pipeline})
    except ImportError:
        pass
    kind = np.float32 if settings.precision == "single" else np.float64
    q, r = np.linalg.qr(matrix)
    _OPEN.update(
        settings=settings,
        array=zarr.open_array(settings.store, path=settings.array, mode="r"),
        q=np.ascontiguousarray(q.T.astype(kind)),
        exact=q,
        inverse=np.linalg.inv(r),
        table=m_table(settings.scale, settings.fill, settings.precision),
        stdtr=scipy.special.stdtr,
    )


def stripe(start: int) -> tuple[int, NDArray[np.float64]]:
    """Effect, residual variance, t and p of one stripe of features: (4, width)."""
    settings, array, q, table = _OPEN["settings"], _OPEN["array"], _OPEN["q"], _OPEN["table"]
    n, features = array.shape
    stop = min(start + settings.stripe, features)
    width = stop - start
    p = q.shape[0]
    products, squares, pilot = np.zeros((p, width)), np.zeros(width), np.empty(width, dtype=table.dtype)
    for first in range(0, n, settings.rows):
        codes = array[first : first + settings.rows, start:stop]
        weights = q[:, first : first + codes.shape[0]]
        for left in range(0, width, TILE):
            here = slice(left, min(left + TILE, width))
            values = np.empty((codes.shape[0], here.stop - left), dtype=table.dtype)
            np.take(table, codes[:, here], out=values, mode="clip")
            if first == 0:
                pilot[here] = values[:64].mean(axis=0)
            values -= pilot[here]
            products[:, here] += weights @ values
            squares[here] += np.einsum("ij,ij->j", values, values)
    df = n - p
    variance = (squares - np.square(products).sum(axis=0)) / df
    row = _OPEN["inverse"][settings.contrast]
    effect = row @ products
    t = effect / np.sqrt(variance * (row @ row))
    p_value = 2 * _OPEN["stdtr"](df, -np.abs(t))
    return start, np.stack([effect, variance, t, p_value])


def run(
    store: str,
    *,
    array: str = "beta",
    scale: float = 1 / 65534,
    fill: int = 65535,
    precision: str = "double",
    columns: int = 11,
    workers: int = 2,
    width: int = 16384,
    rows: int = 64,
) -> dict[str, Any]:
    """Time one pass over the store with processes that are up already.

    Returns
    -------
    dict
        `seconds` of wall clock, `processor_seconds` of all workers, `cells_per_second`, `results` (4, features):
        effect, residual variance, t, p; and the settings.
    """
    import zarr

    for name in THREADS:
        os.environ[name] = "1"
    shape = zarr.open_array(store, path=array, mode="r").shape
    settings = Settings(store, array, scale, fill, precision, width, rows, contrast=1)
    # Spawned, not forked: a forked child hangs in the codec pipeline's threads.
    context = multiprocessing.get_context("spawn")
    results = np.empty((4, shape[1]))
    with context.Pool(workers, initializer=prepare, initargs=(settings, design(shape[0], columns))) as pool:
        pool.map(_warm, range(workers), chunksize=1)
        before = sum(pool.map(_processor_time, range(workers), chunksize=1))
        begin = time.perf_counter()
        for start, part in pool.imap_unordered(stripe, range(0, shape[1], width)):
            results[:, start : start + part.shape[1]] = part
        seconds = time.perf_counter() - begin
        used = sum(pool.map(_processor_time, range(workers), chunksize=1)) - before
    cells = shape[0] * shape[1]
    return {
        "seconds": seconds,
        "processor_seconds": used,
        "cells_per_second": cells / seconds,
        "shape": list(shape),
        "workers": workers,
        "settings": asdict(settings),
        "results": results,
    }


def _warm(index: int) -> float:
    """Make each process do a little of everything once; the pause lets every process take one."""
    time.sleep(0.5)
    return float(index) + float((_OPEN["q"][:, :64] @ np.ones((64, 64), dtype=_OPEN["q"].dtype)).sum())


def _processor_time(index: int) -> float:
    """Processor seconds of this process; the pause lets every process answer once."""
    time.sleep(0.2)
    return time.process_time()


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store")
    parser.add_argument("--array", default="beta")
    parser.add_argument("--precision", choices=["double", "single"], default="double")
    parser.add_argument("--columns", type=int, default=11)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1 / 65534)
    parser.add_argument("--fill", type=int, default=65535)
    options = parser.parse_args()
    found = run(
        options.store,
        array=options.array,
        precision=options.precision,
        columns=options.columns,
        workers=options.workers,
        scale=options.scale,
        fill=options.fill,
    )
    found.pop("results")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
