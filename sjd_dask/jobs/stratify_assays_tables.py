"""The tables of `strata/NAME` of several assays: those of one assay, and what each assay says of the groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.jobs.stratify_tables import (
    agreement_table,
    choice_table,
    curve_table,
    heat_table,
    label_table,
    principal_table,
)
from sjd_dask.stratify.choose import COMBINED
from sjd_dask.stratify.fusion import AssayTable

if TYPE_CHECKING:
    from sjd_dask.jobs.stratify_assays import AssaysJob
    from sjd_dask.jobs.stratify_assays_tasks import AssaysWork, Grouped
    from sjd_dask.jobs.stratify_features import Chosen


def assays_tables(
    job: AssaysJob, work: AssaysWork, grouped: Grouped, chosen: list[Chosen]
) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Lay down all tables, and say what they show.

    Returns
    -------
    tables : dict
    facts : dict
        For the result's meta.
    """
    spec, choice, found = job.spec, grouped.choice, grouped.strata
    ids = np.array(work.sample_ids, dtype=object)
    table = found.table.assign(ambiguous=found.ambiguous, n_assays=_n_assays(work))
    stratum = table["stratum"].to_numpy(dtype=object)
    own = table["consensus"].to_numpy() if choice.k > 1 else grouped.heat.mean(axis=1, dtype=np.float64)
    principal, explained = principal_table(joint_values(work.assays, len(ids)), ids)
    apart = _pairs_apart(work)
    if apart:
        job.warnings.append(
            f"{apart:,} of {len(ids) * (len(ids) - 1) // 2:,} pairs of samples have no assay in common: they are "
            "compared through the samples that share an assay with both"
        )
    if choice.k == 1:
        job.warnings.append(f"all samples are in one group, {stratum[0]}: {choice.reason}")
    tables = {
        "table": _arrow(table),
        "choice": _arrow(choice_table(choice)),
        "cdf": _arrow(curve_table(choice)),
        "labels": _arrow(label_table(choice, ids, stratum)),
        "features": _arrow(_features(job, chosen)),
        "principal": principal,
        "heat": heat_table(grouped.heat, ids, stratum, own, choice.groups[COMBINED, grouped.heat_k]),
        "cross": _arrow(agreement_table(job.frame, spec.compare, stratum)),
        "assays": _arrow(assays_table(job, work, grouped, chosen)),
        "assay_support": _arrow(support_table(grouped, work)),
    }
    facts = {
        "k": choice.k,
        "chosen": "auto" if spec.choose_k == "auto" else "given",
        "reason": choice.reason,
        "p_value": choice.p_value,
        "sizes": {str(name): int(count) for name, count in table["stratum"].value_counts(sort=False).items()},
        "n_core": int(table["core"].sum()),
        "n_ambiguous": int(table["ambiguous"].sum()),
        "n_pairs_apart": apart,
        "heat_k": grouped.heat_k,
        "explained": explained,
        "matched": found.matched,
        "assays": {
            one.name: {"source": source.named.assay.name, "samples": len(one.rows), "features": one.values.shape[1]}
            for one, source in zip(work.assays, job.inputs, strict=True)
        },
    }
    return tables, facts


def support_table(grouped: Grouped, work: AssaysWork) -> pd.DataFrame:
    """A row for each assay and group; see `sjd_dask.stratify.assay_strata.Support`. Without rows for one group."""
    columns = [
        "assay", "stratum", "n_samples", "silhouette", "positive", "consensus", "consensus_other", "jaccard",
        "held_out_silhouette", "p_value", "supports",
    ]  # fmt: skip
    if not grouped.supports:
        return pd.DataFrame({name: [] for name in columns}).astype(
            {"assay": object, "stratum": object, "n_samples": np.int64, "supports": bool}
        )
    made = pd.concat([one.table for one in grouped.supports], ignore_index=True)
    titles = grouped.strata.table["stratum"].to_numpy(dtype=object)
    groups = grouped.groups
    names_of = {int(g): str(titles[np.argmax(groups == g)]) for g in np.unique(groups)}
    made["stratum"] = made.pop("group").map(names_of)
    made["assay_place"] = made["assay"].map({one.name: i for i, one in enumerate(work.assays)})
    made["stratum_place"] = made["stratum"].map(lambda name: (len(name), name))
    return made.sort_values(["assay_place", "stratum_place"], kind="stable")[columns].reset_index(drop=True)


def assays_table(job: AssaysJob, work: AssaysWork, grouped: Grouped, chosen: list[Chosen]) -> pd.DataFrame:
    """A row for each assay: what it brought, its own test of no groups, and how far it agrees alone."""
    rows = []
    for a, (one, found) in enumerate(zip(work.assays, chosen, strict=True)):
        verdict, far = grouped.verdicts[one.name], grouped.separations
        support = grouped.supports[a] if grouped.supports else None
        rows.append(
            {
                "assay": one.name,
                "n_samples": len(one.rows),
                "n_features": len(found.ids),
                "p_value": verdict.p_value,
                "own_k": verdict.k,
                "algorithms": ", ".join(work.algorithms[i] for i in grouped.voices[a]),
                "separation": float(far.nats[a, -1]) if far else np.nan,
                "separation_z": float(far.z[a, -1]) if far else np.nan,
                "own_ari": support.own_ari if support else np.nan,
                "ari_without": support.ari_without if support else np.nan,
            }
        )
    return pd.DataFrame(rows)


def joint_values(assays: tuple[AssayTable, ...], n: int) -> NDArray[np.float64]:
    """All assays side by side, each with the same largest variance (as in multiple factor analysis); NaN is missing."""
    parts = []
    for one in assays:
        centred = one.values - one.values.mean(axis=0)
        small = centred @ centred.T if len(centred) <= centred.shape[1] else centred.T @ centred
        largest = float(np.linalg.eigvalsh(small)[-1]) / len(centred)
        part = np.full((n, one.values.shape[1]), np.nan)
        part[one.rows] = centred / np.sqrt(largest if largest > 0 else 1.0)
        parts.append(part)
    return np.hstack(parts)


def _features(job: AssaysJob, chosen: list[Chosen]) -> pd.DataFrame:
    parts = [
        pd.DataFrame({names.FEATURE_ID: found.ids, "score": found.scores, "assay": one.name})
        for one, found in zip(job.inputs, chosen, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _n_assays(work: AssaysWork) -> NDArray[np.int64]:
    counts = np.zeros(len(work.sample_ids), dtype=np.int64)
    for one in work.assays:
        counts[one.rows] += 1
    return counts


def _pairs_apart(work: AssaysWork) -> int:
    """Pairs of samples that no assay has both of."""
    n = len(work.sample_ids)
    has = np.zeros((n, len(work.assays)), dtype=np.float32)
    for a, one in enumerate(work.assays):
        has[one.rows, a] = 1.0
    return int(np.count_nonzero(has @ has.T == 0)) // 2


def _arrow(frame: pd.DataFrame) -> pa.Table:
    return pa.Table.from_pandas(frame, preserve_index=False)
