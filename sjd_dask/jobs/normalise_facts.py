"""The facts of a normalisation that go with its results: what was done, on what, with which parameters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sjd_dask.jobs.normalise_files import file_name, with_paths
from sjd_dask.jobs.normalise_quality import QualityTables
from sjd_dask.normalise.chain import Chain
from sjd_dask.normalise.method import Method

if TYPE_CHECKING:
    from sjd_dask.jobs.normalise import NormaliseJob


def layer_facts(job: NormaliseJob, chain: Chain, tables: QualityTables) -> dict[str, Any]:
    """What the results of a prepared job carry as meta: see the keys in `report.meta.LayerMeta`."""
    p_in, p_out = len(chain.feature_ids), len(chain.out_feature_ids)
    encoding = job.source.assay.encoding
    return {
        "job": "normalise",
        "title": job.spec.output,
        "spec": {**with_paths(job.spec, file_name).model_dump(mode="json"), "cohort": "."},
        "layer": job.spec.output,
        "assay": job.source.name,
        "source_assay": job.source.assay.name,
        "steps": [
            {"method": method.method, "version": method.version, "options": _options(method)}
            for method, _ in chain.steps
        ],
        "steps_text": chain.text,
        "scale_before": chain.source_scale,
        "scale_after": chain.scale,
        "parameters_hash": chain.hash(),
        **({"parameters": job.taken_from} if job.taken_from else {}),
        "bundle_problems": chain.bundle_problems,
        "masks": chain.masks,
        "reference_samples": {"count": len(chain.reference_samples), "filter": job.spec.fit_on},
        **sample_counts(job, tables),
        "features": {
            "before": p_in,
            "after": p_out,
            "dropped": [{"reason": "by a step of the chain", "count": p_in - p_out}] if p_in > p_out else [],
        },
        "encoding": {
            "stored_quantity": job.source.assay.quantity,
            "dtype": encoding.dtype,
            "scale_factor": encoding.scale_factor,
            "max_error": encoding.scale_factor / 2 if encoding.scale_factor else None,
        },
        "precision": job.spec.precision,
        "cohort": {"name": job.cohort.name, "snapshot": job.snapshot},
        "batch_column": chain.batch_column,
        "factors": tables.factors,
        "colour_by": job.spec.colour_by,
        "sex_column": job.spec.sex,
        "method_versions": {method.method: method.version for method, _ in chain.steps},
        "warnings": list(job.warnings),
    }


def sample_counts(job: NormaliseJob, tables: QualityTables) -> dict[str, Any]:
    """How many samples have values, and how many wait."""
    return {
        "samples": {
            **job.sample_facts,
            "total": tables.n_samples,
            "normalised": tables.n_samples - sum(tables.pending.values()),
            "pending": tables.pending,
        }
    }


def _options(method: Method) -> dict[str, Any]:
    options = method.options()
    options.pop("method")
    return options
