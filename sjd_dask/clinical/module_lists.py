"""Gene modules: the lists, a user's GMT file, and their members among the features of an assay, old names too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import sparse

from sjd_dask import names
from sjd_dask.clinical.definitions import Overrides, load_definition
from sjd_dask.errors import DataError

TYPE_I = "interferon type I"
EXPRESSION, METHYLATION = "expression", "methylation"


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
    renamed : tuple of str
        ``GENE as ALIAS`` for genes that were found by another name only.
    """

    names: tuple[str, ...]
    features: NDArray[np.int64]
    weights: sparse.csc_matrix
    table: pd.DataFrame
    renamed: tuple[str, ...] = ()


def built_in(values: str, definitions: Overrides | None = None) -> dict[str, tuple[tuple[str, ...], int]]:
    """Members and sign of the modules of the definition for a kind of values, ``expression`` or ``methylation``."""
    entries = load_definition("modules", definitions)["modules"]
    return {
        name: (tuple(map(str, entry["genes"])), int(entry["sign"]))
        for name, entry in entries.items()
        if entry["values"] == values
    }


def high_by(definitions: Overrides | None = None) -> float:
    """By how many standard deviations above the healthy mean a score is high."""
    return float(load_definition("modules", definitions)["rules"]["high"]["value"])


def aliases(definitions: Overrides | None = None) -> dict[str, tuple[str, ...]]:
    """Other names of genes, by each of their names."""
    found: dict[str, tuple[str, ...]] = {}
    for name, entry in load_definition("modules", definitions)["aliases"].items():
        both = [str(name), *map(str, entry["others"])]
        for one in both:
            found[one] = tuple(other for other in both if other != one)
    return found


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


def modules_of(
    scale: str, given: Mapping[str, Sequence[str]], definitions: Overrides | None = None
) -> dict[str, tuple[tuple[str, ...], int, bool]]:
    """Members, sign, and whether gene symbols are matched, of each module for values of this kind.

    Methylation of a gene's sites doesn't say how active it is: there a user's set is matched by feature id only.
    """
    methylation = scale in (names.BETA, names.M_VALUE, METHYLATION)
    shipped = built_in(METHYLATION if methylation else EXPRESSION, definitions)
    found = {name: (members, sign, True) for name, (members, sign) in shipped.items()}
    found |= {name: (tuple(members), 1, not methylation) for name, members in given.items()}
    return found


def match_modules(
    modules: Mapping[str, tuple[tuple[str, ...], int, bool]],
    feature_ids: NDArray[Any],
    symbols: NDArray[Any] | None,
    usable: NDArray[np.bool_] | None = None,
    definitions: Overrides | None = None,
) -> MatchedModules:
    """Find the members of modules among features, by feature id and by gene symbol, else by another name of the gene.

    Parameters
    ----------
    modules : mapping
        Name -> (members, sign, whether symbols count), see `modules_of`.
    feature_ids : ndarray of str (p,)
    symbols : ndarray of str (p,), optional
        Gene symbol of each feature; missing where it has none.
    usable : ndarray of bool (p,), optional
        Features that may be used; a gene whose features all may not counts as not matched.
    definitions : mapping, optional
        ``modules`` says which names mean one gene.
    """
    places: dict[str, list[int]] = {}
    by_symbol: dict[str, list[int]] = {}
    others = aliases(definitions)
    wanted = {one for members, _, _ in modules.values() for one in members}
    wanted |= {other for one in wanted for other in others.get(one, ())}
    for i, name in enumerate(feature_ids):
        if usable is None or usable[i]:
            if name in wanted:
                places.setdefault(str(name), []).append(i)
            if symbols is not None and symbols[i] in wanted:
                by_symbol.setdefault(str(symbols[i]), []).append(i)
    rows: list[tuple[str, int, int, int, str]] = []
    kept: list[str] = []
    renamed: dict[str, None] = {}
    entries: list[tuple[int, int, float]] = []
    for name, (members, sign, with_symbols) in modules.items():
        # Two names of one gene in a set are one gene.
        genes = list({min(one, *others.get(one, ())) if one in others else one: one for one in members[::-1]}.values())
        genes = [one for one in members if one in set(genes)]
        matched: dict[str, list[int]] = {}
        for one in genes:
            for known in (one, *others.get(one, ())):
                where = places.get(known, []) or (by_symbol.get(known, []) if with_symbols else [])
                if where:
                    matched[one] = where
                    if known != one:
                        renamed[f"{one} as {known}"] = None
                    break
        n_features = sum(map(len, matched.values()))
        missing = [one for one in genes if one not in matched]
        rows.append((name, len(genes), len(matched), n_features, ", ".join(missing)))
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
    return MatchedModules(tuple(kept), features, weights, table, tuple(renamed))
