"""Counts of people for a page that names nobody: what few people share is left out, also from sums."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from sjd_dask.clinical.few_people import hide_small

BINS = 20
WIDTHS = (0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Counted:
    """How many people gave each answer.

    Attributes
    ----------
    title : str
    counts : dict
        Answer -> people; None where that is not told.
    untold : int or None
        People whose answer is not told; None where even their sum is not.
    """

    title: str
    counts: dict[str, int | None]
    untold: int | None


@dataclass(frozen=True)
class Histogram:
    """Known values of a score.

    Attributes
    ----------
    edges : list of float
        One more than the heights.
    heights : list of int or None
        People in each bin; None where that is not told.
    known, unknown : int or None
        People whose score is known, and is open.
    quartiles : tuple of float
        Lower quartile, median, upper quartile.
    """

    edges: list[float]
    heights: list[int | None]
    known: int | None
    unknown: int | None
    quartiles: tuple[float, float, float]


def count_answers(title: str, answers: pd.Series, below: int) -> Counted:
    """The answers of a column, most frequent first; missing ones are left out."""
    counts = answers.dropna().astype(object).value_counts()
    return _told(title, [str(one) for one in counts.index], counts.to_numpy()[None, :], below)[0]


def count_by_group(answers: pd.Series, groups: pd.Series, below: int) -> list[Counted]:
    """The answers of all, then of each group, groups by name: no row of the one gives the other away."""
    table = pd.crosstab(groups.astype(object), answers.astype(object))
    rows = _told("", [str(one) for one in table.columns], table.to_numpy(), below, with_sum=True)
    titles = [*map(str, table.index), "all"]
    named = [Counted(title, one.counts, one.untold) for title, one in zip(titles, rows, strict=True)]
    return [named[-1], *named[:-1]]


def count_values(values: np.ndarray, most: float, below: int) -> Histogram | None:
    """A histogram of those values (n,) that are known; None for too few of them.

    Bins have a round width; a value on an edge belongs to the bin above it.
    """
    known = values[~np.isnan(values)]
    if len(known) < max(below, 1):
        return None
    reach = min(most, max(float(known.max()), 1.0))
    width = next((one for one in WIDTHS if reach / one <= BINS), WIDTHS[-1])
    edges = np.arange(int(reach // width) + 2) * width
    heights, _ = np.histogram(known, bins=edges)
    told = _told("", [str(i) for i in range(len(heights))], heights[None, :], below)[0]
    both = count_answers("", pd.Series(np.where(np.isnan(values), "open", "known")), below).counts
    low, middle, high = np.quantile(known, [0.25, 0.5, 0.75])
    return Histogram(
        edges.tolist(), list(told.counts.values()), both.get("known", 0), both.get("open", 0),
        (float(low), float(middle), float(high)),
    )  # fmt: skip


def _told(
    title: str, answers: Sequence[str], counts: np.ndarray, below: int, *, with_sum: bool = False
) -> list[Counted]:
    """Each row of counts (rows, answers) without what few people share; with the sum of the rows as the last."""
    if not counts.size:
        return [Counted(title, {}, 0) for _ in range(len(counts) + with_sum)]
    veil = hide_small(counts.astype(np.int64), below)
    lines = np.vstack([counts, counts.sum(axis=0)]) if with_sum else counts
    rows = []
    for line, hidden in zip(lines.tolist(), veil.tolist(), strict=False):
        told = {answer: None if out else n for answer, n, out in zip(answers, line, hidden, strict=False)}
        untold = None if hidden[-1] else sum(n for n, out in zip(line, hidden, strict=False) if out)
        rows.append(Counted(title, told, untold))
    return rows
