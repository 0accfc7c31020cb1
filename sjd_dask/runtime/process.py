"""Settings and measures of the process that computes; light, since a driver that computes by itself needs them too."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# Parameters of mallopt(3), and what a worker may keep between tasks.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 128 << 20

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "RAYON_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)


def limit_threads() -> None:
    """One thread for BLAS and OpenMP at once, and for Numba and Rayon where they have not started."""
    import threadpoolctl

    if "OPENBLAS_NUM_THREADS" not in os.environ:
        # Only libraries that are loaded already can be limited; without the variable each would start all its
        # threads later.
        import numpy  # noqa: F401
        import scipy.linalg  # noqa: F401
    threadpoolctl.threadpool_limits(limits=1)
    for name in THREAD_VARIABLES:
        if not (name == "RAYON_NUM_THREADS" and "zarrs" in sys.modules):
            os.environ.setdefault(name, "1")


def keep_freed_memory() -> None:
    """Let glibc keep what a task frees for the next task.

    Dask has workers give memory back at once, which suits results that live long. Here every task takes and frees the
    same buffers, and getting them anew from the kernel cost as much as the arithmetic (26,000 page faults a task).
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, KEPT_BYTES)


def reset_peak() -> None:
    """Start measuring the peak memory of this process anew, where the kernel allows it (Linux)."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak_memory() -> int:
    """Highest resident memory of this process since `reset_peak` (else since its start), in bytes."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
