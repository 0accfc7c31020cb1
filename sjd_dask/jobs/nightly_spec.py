"""The spec of `job: nightly`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sjd_dask.jobs.drift_spec import DriftWatch
from sjd_dask.jobs.spec import JobSpec, Name


class NightlySpec(JobSpec):
    """Take in what has arrived, classify what needs it, and publish who is what, and who changed and why."""

    job: Literal["nightly"] = "nightly"
    model: str = Field(description="NAME@production, NAME@VERSION, or NAME, which means NAME@production.")
    assay: Name = Field(description="The assay that is classified.")
    eligible: str = Field(
        description="pandas query over the sample columns: who is classified. `all` must be said; others get the "
        "status not_eligible."
    )
    inbox: str | None = Field(
        None,
        description="Folder of arrivals, relative to this file: matrices ASSAY__ANYTHING.FORMAT and sample sheets "
        "ASSAY__ANYTHING.samples.csv. Without one, only what was ingested otherwise is looked at.",
    )
    settle_seconds: float = Field(
        0.0, ge=0, description="Files that changed within so many seconds wait: someone may still be writing them."
    )
    margin: float = Field(
        0.2,
        ge=0,
        le=1,
        description="A person's reported call changes when the new class is more probable than the reported one by at "
        "least this, or when two visits in a row are called the same.",
    )
    suppress_below: int = Field(5, ge=1, description="Counts of persons below this are not shown in the report.")
    drift: DriftWatch = Field(default_factory=DriftWatch, description="What warns, and what holds a night back.")
    compact_above: int = Field(
        64, ge=0, description="Merge the small segments of an assay once it has more of them than this; 0: never."
    )
    dry_run: bool = Field(False, description="Say what would happen; publish nothing and leave the inbox as it is.")
    partition_samples: int | None = Field(
        None, ge=1, description="Samples in a partition; chosen when absent. Results don't depend on it."
    )

    @model_validator(mode="after")
    def _consistent(self) -> NightlySpec:
        if not self.eligible.strip():
            raise ValueError("`eligible` is empty: write a query, or `all`")
        return self

    @classmethod
    def explain(cls, finding: Any) -> str | None:
        """`eligible` is asked for by name."""
        if finding["type"] == "missing" and finding["loc"] == ("eligible",):
            return "the key `eligible` is required: a query over the sample columns, or `all` to classify every sample"
        return None
