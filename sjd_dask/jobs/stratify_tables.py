"""The tables of `strata/NAME`: groups and their certainty, the choice of k, agreement, and what the page draws."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.jobs.stratify_companions import companion_tables
from sjd_dask.jobs.stratify_judge import cluster_judge, mean_support
from sjd_dask.kernels.principal import principal_components
from sjd_dask.stratify.agreement import adjusted_rand_index, cross_table, normalised_mutual_information
from sjd_dask.stratify.choose import COMBINED, Choice, choose_k
from sjd_dask.stratify.consensus import consensus_matrix, pairs_never_drawn
from sjd_dask.stratify.distances import silhouette_widths
from sjd_dask.stratify.strata import strata, strata_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sjd_dask.jobs.normalise_reference import Phases
    from sjd_dask.jobs.stratify import StratifyJob
    from sjd_dask.jobs.stratify_features import Chosen
    from sjd_dask.stratify.recipe import Recipe

# Samples of the stored consensus: as many as the page has dots for.
HEAT_SAMPLES = 400
# Up to so many samples the driver judges, before tasks would have started; up to so many it holds the matrix of a k.
JUDGE_HERE = 1000
MATRIX_SAMPLES = 2000
N_COMPONENTS = 4


def agreement_table(frame: pd.DataFrame, columns: list[str], strata: NDArray[Any]) -> pd.DataFrame:
    """Agreement of the groups with sample columns.

    Numbers of more than 20 values are cut at their quartiles: an index of labels would call each value a label.
    """
    rows = []
    for name in columns:
        values, binned = frame[name], False
        if pd.api.types.is_numeric_dtype(values) and values.nunique() > 20:
            values, binned = pd.qcut(values, 4, duplicates="drop").astype(object), True
        text = np.array([None if pd.isna(one) else str(one) for one in values], dtype=object)
        known = [one is not None for one in text]
        row = {"column": f"{name} (quartiles)" if binned else name, "n_samples": sum(known)}
        if any(known):
            row["n_levels"] = cross_table(strata, text).shape[1]
            row["ari"] = adjusted_rand_index(strata, text)
            row["nmi"] = normalised_mutual_information(strata, text)
        rows.append({"n_levels": 0, "ari": np.nan, "nmi": np.nan, **row})
    made = pd.DataFrame(rows, columns=["column", "n_samples", "n_levels", "ari", "nmi"])
    return made.astype({"column": object, "n_samples": np.int64, "n_levels": np.int64, "ari": float, "nmi": float})


def heat_table(
    matrix: NDArray[np.float32],
    sample_ids: NDArray[Any],
    strata: NDArray[Any],
    consensus: NDArray[np.float64],
    groups: NDArray[np.int64],
) -> pa.Table:
    """Consensus of at most `HEAT_SAMPLES` samples, see `heat_order`."""
    order = heat_order(sample_ids, strata, consensus, groups)
    return heat_rows(matrix[np.ix_(order, order)], sample_ids[order], strata[order])


def heat_order(
    sample_ids: NDArray[Any], strata: NDArray[Any], consensus: NDArray[np.float64], groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Samples of the map: strata together, in each the groups of the map, the surest first; evenly spaced of many."""
    # C10 after C2.
    rank = {name: i for i, name in enumerate(sorted(set(strata), key=lambda one: (len(one), one)))}
    order = np.lexsort((sample_ids.astype(str), -consensus, groups, np.array([rank[one] for one in strata])))
    if len(order) > HEAT_SAMPLES:
        order = order[np.arange(HEAT_SAMPLES) * len(order) // HEAT_SAMPLES]
    return np.asarray(order)


def heat_rows(matrix: NDArray[np.float32], sample_ids: NDArray[Any], strata: NDArray[Any]) -> pa.Table:
    """A consensus of few samples as a table."""
    part = np.ascontiguousarray(matrix, dtype=np.float32)
    return pa.table(
        {
            names.SAMPLE_ID: pa.array([str(one) for one in sample_ids], pa.string()),
            "stratum": pa.array([str(one) for one in strata], pa.string()),
            # Symmetric: a column is the row of the sample at its place.
            **{f"with_{i + 1}": pa.array(part[i], pa.float32()) for i in range(len(part))},
        }
    )


def principal_table(values: NDArray[np.float64], sample_ids: NDArray[Any]) -> tuple[pa.Table, list[float]]:
    """Components of the chosen features, and their shares of the variance."""
    scores, explained = principal_components(values, N_COMPONENTS)
    table = pd.DataFrame({names.SAMPLE_ID: sample_ids})
    for i in range(scores.shape[1]):
        table[f"component_{i + 1}"] = scores[:, i]
    return arrow(table), [float(one) for one in explained if np.isfinite(one)]


def grouping_tables(
    job: StratifyJob,
    values: NDArray[np.float64],
    labels: NDArray[np.int8],
    null: NDArray[np.float64],
    chosen: Chosen,
    phases: Phases,
) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Judge every k, make the groups, and lay down all tables.

    Parameters
    ----------
    job : StratifyJob
    values : ndarray (n, p)
        In the order of the job's samples.
    labels : ndarray of int8 (resamples, algorithms, k, n)
    null : ndarray (draws, columns)
        Of draws without groups.
    chosen : Chosen
    phases : Phases
        Runs what is judged on the cluster.

    Returns
    -------
    tables : dict
    facts : dict
        For the result's meta.
    """
    recipe, spec = job.recipe, job.spec
    sample_ids = job.source.reader.sample_ids
    ids = np.array(sample_ids, dtype=object)
    # Of few samples it is done before tasks have started.
    judge = cluster_judge(phases, labels, recipe.k) if len(ids) > JUDGE_HERE else None
    wanted = None if spec.choose_k == "auto" else spec.choose_k
    choice = choose_k(values, sample_ids, recipe, labels, null, wanted, judge)
    # The groups are those of the algorithms that found some.
    recipe, labels = choice.trusted(recipe, labels)
    previous = job.previous.labels_of(ids, chosen.ids, values) if job.previous else None
    # One group has no blocks to show: the map shows what two would be.
    heat_k = choice.k if choice.k > 1 else recipe.k[0]
    shown = labels[:, :, recipe.k.index(heat_k)]
    matrix = None
    if len(ids) <= MATRIX_SAMPLES:
        found = strata(values, sample_ids, recipe, labels, choice.k, previous)
        table, ambiguous, matched = found.table, found.ambiguous, found.matched
        matrix = found.matrix if choice.k > 1 else combined_consensus(shown)
    else:
        table, ambiguous, matched = _without_matrix(values, sample_ids, recipe, shown, choice, phases, previous)
    table = table.assign(ambiguous=ambiguous)
    stratum = table["stratum"].to_numpy(dtype=object)
    if choice.k > 1:
        own = table["consensus"].to_numpy()
    elif matrix is not None:
        own = matrix.mean(axis=1, dtype=np.float64)
    else:
        own = mean_support(phases, shown, np.zeros(len(ids), dtype=np.int64), 1)[:, 0]
    order = heat_order(ids, stratum, own, choice.groups[COMBINED, heat_k])
    heat = combined_consensus(np.ascontiguousarray(shown[:, :, order]))
    principal, explained = principal_table(values, ids)
    features = pd.DataFrame({names.FEATURE_ID: chosen.ids, "score": chosen.scores})
    frame = job.source.sheet.loc[list(sample_ids)]
    tables = {
        "table": arrow(table),
        "choice": arrow(choice_table(choice)),
        "cdf": arrow(curve_table(choice)),
        "labels": arrow(label_table(choice, ids, stratum)),
        "features": arrow(features),
        "principal": principal,
        "heat": heat_rows(heat, ids[order], stratum[order]),
        "cross": arrow(agreement_table(frame, spec.compare, stratum)),
        **companion_tables(spec, frame, stratum, chosen.ids, values, stratum, matrix),
    }
    told = grouping_facts(job, choice, table, pairs_never_drawn(labels[:, 0, 0]), heat_k, explained, matched)
    return tables, {**told, "consensus": {"kind": "exact"}}


def _without_matrix(
    values: NDArray[np.float64],
    sample_ids: tuple[str, ...],
    recipe: Recipe,
    labels: NDArray[np.int8],
    choice: Choice,
    phases: Phases,
    previous: Mapping[str, str] | None,
) -> tuple[pd.DataFrame, NDArray[np.bool_], dict[str, int]]:
    """What `strata` gives, from the groups of the choice and means that tasks make."""
    n = len(sample_ids)
    if choice.k == 1:
        groups, separate = np.zeros(n, dtype=np.int64), np.zeros((len(recipe.algorithms), n), dtype=np.int64)
        means, widths = np.ones((n, 1)), np.full(n, np.nan)
    else:
        groups = choice.groups[COMBINED, choice.k]
        separate = np.stack([choice.groups[name, choice.k] for name in recipe.algorithms])
        means = mean_support(phases, labels, groups, choice.k)
        (widths,) = silhouette_widths(values, [groups], recipe.distance)
    table, ambiguous, _, matched = strata_table(
        sample_ids, recipe.algorithms, groups, separate, means, widths, previous
    )
    return table, ambiguous, matched


def grouping_facts(
    job: StratifyJob,
    choice: Choice,
    table: pd.DataFrame,
    never: int,
    heat_k: int,
    explained: list[float],
    matched: dict[str, int],
) -> dict[str, Any]:
    """What a result's meta says of the groups; its warnings go to the job.

    Parameters
    ----------
    job : StratifyJob
    choice : Choice
    table : DataFrame
        The main table.
    never : int
        Pairs of samples that no resample drew together.
    heat_k : int
        The k of the stored consensus.
    explained : list of float
        Shares of the variance of the stored components.
    matched : dict
        `Strata.matched`.
    """
    if never:
        job.warnings.append(
            f"{never:,} pairs of samples were never drawn together, and count as apart: take more `resamples`"
        )
    if choice.k == 1:
        job.warnings.append(f"all samples are in one group, {table['stratum'].iloc[0]}: {choice.reason}")
    return {
        "k": choice.k,
        "chosen": "auto" if job.spec.choose_k == "auto" else "given",
        "reason": choice.reason,
        "p_value": choice.p_value,
        "algorithms": list(choice.algorithms),
        "sizes": {str(name): int(count) for name, count in table["stratum"].value_counts(sort=False).items()},
        "n_core": int(table["core"].sum()),
        "n_ambiguous": int(table["ambiguous"].sum()),
        "n_pairs_never_drawn": never,
        "heat_k": heat_k,
        "explained": explained,
        "matched": matched,
    }


def combined_consensus(labels: NDArray[np.int8]) -> NDArray[np.float32]:
    """Mean consensus of the algorithms, (n, n); labels (resamples, algorithms, n)."""
    total = consensus_matrix(labels[:, 0])
    for a in range(1, labels.shape[1]):
        total += consensus_matrix(labels[:, a])
    return total / np.float32(labels.shape[1])


def choice_table(choice: Choice) -> pd.DataFrame:
    """Criteria of each algorithm and k, a row for k = 1, which none of them measures, and the reason of the choice."""
    one = {"algorithm": COMBINED, "k": 1, "smallest_group": len(next(iter(choice.groups.values())))}
    table = pd.concat([choice.table, pd.DataFrame([one])], ignore_index=True)
    table = table.rename(columns={"relative_gain": "gain"}).astype({"k": np.int64, "smallest_group": np.int64})
    # The rows of all algorithms together last, k = 1 first among them.
    last = (table["algorithm"] == COMBINED).to_numpy()
    place = table["algorithm"].map({name: i for i, name in enumerate(dict.fromkeys(table["algorithm"]))})
    table = table.iloc[np.lexsort((table["k"], place, last))].reset_index(drop=True)
    table["selected"] = (table["algorithm"] == COMBINED) & (table["k"] == choice.k)
    table["reason"] = np.where(table["selected"], choice.reason, "")
    first = ["algorithm", "k", "area", "gain", "pac", "silhouette", "gap", "stability"]
    return table[[*first, *(one for one in table.columns if one not in first)]]


def curve_table(choice: Choice) -> pd.DataFrame:
    """Distribution of the consensus of pairs, 101 points for each algorithm and k."""
    parts = [
        pd.DataFrame({"algorithm": algorithm, "k": k, "x": curve["consensus"], "y": curve["cdf"]})
        for (algorithm, k), curve in choice.curves.items()
    ]
    return pd.concat(parts, ignore_index=True).astype({"k": np.int64})


def label_table(
    choice: Choice,
    sample_ids: NDArray[Any],
    stratum: NDArray[Any],
    placed: dict[int, NDArray[np.int64]] | None = None,
) -> pd.DataFrame:
    """Groups of all algorithms together at each k, named by size; at the chosen k as in the main table.

    `placed` has the groups by k where those of the choice are of landmarks only.
    """
    made = {names.SAMPLE_ID: sample_ids}
    by_k = {k: groups for (algorithm, k), groups in choice.groups.items() if algorithm == COMBINED}
    for k, groups in (by_k if placed is None else placed).items():
        _, first, inverse, counts = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
        rank = np.empty(len(counts), dtype=np.int64)
        rank[np.lexsort((first, -counts))] = np.arange(1, len(counts) + 1)
        named = np.array([f"C{one}" for one in rank], dtype=object)
        made[f"k{k}"] = stratum if k == choice.k else named[inverse]
    return pd.DataFrame(made)


def arrow(frame: pd.DataFrame) -> pa.Table:
    """The frame without its index."""
    return pa.Table.from_pandas(frame, preserve_index=False)
