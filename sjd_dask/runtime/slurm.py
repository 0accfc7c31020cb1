"""Workers as Slurm jobs, through dask-jobqueue."""

from __future__ import annotations

import sys
from typing import Any

from sjd_dask.errors import MissingDependency
from sjd_dask.runtime.spec import SlurmSpec, memory_bytes


def slurm_arguments(spec: SlurmSpec) -> dict[str, Any]:
    """What `dask_jobqueue.SLURMCluster` gets for a cluster file."""
    from sjd_dask.runtime.cluster import WORKER_CONFIG, security_of
    from sjd_dask.runtime.process import THREAD_VARIABLES

    per_worker = memory_bytes(spec.memory) or 2_000_000_000
    exports = [f"export {name}=1" for name in THREAD_VARIABLES]
    # Dask reads its configuration from such variables; the workers' side of the settings goes this way.
    exports += [
        f"export DASK_{key.upper().replace('.', '__').replace('-', '_')}={value}"
        for key, value in WORKER_CONFIG.items()
        if key.startswith("distributed.worker.")
    ]
    arguments: dict[str, Any] = {
        "queue": spec.queue,
        "account": spec.account,
        "walltime": spec.walltime,
        "cores": spec.workers_per_job,
        "processes": spec.workers_per_job,
        "job_cpu": spec.workers_per_job,
        "memory": f"{per_worker * spec.workers_per_job}B",
        "interface": spec.interface,
        "local_directory": str(spec.scratch) if spec.scratch else None,
        "log_directory": str(spec.log_folder) if spec.log_folder else None,
        "python": spec.python or sys.executable,
        "job_extra_directives": list(spec.job_extra_directives),
        "job_script_prologue": [*exports, *spec.job_script_prologue],
        "scheduler_options": {"dashboard_address": ":0", "dashboard": False},
    }
    security = security_of(spec.tls)
    if security is not None:
        arguments["security"] = security
        arguments["protocol"] = "tls://"
    return arguments


def start_slurm(spec: SlurmSpec) -> Any:
    """Submit the jobs; returns the `SLURMCluster`.

    Raises
    ------
    MissingDependency
        dask-jobqueue is not installed.
    """
    cluster = _cluster(spec)
    cluster.scale(spec.workers)
    return cluster


def slurm_job_script(spec: SlurmSpec) -> str:
    """The batch script that would be submitted, as text. Needs no Slurm."""
    cluster = _cluster(spec)
    try:
        return str(cluster.job_script())
    finally:
        cluster.close()


def _cluster(spec: SlurmSpec) -> Any:
    try:
        from dask_jobqueue import SLURMCluster
    except ImportError as error:
        raise MissingDependency("dask-jobqueue", "slurm", "a cluster of kind slurm") from error
    import dask

    from sjd_dask.runtime.cluster import WORKER_CONFIG

    with dask.config.set(WORKER_CONFIG):
        return SLURMCluster(**slurm_arguments(spec))
