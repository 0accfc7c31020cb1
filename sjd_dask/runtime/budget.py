"""What the workers offer, by their own view: slots, memory, threads, versions."""

# mypy: disable-error-code="no-untyped-call,union-attr"

from __future__ import annotations

import contextlib
import dataclasses
from typing import TYPE_CHECKING, Any

from sjd_dask.errors import SjdError, SpecError

if TYPE_CHECKING:
    import distributed

    from sjd_dask.runtime.task import SettingsPlugin

ANSWER_SECONDS = 10.0


@dataclasses.dataclass(frozen=True)
class Budget:
    """The smallest promise that holds for every worker.

    Attributes
    ----------
    n_slots
        Tasks at a time over all workers.
    threads_per_worker
        Most tasks at a time in one process.
    memory_per_task
        Bytes: the smallest worker's limit over its threads, where the limit is the least of distributed's, the
        control group's and the process's.
    warnings
        What is not as it should be but can be worked with.
    """

    n_slots: int
    threads_per_worker: int
    memory_per_task: int
    warnings: list[str]


def inspect_workers(client: distributed.Client, description: str, ignore_interrupt: bool = False) -> Budget:
    """Set and check every worker.

    Raises
    ------
    SpecError
        A worker lacks this package or has another version of it.
    SjdError
        The workers don't answer.
    """
    from sjd_dask.runtime.task import SettingsPlugin

    try:
        return _inspect(client, description, SettingsPlugin(ignore_interrupt))
    except BaseException:
        forget_settings(client)
        raise


def forget_settings(client: distributed.Client) -> None:
    """Take the settings off the scheduler, where they would meet workers of other people that lack this package."""
    from sjd_dask.runtime.task import SettingsPlugin

    with contextlib.suppress(Exception):
        client.sync(
            client.scheduler.unregister_worker_plugin, name=SettingsPlugin.name, callback_timeout=ANSWER_SECONDS
        )


def _inspect(client: distributed.Client, description: str, settings: SettingsPlugin) -> Budget:
    import sjd_dask
    from sjd_dask.runtime.task import probe

    try:
        client.register_plugin(settings)
        found: dict[str, dict[str, Any]] = client.run(probe, on_error="raise")
    except Exception as error:
        # What a worker can't unpickle comes back as a plain Exception that quotes the import error.
        if isinstance(error, ImportError) or "sjd_dask" in str(error):
            raise SpecError(
                f"{description}: a worker can't import sjd-dask {sjd_dask.__version__} ({error}). "
                f"Install the same version where the workers run."
            ) from error
        raise SjdError(f"{description}: the workers don't answer ({error}). Look at their logs.") from error
    if not found:
        raise SjdError(f"{description}: there are no workers. Start some (`dask worker ADDRESS`).")
    others = {address: facts for address, facts in found.items() if facts["sjd_dask"] != sjd_dask.__version__}
    if others:
        address, facts = next(iter(others.items()))
        raise SpecError(
            f"{description}: {len(others)} of {len(found)} workers have sjd-dask {facts['sjd_dask']} (for example "
            f"{address}), "
            f"and the driver has {sjd_dask.__version__}. Install the same version on both sides."
        )
    return Budget(
        n_slots=sum(facts["nthreads"] for facts in found.values()),
        threads_per_worker=max(facts["nthreads"] for facts in found.values()),
        memory_per_task=min(facts["memory"] // facts["nthreads"] for facts in found.values()),
        warnings=_warnings(found),
    )


def _warnings(found: dict[str, dict[str, Any]]) -> list[str]:
    lines = []
    several = [address for address, facts in found.items() if facts["blas"] > 1]
    if several:
        lines.append(
            f"{len(several)} workers use more than one BLAS thread (for example {several[0]}): "
            f"start them with OPENBLAS_NUM_THREADS=1 OMP_NUM_THREADS=1 MKL_NUM_THREADS=1"
        )
    rayon = [address for address, facts in found.items() if facts["rayon"] != "1"]
    if rayon:
        lines.append(
            f"{len(rayon)} workers may decompress with several threads (for example {rayon[0]}): start them with "
            "RAYON_NUM_THREADS=1"
        )
    threads = [address for address, facts in found.items() if facts["nthreads"] > 1]
    if threads:
        lines.append(
            f"{len(threads)} workers run several tasks in one process (for example {threads[0]}): "
            f"`dask worker --nthreads 1 --nworkers N` is faster and its memory is easier to bound"
        )
    return lines
