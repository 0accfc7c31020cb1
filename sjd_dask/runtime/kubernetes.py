"""Workers as pods, through the Dask operator of a Kubernetes cluster."""

from __future__ import annotations

from typing import Any

from sjd_dask.errors import MissingDependency
from sjd_dask.runtime.spec import KubernetesSpec, memory_bytes


def kubernetes_arguments(spec: KubernetesSpec) -> dict[str, Any]:
    """What `dask_kubernetes.operator.KubeCluster` gets for a cluster file: one worker of one thread a pod, limits
    equal to requests."""
    from sjd_dask.runtime.cluster import WORKER_CONFIG
    from sjd_dask.runtime.process import THREAD_VARIABLES

    memory = memory_bytes(spec.memory) or 2_000_000_000
    settings = {
        f"DASK_{key.upper().replace('.', '__').replace('-', '_')}": str(value) for key, value in WORKER_CONFIG.items()
    }
    amounts = {"cpu": "1", "memory": str(memory)}
    return {
        "name": spec.name,
        "namespace": spec.namespace,
        "image": spec.image,
        "n_workers": spec.workers,
        "worker_command": ["dask", "worker", "--nthreads", "1", "--nworkers", "1", "--memory-limit", str(memory)],
        "resources": {"requests": dict(amounts), "limits": dict(amounts)},
        "env": {**dict.fromkeys(THREAD_VARIABLES, "1"), **settings, **spec.env},
        "quiet": True,
    }


def start_kubernetes(spec: KubernetesSpec) -> Any:
    """Ask the operator for a cluster; returns the `KubeCluster`.

    Raises
    ------
    MissingDependency
        dask-kubernetes is not installed.
    """
    try:
        from dask_kubernetes.operator import KubeCluster
    except ImportError as error:
        raise MissingDependency("dask-kubernetes", "kubernetes", "a cluster of kind kubernetes") from error
    return KubeCluster(**{name: value for name, value in kubernetes_arguments(spec).items() if value is not None})
