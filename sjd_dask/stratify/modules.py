"""Scores of gene modules: how far the genes of a set lie from the healthy, in their standard deviations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from sjd_dask import names
from sjd_dask.errors import DataError

Floats = NDArray[np.float64]

# Short interferon lists. Type I and II, and the methylation version (CpGs of its genes; lower methylation is higher
# activity, so it is turned): published lists of the field. The form of the score is general knowledge.
BUILT_IN: dict[str, tuple[str, ...]] = {
    "interferon type I": ("IFI44", "IFI44L", "IFIT1", "IFIT3", "MX1"),
    "interferon type II": ("GBP1", "CXCL9"),
}
BUILT_IN_METHYLATION: dict[str, tuple[str, ...]] = {"interferon (methylation, turned)": ("RSAD2", "IFIT1", "IFI44L")}
TYPE_I = "interferon type I"
# A score needs values of this share of its genes.
LEAST_KNOWN = 0.5
# Above the healthy mean by so many of their standard deviations is high (as published for the methylation score).
HIGH = 2.0


@dataclass(frozen=True)
class MatchedModules:
    """Modules as weights over features.

    Attributes
    ----------
    names : tuple of str (m,)
    features : ndarray of int64 (f,)
        Positions of the features that any module uses, rising.
    weights : sparse matrix (f, m)
        Features of a gene share its weight, genes weigh the same; negative where low values mean high activity.
    table : DataFrame
        ``module``, ``n_genes``, ``n_matched``, ``n_features``, ``missing``; one row a module, those without a
        match too.
    """

    names: tuple[str, ...]
    features: NDArray[np.int64]
    weights: sparse.csc_matrix
    table: pd.DataFrame


def read_gmt(text: str, where: str) -> dict[str, tuple[str, ...]]:
    """Gene sets of a GMT file: name, description and members, by tabs.

    Raises
    ------
    DataError
        A line without members, or a name twice.
    """
    found: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, *rest = (cell.strip() for cell in line.split("\t"))
        members = tuple(dict.fromkeys(cell for cell in rest[1:] if cell))
        if not name or not members:
            raise DataError(
                f"{where}, line {number}: a GMT line holds a name, a description and at least one member, separated "
                f"by tabs; this one has {len(rest) + 1} cells"
            )
        if name in found:
            raise DataError(f"{where}, line {number}: there are two sets of the name {name!r}; rename one of them")
        found[name] = members
    if not found:
        raise DataError(f"{where} holds no gene set")
    return found


def modules_of(scale: str, given: Mapping[str, Sequence[str]]) -> dict[str, tuple[tuple[str, ...], int, bool]]:
    """Members, sign, and whether gene symbols are matched, of each module for values of this kind.

    Methylation of a gene's sites doesn't say how active it is: there a user's set is matched by feature id only.
    """
    methylation = scale in (names.BETA, names.M_VALUE)
    built_in = BUILT_IN_METHYLATION if methylation else BUILT_IN
    found = {name: (members, -1 if methylation else 1, True) for name, members in built_in.items()}
    found |= {name: (tuple(members), 1, not methylation) for name, members in given.items()}
    return found


def match_modules(
    modules: Mapping[str, tuple[tuple[str, ...], int, bool]],
    feature_ids: NDArray[Any],
    symbols: NDArray[Any] | None,
    usable: NDArray[np.bool_] | None = None,
) -> MatchedModules:
    """Find the members of modules among features, by feature id and by gene symbol.

    Parameters
    ----------
    modules : mapping
        Name -> (members, sign, whether symbols count), see `modules_of`.
    feature_ids : ndarray of str (p,)
    symbols : ndarray of str (p,), optional
        Gene symbol of each feature; missing where it has none.
    usable : ndarray of bool (p,), optional
        Features that may be used; a gene whose features all may not counts as not matched.
    """
    places: dict[str, list[int]] = {}
    by_symbol: dict[str, list[int]] = {}
    wanted = {one for members, _, _ in modules.values() for one in members}
    for i, name in enumerate(feature_ids):
        if usable is None or usable[i]:
            if name in wanted:
                places.setdefault(str(name), []).append(i)
            if symbols is not None and symbols[i] in wanted:
                by_symbol.setdefault(str(symbols[i]), []).append(i)
    rows: list[tuple[str, int, int, int, str]] = []
    kept: list[str] = []
    entries: list[tuple[int, int, float]] = []
    for name, (members, sign, with_symbols) in modules.items():
        genes = {one: places.get(one, []) or (by_symbol.get(one, []) if with_symbols else []) for one in members}
        matched = {one: where for one, where in genes.items() if where}
        n_features = sum(map(len, matched.values()))
        missing = [one for one in members if one not in matched]
        rows.append((name, len(members), len(matched), n_features, ", ".join(missing)))
        if matched:
            for where in matched.values():
                entries += [(i, len(kept), sign / len(matched) / len(where)) for i in where]
            kept.append(name)
    features = np.array(sorted({i for i, _, _ in entries}), dtype=np.int64)
    place = {int(i): at for at, i in enumerate(features)}
    data = [weight for _, _, weight in entries]
    at = ([place[i] for i, _, _ in entries], [j for _, j, _ in entries])
    weights = sparse.csc_matrix((data, at), shape=(len(features), len(kept)), dtype=np.float64)
    table = pd.DataFrame(rows, columns=["module", "n_genes", "n_matched", "n_features", "missing"])
    return MatchedModules(tuple(kept), features, weights, table)


def module_scores(values: Floats, mean: Floats, sd: Floats, weights: sparse.csc_matrix) -> Floats:
    """Mean over genes of (x - mean of the healthy) / SD of the healthy.

    Parameters
    ----------
    values : ndarray (n, f)
        Features of the modules; NaN is missing.
    mean, sd : ndarray (f,)
        Of the healthy.
    weights : sparse matrix (f, m)

    Returns
    -------
    ndarray (n, m)
        Over the genes that are known; NaN where less than half of the weight is.
    """
    z = (values - mean) / sd
    known = np.isfinite(z)
    weight = known.astype(np.float64) @ abs(weights)
    with np.errstate(invalid="ignore", divide="ignore"):
        scores = (np.where(known, z, 0.0) @ weights) / weight
    scores[weight < LEAST_KNOWN - 1e-12] = np.nan
    return np.asarray(scores)


def spread_of(values: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    """Mean, standard deviation, and whether that is a measure of spread, of the features of healthy samples.

    A feature of which more than half of the values are one (at the floor of the instrument) has a standard deviation
    that some few samples make: a score in its units would be of any size.

    Parameters
    ----------
    values : ndarray (n, f)

    Returns
    -------
    mean, sd : ndarray (f,)
    usable : ndarray of bool (f,)
    """
    known = np.isfinite(values)
    n = known.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(known, values, 0.0).sum(axis=0) / n
        centred = np.where(known, values - mean, 0.0)
        sd = np.sqrt((centred**2).sum(axis=0) / (n - 1))
    usable = (n >= 2) & np.isfinite(sd) & (sd > 0)
    for j in np.flatnonzero(usable):
        own = values[known[:, j], j]
        usable[j] = np.median(np.abs(own - np.median(own))) > 0
    return mean, sd, usable
