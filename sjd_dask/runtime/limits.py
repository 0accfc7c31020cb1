"""What this process may really use: processors and memory.

The machine's totals are the wrong answer inside a container, a batch job or a shell with `ulimit`. Every limit that
binds is read, nested control groups included, and the smallest wins.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

# A v1 control group without a limit shows a number near 2**63.
_NO_LIMIT = 1 << 60


def available_cpus(root: Path = Path("/")) -> int:
    """Number of processors this process may use: affinity and control-group quota.

    Parameters
    ----------
    root
        Where `/proc` and `/sys` are; tests give a folder.

    Returns
    -------
    int
        At least 1. A quota of 1.5 processors counts as 1: a second busy process would be throttled.
    """
    if hasattr(os, "sched_getaffinity"):
        count = len(os.sched_getaffinity(0))
    else:
        count = os.cpu_count() or 1
    quota = _cpu_quota(root)
    if quota is not None:
        count = min(count, max(1, math.floor(quota + 1e-6)))
    return max(1, count)


def memory_limit(root: Path = Path("/")) -> int:
    """Bytes this process and its children may use together: total memory, control groups, RLIMIT_AS and RLIMIT_DATA.

    Parameters
    ----------
    root
        Where `/proc` and `/sys` are; tests give a folder.

    Returns
    -------
    int
        The smallest limit that binds, in bytes.
    """
    limits = [int(psutil.virtual_memory().total), *_cgroup_memory(root), *_resource_limits()]
    return min(limit for limit in limits if limit > 0)


def process_memory_limit() -> int:
    """Bytes this one process may use: as `memory_limit`, read inside a worker."""
    return memory_limit()


def _resource_limits() -> Iterator[int]:
    try:
        import resource
    except ImportError:  # not a POSIX system
        return
    for name in ("RLIMIT_AS", "RLIMIT_DATA"):
        if hasattr(resource, name):
            soft, _ = resource.getrlimit(getattr(resource, name))
            if soft != resource.RLIM_INFINITY:
                yield soft


def _groups(root: Path) -> Iterator[tuple[str, str]]:
    """(controllers, path) of each control group of this process; controllers is empty for version 2."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        parts = line.split(":", 2)
        if len(parts) == 3:
            yield parts[1], parts[2]


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The group's folder and all above it: a limit on any of them binds.

    Inside a container the path in `/proc` is often the host's, and only the mount's root exists; it is always tried.
    """
    group = Path(path.lstrip("/"))
    for folder in (group, *group.parents):
        candidate = mount / folder
        if candidate.is_dir():
            yield candidate
    yield mount


def _number(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
        return int(text)
    except (OSError, ValueError):  # absent, unreadable, or "max"
        return None


def _cgroup_memory(root: Path) -> Iterator[int]:
    base = root / "sys/fs/cgroup"
    for controllers, path in [*_groups(root), ("", "/"), ("memory", "/")]:
        if controllers == "":
            mounts, name = [base, base / "unified"], "memory.max"
        elif "memory" in controllers.split(","):
            mounts, name = [base / "memory"], "memory.limit_in_bytes"
        else:
            continue
        for mount in mounts:
            for folder in _upwards(mount, path):
                limit = _number(folder / name)
                if limit is not None and 0 < limit < _NO_LIMIT:
                    yield limit


def _cpu_quota(root: Path) -> float | None:
    base = root / "sys/fs/cgroup"
    found: list[float] = []
    for controllers, path in [*_groups(root), ("", "/"), ("cpu", "/")]:
        if controllers == "":
            for mount in (base, base / "unified"):
                for folder in _upwards(mount, path):
                    try:
                        quota, period = (folder / "cpu.max").read_text().split()
                        found.append(int(quota) / int(period))
                    except (OSError, ValueError):
                        continue
        elif "cpu" in controllers.split(","):
            for mount in (base / "cpu", base / "cpu,cpuacct", base / "cpuacct,cpu"):
                for folder in _upwards(mount, path):
                    limit, span = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
                    if limit is not None and span and limit > 0:
                        found.append(limit / span)
    return min(found) if found else None
