"""The spec of `job: classify`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from sjd_dask.jobs.spec import JobSpec, Name
from sjd_dask.names import QUANTITIES

# What must be said where every sample is to be classified.
ALL = "all"


class ClassifySpec(JobSpec):
    """Call the class of every sample of an assay, or of a file, by a trained model."""

    job: Literal["classify"] = "classify"
    model: str = Field(description="NAME@production, NAME@VERSION, or NAME, which means NAME@production.")
    assay: Name | None = Field(None, description="The assay to classify; this or `file`.")
    file: str | None = Field(
        None,
        description="A matrix to classify without taking it into the cohort, relative to this file: any format that "
        "`sjd ingest` reads. Its values are rounded as an assay would store them.",
    )
    quantity: Literal[QUANTITIES] | None = Field(  # type: ignore[valid-type]
        None, description="With `file`: what its values are."
    )
    rows: Literal["features", "samples"] | None = Field(
        None, description="With `file`: what its rows are; features unless the format says otherwise."
    )
    sheet: str | None = Field(
        None,
        description="With `file`: sample columns of its samples. Those of the cohort are taken where it has none.",
    )
    eligible: str = Field(
        description="pandas query over the sample columns: who is classified. `all` must be said; others get the "
        "status not_eligible."
    )
    suppress_below: int = Field(5, ge=1, description="Counts of persons below this are not shown in the report.")
    partition_samples: int | None = Field(
        None, ge=1, description="Samples in a partition; chosen when absent. Results don't depend on it."
    )

    @model_validator(mode="after")
    def _consistent(self) -> ClassifySpec:
        if (self.assay is None) == (self.file is None):
            raise ValueError("give exactly one of `assay` and `file`")
        if not self.eligible.strip():
            raise ValueError(f"`eligible` is empty: write a query, or `{ALL}` to classify every sample")
        if self.file is None:
            given = [name for name in ("quantity", "rows", "sheet") if getattr(self, name) is not None]
            if given:
                raise ValueError(
                    f"{', '.join(f'`{one}`' for one in given)} belong(s) to `file`: an assay says it itself"
                )
        elif self.quantity is None:
            raise ValueError(f"`file` needs `quantity`, what its values are: one of {', '.join(QUANTITIES)}")
        return self

    @classmethod
    def explain(cls, finding: Any) -> str | None:
        """`eligible` and an unknown quantity, by name."""
        if finding["type"] == "missing" and finding["loc"] == ("eligible",):
            return "the key `eligible` is required: a query over the sample columns, or `all` to classify every sample"
        if finding["loc"][:1] == ("quantity",) and finding["type"] == "literal_error":
            return f"`quantity`: there is no {finding['input']!r}; there are: {', '.join(QUANTITIES)}"
        return None
