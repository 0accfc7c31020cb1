"""The tables of `strata/NAME` of several assays: those of one assay, and what each assay says of the groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.jobs.stratify_companions import CONSENSUS_SAMPLES, consensus_table, visit_table
from sjd_dask.jobs.stratify_tables import (
    agreement_table,
    choice_table,
    curve_table,
    heat_table,
    label_table,
    principal_table,
)
from sjd_dask.stratify.agreement import adjusted_rand_index
from sjd_dask.stratify.assay_landmarks import Everybody
from sjd_dask.stratify.choose import COMBINED
from sjd_dask.stratify.fusion import AssayTable

if TYPE_CHECKING:
    from sjd_dask.jobs.stratify_assays import AssaysJob
    from sjd_dask.jobs.stratify_assays_tasks import AssaysWork, Grouped
    from sjd_dask.jobs.stratify_features import Chosen


def assays_tables(
    job: AssaysJob, work: AssaysWork, grouped: Grouped, chosen: list[Chosen], everybody: Everybody | None = None
) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Lay down all tables, and say what they show.

    Parameters
    ----------
    job : AssaysJob
    work : AssaysWork
        Of the samples that made the groups.
    grouped : Grouped
    chosen : list of Chosen
        By assay.
    everybody : Everybody, optional
        All samples, where landmarks made the groups.

    Returns
    -------
    tables : dict
    facts : dict
        For the result's meta.
    """
    spec, choice, found = job.spec, grouped.choice, grouped.strata
    ids = np.array(work.sample_ids, dtype=object)
    stratum = found.table["stratum"].to_numpy(dtype=object)
    own = found.table["consensus"].to_numpy() if choice.k > 1 else grouped.heat.mean(axis=1, dtype=np.float64)
    table = found.table.assign(ambiguous=found.ambiguous) if everybody is None else everybody.table
    table = table.assign(n_assays=_n_assays(job))
    labels = label_table(choice, ids, stratum) if everybody is None else _all_labels(everybody, choice.k)
    principal, explained = principal_table(joint_values(work.assays, len(ids)), ids)
    apart = _pairs_apart(work)
    if apart and everybody is None:
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
        "labels": _arrow(labels),
        "features": _arrow(_features(job, chosen)),
        "principal": principal,
        "heat": heat_table(grouped.heat, ids, stratum, own, choice.groups[COMBINED, grouped.heat_k]),
        "cross": _arrow(agreement_table(job.frame, spec.compare, table["stratum"].to_numpy(dtype=object))),
        "assays": _arrow(assays_table(job, work, grouped, chosen)),
        "assay_support": _arrow(support_table(grouped, work)),
        **_companions(job, grouped, table["stratum"].to_numpy(dtype=object)),
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
            one.name: {
                "source": source.named.assay.name,
                "samples": len(source.source.reader.sample_ids),
                "features": one.values.shape[1],
            }
            for one, source in zip(work.assays, job.inputs, strict=True)
        },
    }
    if everybody is not None:
        facts["assays_landmarks"] = {
            "n": len(ids),
            # How well the neighbours of a landmark alone would have placed it.
            "placed_ari": adjusted_rand_index(list(everybody.placed), list(grouped.groups)),
        }
    return tables, facts


def _all_labels(everybody: Everybody, k: int) -> pd.DataFrame:
    """Groups of all samples at each k, named by size; at the chosen k as in the main table."""
    made = {names.SAMPLE_ID: everybody.table[names.SAMPLE_ID].to_numpy(dtype=object)}
    for size, groups in everybody.labels.items():
        counts = np.bincount(groups, minlength=size)
        rank = np.empty(size, dtype=np.int64)
        rank[np.argsort(-counts, kind="stable")] = np.arange(1, size + 1)
        made[f"k{size}"] = np.array([f"C{rank[g]}" for g in groups], dtype=object)
    if k > 1:
        made[f"k{k}"] = everybody.table["stratum"].to_numpy(dtype=object)
    return pd.DataFrame(made)


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


def _companions(job: AssaysJob, grouped: Grouped, stratum: NDArray[Any]) -> dict[str, pa.Table]:
    """The consensus and the visits; profiles are each assay's own, in the units of the assay: see `job: explain`."""
    tables: dict[str, pa.Table] = {}
    if grouped.choice.k > 1 and len(grouped.strata.matrix) == len(stratum) <= CONSENSUS_SAMPLES:
        tables["consensus"] = consensus_table(grouped.strata.matrix, job.frame.index.to_numpy())
    if job.spec.person is not None and (job.spec.visit or names.VISIT) in job.frame.columns:
        tables["visits"] = _arrow(visit_table(job.frame, job.spec, stratum))
    return tables


def _features(job: AssaysJob, chosen: list[Chosen]) -> pd.DataFrame:
    parts = [
        pd.DataFrame({names.FEATURE_ID: found.ids, "score": found.scores, "assay": one.name})
        for one, found in zip(job.inputs, chosen, strict=True)
    ]
    return pd.concat(parts, ignore_index=True)


def _n_assays(job: AssaysJob) -> NDArray[np.int64]:
    place = {one: i for i, one in enumerate(job.sample_ids)}
    counts = np.zeros(len(place), dtype=np.int64)
    for one in job.inputs:
        counts[[place[sample] for sample in one.source.reader.sample_ids]] += 1
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
