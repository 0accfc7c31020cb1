"""Whether samples that belong together fall into one group: visits of a person, replicates of a specimen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.stratify.clinic import visit_order
from sjd_dask.stratify.draws import id_keys, ranking

ROUNDS = 999
_PURPOSE = 11
# Groups dealt anew among all samples, and within what else is known of them.
_KINDS = ("", "_within_kind")
_NUMBERS = ("chance", "kappa", "p_value")


def agreement_within(
    groups: pd.Series, units: pd.Series, kinds: pd.Series | None = None, *, seed: int = 1, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Share of pairs of one unit (person, specimen) that are in one group, against chance.

    Parameters
    ----------
    groups : Series
        Group of each sample; index sample ids.
    units : Series
        Unit of each sample; those without one, and units of one sample, say nothing by themselves.
    kinds : Series, optional
        What is known of the samples beside the groups, such as who is healthy.
    seed, rounds : int

    Returns
    -------
    dict
        ``n_units``, ``n_samples``, ``n_pairs``, ``agreement`` (mean over units of the share of their pairs); ``chance``
        (its mean over draws that deal the groups anew among all samples), ``chance_95`` (their 95 % quantile),
        ``kappa`` = (agreement - chance) / (1 - chance), ``p_value`` (of so large an agreement by chance); and the same
        where groups are dealt anew within each kind only, so that being healthy is no stability:
        ``chance_within_kind``, ``kappa_within_kind``, ``p_value_within_kind``.
    """
    samples = pd.DataFrame({"group": groups, "unit": units.reindex(groups.index)}).sort_index()
    samples["kind"] = "" if kinds is None else kinds.reindex(samples.index).astype(str)
    paired = (samples["unit"].notna() & samples["unit"].duplicated(keep=False)).to_numpy()
    if not paired.any():
        numbers = dict.fromkeys(
            (*(f"{one}{at}" for at in _KINDS for one in _NUMBERS), "agreement", "chance_95"), np.nan
        )
        return {"n_units": 0, "n_samples": 0, "n_pairs": 0, **numbers}
    unit, n_units = _codes(samples["unit"][paired])
    group, n_groups = _codes(samples["group"])
    kind, _ = _codes(samples["kind"])
    sizes = np.bincount(unit, minlength=n_units)
    pairs = sizes * (sizes - 1) / 2
    keys = id_keys([str(one) for one in samples.index])
    places = np.argsort(kind, kind="stable")

    def share(codes: NDArray[np.int64]) -> float:
        at = unit * n_groups + codes[paired]
        counts = np.bincount(at, minlength=n_units * n_groups).reshape(n_units, n_groups)
        return float(((counts * (counts - 1) / 2).sum(axis=1) / pairs).mean())

    seen = share(group)
    drawn, dealt = np.empty((2, rounds)), np.empty_like(group)
    for i in range(rounds):
        order = ranking(keys, seed, _PURPOSE, i)
        dealt[places] = group[order[np.argsort(kind[order], kind="stable")]]
        drawn[:, i] = share(group[order]), share(dealt)
    found: dict[str, Any] = {
        "n_units": n_units, "n_samples": int(paired.sum()), "n_pairs": int(pairs.sum()), "agreement": seen,
    }  # fmt: skip
    for at, own in zip(_KINDS, drawn, strict=True):
        chance = float(own.mean())
        found[f"chance{at}"] = chance
        if not at:
            found["chance_95"] = float(np.quantile(own, 0.95))
        found[f"kappa{at}"] = (seen - chance) / (1 - chance) if chance < 1 else np.nan
        found[f"p_value{at}"] = float((1 + (own >= seen - 1e-12).sum()) / (1 + rounds))
    return found


def transitions(groups: pd.Series, persons: pd.Series, visits: pd.Series | None) -> pd.DataFrame:
    """Samples of a person one after another: from which group to which.

    Parameters
    ----------
    groups, persons : Series
        Index sample ids.
    visits : Series or None
        What orders a person's samples; without it their ids.

    Returns
    -------
    DataFrame
        ``from``, ``to``, ``n``, ``share`` (of those that come from `from`), ``chance`` (share of `to` among all that
        follow).
    """
    columns = ["from", "to", "n", "share", "chance"]
    known = pd.DataFrame({"group": groups, "person": persons.reindex(groups.index)}).dropna().sort_index()
    if visits is not None:
        known = known.iloc[np.argsort(visit_order(visits.reindex(known.index)), kind="stable")]
    known = known.sort_values("person", kind="stable")
    following = known["group"].shift(-1).where(known["person"].shift(-1) == known["person"])
    moves = pd.DataFrame({"from": known["group"], "to": following}).dropna()
    if moves.empty:
        return pd.DataFrame(columns=columns).astype({"n": np.int64, "share": float, "chance": float})
    counts = moves.groupby(["from", "to"]).size().rename("n").reset_index()
    counts["share"] = counts["n"] / counts.groupby("from")["n"].transform("sum")
    counts["chance"] = counts["to"].map(moves["to"].value_counts(normalize=True))
    return counts[columns]


def _codes(values: pd.Series) -> tuple[NDArray[np.int64], int]:
    codes, levels = pd.factorize(values.astype(str), sort=True)
    return np.asarray(codes, dtype=np.int64), len(levels)
