"""How many groups several assays make together, whether there are any, and which assay may speak."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.stratify.assays import Judged
from sjd_dask.stratify.choose import COMBINED, LEVEL, VOTES, Choice, Null, choose_k
from sjd_dask.stratify.fusion import AssayTable, Floats
from sjd_dask.stratify.recipe import Recipe


@dataclass(frozen=True)
class AssayVerdict:
    """What one assay finds alone.

    Attributes
    ----------
    p_value : float
        Of no groups.
    gap, gap_z : ndarray (n_k,)
        See `sjd_dask.stratify.choose.Choice`.
    trusted : tuple of int
        Algorithms whose groups of this assay are farther apart than cuts of data without groups.
    k : int
        The number of groups it would choose alone.
    """

    p_value: float
    gap: Floats
    gap_z: Floats
    trusted: tuple[int, ...]
    k: int


def assay_verdict(
    assay: AssayTable, sample_ids: Sequence[str], recipe: Recipe, labels: NDArray[np.int8], draws: Floats
) -> AssayVerdict:
    """One assay judged as if there were no other.

    Parameters
    ----------
    assay : AssayTable
    sample_ids : sequence of str (n,)
        Of all samples.
    recipe : Recipe
    labels : ndarray of int8 (R, n_algorithms, n_k, n_assay)
        Rounds of this assay.
    draws : ndarray
        Of `null_statistics`.
    """
    n_algorithms = labels.shape[1]
    # Spectral groups stand in for those of an algorithm: what judges them doesn't ask who made them.
    recipe = replace(recipe, algorithms=recipe.algorithms[:n_algorithms])
    found = choose_k(assay.values, [sample_ids[i] for i in assay.rows], recipe, labels, draws)
    table = found.table[found.table["algorithm"] == COMBINED].set_index("k").loc[list(recipe.k)]
    own = found.table[found.table["trusted"].astype(bool)]["algorithm"].unique()
    trusted = tuple(a for a, name in enumerate(recipe.algorithms) if name in own)
    return AssayVerdict(found.p_value, table["gap"].to_numpy(float), table["gap_z"].to_numpy(float), trusted, found.k)


def speaking(
    verdicts: Sequence[AssayVerdict], assays: Sequence[AssayTable], n: int, n_algorithms: int
) -> list[tuple[int, ...]]:
    """Which algorithms of each assay take part in the consensus.

    Those trusted. An assay that sees no groups stays silent, unless some sample is in no other: then, and where no
    assay sees any, all its algorithms take part.
    """
    heard = np.zeros(n, dtype=bool)
    for verdict, assay in zip(verdicts, assays, strict=True):
        if verdict.trusted:
            heard[assay.rows] = True
    every = tuple(range(n_algorithms))
    return [
        verdict.trusted or (() if heard[assay.rows].all() else every)
        for verdict, assay in zip(verdicts, assays, strict=True)
    ]


@dataclass(frozen=True)
class Separation:
    """How far apart groups are within each assay, for each k.

    Attributes
    ----------
    nats, z, chance : ndarray (n_assays, n_algorithms + 1)
        See `sjd_dask.stratify.choose`; chance is the share of draws without groups that stand out as much.
    """

    nats: Floats
    z: Floats
    chance: Floats


def separation(
    assays: Sequence[AssayTable],
    sample_ids: Sequence[str],
    recipe: Recipe,
    draws: Sequence[Floats],
    groups: NDArray[np.int64],
    j: int,
) -> Separation:
    """How far apart groups of the k number j are in every assay.

    Parameters
    ----------
    groups : ndarray of int64 (n_algorithms + 1, n)
    """
    made = np.zeros((3, len(assays), len(groups)))
    for i, (one, drawn) in enumerate(zip(assays, draws, strict=True)):
        against = Null(one.values, [sample_ids[at] for at in one.rows], recipe, drawn)
        for a, own in enumerate(groups):
            inside = own[one.rows]
            if len(np.unique(inside)) < 2:
                made[2, i, a] = 1.0
                continue
            # Of groups that the assay has nobody of nothing can be said.
            _, inside = np.unique(inside, return_inverse=True)
            made[0, i, a], made[1, i, a] = against.separation(inside, j)
            made[2, i, a] = against.chance(made[1, i, a], j)
    return Separation(*made)


def choose_over_assays(
    judged: Mapping[int, Judged],
    apart: Mapping[int, Separation],
    algorithms: Sequence[str],
    verdicts: Mapping[str, AssayVerdict],
    voices: Sequence[tuple[int, ...]],
    k: int | None = None,
) -> Choice:
    """The number of groups, by the criteria over all assays.

    Parameters
    ----------
    judged, apart : mapping of k
        Ascending.
    algorithms : sequence of str
        Whose groups `judged` has; all together come last.
    verdicts : mapping of assay to AssayVerdict
    voices : sequence of tuple of int
        Of `speaking`.
    k : int, optional
        The user's choice.

    Notes
    -----
    There are no groups (k = 1) where no assay shows any by its own test, at the level divided by their number
    (Bonferroni: assays of the same samples are dependent, and this holds whatever their dependence), or where no assay
    has the groups of any k farther apart than chance, at the same level. Otherwise, of the k that are, the one with the
    best mean rank by silhouette, separation_z and stability as for one assay. Gap and separation are means over the
    assays; silhouettes are of `JointDistances`, stability is of `joined_rounds`.
    """
    sizes, n_assays = list(judged), len(verdicts)
    gap = np.mean([one.gap for one in verdicts.values()], axis=0)
    gap_z = np.mean([one.gap_z for one in verdicts.values()], axis=0)
    p_values = {name: one.p_value for name, one in verdicts.items()}
    p_value = float(min(1.0, min(p_values.values()) * n_assays))
    named = [*algorithms, COMBINED]
    heard = {a for one in voices for a in one}
    rows = []
    for a, algorithm in enumerate(named):
        for j, size in enumerate(sizes):
            own, far = judged[size], apart[size]
            area, earlier = own.curves[a]["area"], judged[sizes[j - 1]].curves[a]["area"] if j else 0.0
            rows.append(
                {
                    "algorithm": algorithm,
                    "k": size,
                    "area": area,
                    "relative_gain": (area - earlier) / earlier if earlier > 0 else area,
                    "pac": own.curves[a]["pac"],
                    "silhouette": float(own.silhouettes[a]),
                    "gap": float(gap[j]),
                    "gap_z": float(gap_z[j]),
                    "stability": float(own.stability[a]),
                    "smallest_group": int(np.bincount(own.groups[a]).min()),
                    "separation": float(far.nats[:, a].mean()),
                    "separation_z": float(far.z[:, a].mean()),
                    "trusted": bool(a in heard or a == len(algorithms)),
                }
            )
    table = pd.DataFrame(rows)
    found = {size: float(min(1.0, apart[size].chance[:, -1].min() * n_assays)) <= LEVEL for size in sizes}
    silent = [name for (name, _), one in zip(verdicts.items(), voices, strict=True) if not one]
    auto, reason = _vote(table[table["algorithm"] == COMBINED], p_value, p_values, found, silent)
    if k is not None:
        would = "would be chosen" if k == auto else f"without that, k = {auto}"
        reason = f"k = {k} was asked for; {would}: {reason}"
    groups, curves = {}, {}
    for a, algorithm in enumerate(named):
        for size in sizes:
            groups[algorithm, size] = judged[size].groups[a]
            curves[algorithm, size] = judged[size].curves[a]
    return Choice(auto if k is None else k, reason, table, p_value, groups, curves, tuple(algorithms))


def _vote(
    table: pd.DataFrame, p_value: float, p_values: Mapping[str, float], found: Mapping[int, bool], silent: list[str]
) -> tuple[int, str]:
    each = ", ".join(f"{name} {one:.3g}" for name, one in p_values.items())
    test = (
        f"p = {p_value:.3g} for no groups ({len(p_values)} times the smallest p of the assays: {each}; level {LEVEL:g})"
    )
    if p_value > LEVEL:
        return 1, f"no groups: {test}."
    if not any(found.values()):
        return 1, f"no groups: {test}, but no k gives groups that are farther apart than chance within an assay."
    table = table[[found[k] for k in table["k"]]]
    sizes = table["k"].to_numpy()
    ranks, best = np.zeros(len(sizes)), []
    for name in VOTES:
        column = table[name].round(6).fillna(-np.inf)
        ranks += (-column).rank(method="average").to_numpy()
        best.append(f"{int(sizes[np.argmax(column)])} ({name.removesuffix('_z')})")
    ranks /= len(VOTES)
    at = int(np.lexsort((-table["separation_z"].to_numpy(), ranks.round(9)))[0])
    row = table.iloc[at]
    return int(sizes[at]), (
        f"{test}; k = {int(sizes[at])} has the best mean rank ({ranks[at]:.2f}): silhouette {row['silhouette']:.3f}, "
        f"separation {row['separation_z']:.1f} standard deviations of the null, stability {row['stability']:.3f}, over "
        f"the assays. Each alone would choose k = {', '.join(best)}."
        + (f" {', '.join(silent)} took no part: alone, nothing in it stands apart." if silent else "")
    )
