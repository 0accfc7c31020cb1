"""Who holds something, and whether that process still lives."""

from __future__ import annotations

import os
import socket
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import psutil

# A holder on another machine is known only by its heartbeat: three missed beats of 40 s mean it is gone.
HEARTBEAT_SECONDS = 20.0
STALE_SECONDS = 120.0


@dataclass(frozen=True)
class Owner:
    """A process: machine, process id, and when it started (process ids come round again)."""

    host: str
    pid: int
    started: str

    @staticmethod
    def current() -> Owner:
        """This process."""
        return Owner(socket.gethostname(), os.getpid(), process_start(os.getpid()) or "")

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@lru_cache(maxsize=1)
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def process_start(pid: int) -> str | None:
    """A text that names one life of a process id; None where no such process runs (a zombie does not)."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        fields = stat.read_text().rsplit(")", 1)[1].split()
        return None if fields[0] in ("Z", "X") else f"{_boot()}:{fields[19]}"
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    except (OSError, IndexError):
        pass
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else f"{process.create_time():.0f}"
    except psutil.Error:
        return None


def is_alive(owner: Owner, heartbeat: float, now: float | None = None) -> bool:
    """Whether a holder still lives.

    Parameters
    ----------
    owner : Owner
        The process.
    heartbeat : float
        Its last sign, seconds since 1970.
    now : float, optional
        The present; default the clock.

    Returns
    -------
    bool
        On this machine: whether that very process runs, whatever its heartbeat. On another: whether the heartbeat is at
        most 120 s old.
    """
    if owner.host == socket.gethostname():
        return process_start(owner.pid) == owner.started
    return (time.time() if now is None else now) - heartbeat <= STALE_SECONDS
