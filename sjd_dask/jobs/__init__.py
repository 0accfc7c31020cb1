"""One file per job: spec -> plan -> partitions -> reduce -> publish. The only room where both sides meet."""

from __future__ import annotations

from sjd_dask.jobs.driver import Outcome, plan_job, resume_job, run_job, run_spec, submit_job

__all__ = ["Outcome", "plan_job", "resume_job", "run_job", "run_spec", "submit_job"]
