"""Groups found again in a cohort: Ward's tree, names by rule, and the multinomial model that knows them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.kernels.grouping import cut_merges, rand_indices
from sjd_dask.kernels.linkage import MOST_SQUARE, WARD, tree_of
from sjd_dask.kernels.multinomial import class_probabilities, fit_multinomial

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def keys_of(ids: Sequence[object]) -> NDArray[np.uint64]:
    """A number for each id that hangs on the id alone, (n,)."""
    digests = b"".join(hashlib.blake2b(str(one).encode(), digest_size=8).digest() for one in ids)
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def chosen_rows(ids: Sequence[object], rows: Ints, most: int) -> Ints:
    """The rows to fit on, in the order of their ids; those of the least keys where there are more than `most`."""
    names = np.array([str(ids[i]) for i in rows], dtype=object)
    keys = keys_of(names)
    order = np.lexsort((names.astype(str), keys))[:most]
    kept = rows[order]
    return kept[np.argsort(names[order].astype(str), kind="stable")]


def ward_groups(points: Floats, k: int) -> Ints:
    """Groups 0..k-1 of points (n, p) by Ward's criterion on Euclidean distances, in order of their first member."""
    from scipy.cluster.hierarchy import linkage
    from scipy.spatial.distance import pdist, squareform

    n = len(points)
    triangle = pdist(points)
    if n <= MOST_SQUARE:
        merges = tree_of(squareform(triangle), np.arange(n), WARD)[0]
    else:
        merges = linkage(triangle, method="ward")[:, :2].astype(np.int64)
    return cut_merges(merges, np.array([k]))[0].astype(np.int64)


@dataclass(frozen=True)
class Named:
    """Names of groups, and how each came by its name.

    Attributes
    ----------
    names : tuple of str (k,)
    how : tuple of dict (k,)
        ``group``, ``rule`` (the sum that was looked at), ``value``, and ``named`` (False: no rule fits).
    """

    names: tuple[str, ...]
    how: tuple[dict[str, Any], ...]


def name_groups(centres: pd.DataFrame, sizes: Sequence[int], rules: Sequence[Mapping[str, Any]]) -> Named:
    """Names for groups, by rules on their centres.

    Parameters
    ----------
    centres : DataFrame (k, items)
        Centre of each group, in standard deviations from the cohort's mean.
    sizes : sequence of int (k,)
    rules : sequence of mapping
        In order: ``group`` the name, ``of`` weights of items, ``pick`` lowest or highest among the groups without a
        name, ``must_be`` below or above 0. Rules whose items are absent fit nothing.

    Returns
    -------
    Named
        Groups that no rule fits are ``group 1``, ``group 2``... from the largest.
    """
    names: dict[int, str] = {}
    how: dict[int, dict[str, Any]] = {}
    for rule in rules:
        free = [g for g in range(len(centres)) if g not in names]
        weights = {item: float(weight) for item, weight in rule["of"].items()}
        if not free or not set(weights) <= set(centres.columns):
            continue
        total = sum(abs(one) for one in weights.values())
        value = sum(centres[item].to_numpy() * weight for item, weight in weights.items()) / total
        if rule["pick"] not in ("lowest", "highest") or rule["must_be"] not in ("below", "above"):
            raise SpecError(f"the naming rule of {rule['group']!r} wants pick: lowest|highest and must_be: below|above")
        own = min(free, key=lambda g: value[g] if rule["pick"] == "lowest" else -value[g])
        if value[own] < 0 if rule["must_be"] == "below" else value[own] > 0:
            names[own] = str(rule["group"])
            how[own] = {"rule": f"{rule['pick']} of {_sum_text(weights)}", "value": float(value[own]), "named": True}
    rest = sorted((g for g in range(len(centres)) if g not in names), key=lambda g: (-sizes[g], g))
    for number, g in enumerate(rest, start=1):
        names[g] = f"group {number}"
        how[g] = {"rule": "no naming rule fits", "value": None, "named": False}
    return Named(
        tuple(names[g] for g in range(len(centres))),
        tuple({"group": names[g], **how[g]} for g in range(len(centres))),
    )


def _sum_text(weights: Mapping[str, float]) -> str:
    if len({abs(one) for one in weights.values()}) == 1:
        parts = [("- " if weight < 0 else "+ ") + item for item, weight in weights.items()]
        return " ".join(parts).removeprefix("+ ")
    return " + ".join(f"{weight:g} {item}" for item, weight in weights.items())


@dataclass(frozen=True)
class Fitted:
    """Groups and the model that knows them.

    Attributes
    ----------
    groups : ndarray of int64 (n,)
        Of the tree.
    coefficients : ndarray (p + 1, k)
        Slopes and intercepts on the points.
    agreement, held_out : float
        Share of the persons whose most probable group is the tree's; the same, each by a model fitted on the others.
    """

    groups: Ints
    coefficients: Floats
    agreement: float
    held_out: float


def fit_groups(points: Floats, ids: Sequence[object], k: int, *, ridge: float, folds: int) -> Fitted:
    """Ward's groups of points, and a multinomial logistic model of them.

    Parameters
    ----------
    points : ndarray (n, p)
        Standardised values, or coordinates.
    ids : sequence (n,)
        Deal the persons to folds.
    k : int
    ridge : float
        See `sjd_dask.kernels.multinomial.fit_multinomial`.
    folds : int
    """
    groups = ward_groups(points, k)
    coefficients = fit_multinomial(points, groups, k, ridge)
    top = class_probabilities(points, coefficients).argmax(axis=1)
    fold = np.empty(len(points), dtype=np.int64)
    fold[np.argsort(keys_of(ids), kind="stable")] = np.arange(len(points)) % folds
    right = 0
    for one in range(folds):
        apart = fold == one
        there = fit_multinomial(points[~apart], groups[~apart], k, ridge)
        right += int((class_probabilities(points[apart], there).argmax(axis=1) == groups[apart]).sum())
    return Fitted(groups, coefficients, float((top == groups).mean()), right / len(points))


def split_half(points: Floats, ids: Sequence[object], k: int, *, ridge: float, splits: int) -> float:
    """How alike the groups are that are found in two halves of the persons: 1 the same, about 0 by chance.

    Parameters
    ----------
    points, ids, k, ridge
        As in `fit_groups`.
    splits : int
        How often the persons are dealt to halves, by their ids.

    Returns
    -------
    float
        Mean adjusted Rand index between the groups of a half and those that the other half's model gives its persons.
    """
    found = []
    for split in range(splits):
        order = np.argsort(keys_of([f"{split} {one}" for one in ids]), kind="stable")
        middle = len(order) // 2
        halves = [points[np.sort(order[:middle])], points[np.sort(order[middle:])]]
        groups = [ward_groups(half, k) for half in halves]
        for own, other in ((0, 1), (1, 0)):
            model = fit_multinomial(halves[own], groups[own], k, ridge)
            told = class_probabilities(halves[other], model).argmax(axis=1).astype(np.int8)
            found.append(float(rand_indices(told[None, :], groups[other])[0]))
    return float(np.mean(found))


def halves(points: Floats, ids: Sequence[object], rules: Mapping[str, Any]) -> dict[str, Any]:
    """``split_half``, and ``warnings`` where groups that are found in one half aren't those of the other."""
    alike = split_half(points, ids, rules["n_groups"], ridge=rules["ridge"], splits=rules["splits"])
    warnings = []
    if alike < rules["alike"]:
        warnings.append(
            f"groups of one half of the persons are not those of the other (adjusted Rand index {alike:.2f}, below "
            f"{rules['alike']:g}): people may lie on a continuum, and the groups be arbitrary cuts of it"
        )
    return {"split_half": alike, "warnings": warnings}


def enough(n: int, least: int, what: str, n_rows: int) -> None:
    """Refuse to find groups among too few persons.

    Raises
    ------
    DataError
    """
    if n < least:
        raise DataError(
            f"{n} persons {what}, of {n_rows} rows of the sheet, and finding groups again asks for {least} at least: "
            "take a larger cohort, give a model that was fitted on one (`--model`), or lower `least_persons` in the "
            "definition"
        )
