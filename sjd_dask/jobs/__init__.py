"""One file per job: spec -> plan -> partitions -> reduce -> publish. The only room where both sides meet."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sjd_dask.jobs.driver import Outcome, plan_job, resume_job, run_job, run_spec, submit_job

__all__ = ["Outcome", "plan_job", "resume_job", "run_job", "run_spec", "submit_job"]


def __getattr__(name: str) -> Any:
    # Loaded when first used: workers import single files of this room, and need no driver.
    if name in __all__:
        from sjd_dask.jobs import driver

        return getattr(driver, name)
    raise AttributeError(f"module 'sjd_dask.jobs' has no attribute {name!r}")
