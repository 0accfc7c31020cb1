"""One night as data, and what the next one has to do: two nights compared, sample by sample."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names


@dataclass(frozen=True)
class Rules:
    """What decides besides the data and the model.

    Attributes
    ----------
    model_hash : str
        Hash of the bundle.
    eligible : str
        The query.
    margin : float
        Of the hysteresis.
    """

    model_hash: str
    eligible: str
    margin: float


@dataclass(frozen=True)
class Night:
    """One night as it was, or will be, published.

    Attributes
    ----------
    calls : DataFrame
        Index: sample ids; the columns of `classes/NAME`.
    state : DataFrame
        Index: sample ids, the same ones: `row_hash`, `sheet_hash`, `eligible`.
    reported : DataFrame
        The table `reported/NAME`.
    rules : Rules
    files : tuple of (name, digest)
        What the night took from the inbox, or put aside.
    n_published : int
        Samples when it was published. Whoever withdrew since then is in none of the tables any more.
    """

    calls: pd.DataFrame
    state: pd.DataFrame
    reported: pd.DataFrame
    rules: Rules
    files: tuple[tuple[str, str], ...] = ()
    n_published: int = 0


@dataclass
class ToDo:
    """What differs from the night before.

    Attributes
    ----------
    score : list of str
        Eligible samples whose numbers must be computed.
    gone : int
        Samples of the night before that the assay doesn't hold any more.
    sheet : bool
        Whether persons, visits, dates or eligibility of known samples differ.
    rules : bool
        Whether the eligibility query or the margin changed.
    """

    score: list[str] = field(default_factory=list)
    gone: int = 0
    sheet: bool = False
    rules: bool = False
    new: int = 0

    @property
    def nothing(self) -> bool:
        """Whether the night before says all there is to say."""
        return not (self.score or self.gone or self.sheet or self.rules or self.new)


def sheet_hashes(frame: pd.DataFrame, columns: Sequence[str]) -> pd.Series[Any]:
    """A hash of the sample columns that the chain needs, for each sample; empty where it needs none."""
    if not columns:
        return pd.Series("", index=frame.index, dtype=object)
    table = frame.reindex(columns=list(columns)).astype(object)
    table = table.where(table.notna(), None)
    # Few different rows, such as batches, in many samples.
    groups = table.groupby(list(columns), dropna=False, sort=False).ngroup().to_numpy()
    first = np.unique(groups, return_index=True)[1]
    rows = table.iloc[first].itertuples(index=False, name=None)
    made = [hashlib.blake2b(json.dumps(row, default=str).encode(), digest_size=8).hexdigest() for row in rows]
    return pd.Series(np.array(made, dtype=object)[groups], index=frame.index, dtype=object)


def find_work(now: pd.DataFrame, sheet: pd.DataFrame, rules: Rules, before: Night | None) -> ToDo:
    """What a night has to do.

    Parameters
    ----------
    now : DataFrame
        Index: sample ids; `row_hash`, `sheet_hash`, `eligible`.
    sheet : DataFrame
        Index: the same; `person_id`, `visit`, `date`, as far as they are there.
    rules : Rules
    before : Night, optional
        The last published one.
    """
    eligible = now["eligible"].to_numpy(dtype=bool)
    if before is None:
        return ToDo(score=list(now.index[eligible]), new=len(now), rules=True)
    earlier = before.state.reindex(now.index)
    known = earlier["row_hash"].notna().to_numpy()
    was = earlier["eligible"].eq(True).to_numpy(dtype=bool)
    same = known & was & equal(now["row_hash"], earlier["row_hash"]) & equal(now["sheet_hash"], earlier["sheet_hash"])
    if rules.model_hash != before.rules.model_hash:
        same[:] = False
    gone = len(before.state.index.difference(now.index)) + max(0, before.n_published - len(before.state))
    shown = before.calls.reindex(now.index)
    moved = np.zeros(len(now), dtype=bool)
    for name in (names.PERSON_ID, names.VISIT, names.DATE):
        moved |= ~equal(column(sheet, name), column(shown, name))
    return ToDo(
        score=list(now.index[eligible & ~same]),
        gone=gone,
        sheet=bool((known & (moved | (was != eligible))).any()),
        rules=(rules.eligible, rules.margin) != (before.rules.eligible, before.rules.margin),
        new=int((~known).sum()),
    )


def column(frame: pd.DataFrame, name: str) -> pd.Series[Any]:
    return frame[name] if name in frame else pd.Series(None, index=frame.index, dtype=object)


def equal(one: pd.Series[Any], other: pd.Series[Any]) -> NDArray[np.bool_]:
    """Where two columns say the same, whatever their types; missing equals missing."""
    if one.dtype.kind == "f" and other.dtype.kind == "f":
        mine, yours = one.to_numpy(), other.to_numpy()
        return np.asarray((mine == yours) | (np.isnan(mine) & np.isnan(yours)))
    mine, yours = one.astype(object).to_numpy(), other.astype(object).to_numpy()
    return np.asarray((mine == yours) | (pd.isna(mine) & pd.isna(yours)), dtype=bool)
