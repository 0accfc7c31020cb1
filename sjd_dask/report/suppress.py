"""Counts of few people are not shown: neither themselves nor by subtraction from a total."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import TypeVar

from sjd_dask.report.format import count

Key = TypeVar("Key", bound=Hashable)


def suppress(counts: Mapping[Key, int], below: int) -> tuple[dict[Key, int | None], int | None]:
    """Counts that add up to a total, without those of few.

    Parameters
    ----------
    counts : mapping
        Counts that don't overlap.
    below : int
        Counts from 1 to ``below - 1`` are left out; 0 and 1 leave all in.

    Returns
    -------
    shown : dict
        The same keys; None where a count is left out. Where one count alone would be left out, the smallest of the
        others is too: else it is the total less what is shown.
    total : int or None
        None where nothing else would hide what is left out.
    """
    total = sum(counts.values())
    hidden = {key for key, n in counts.items() if 0 < n < below}
    others = [key for key, n in counts.items() if n > 0 and key not in hidden]
    if len(hidden) == 1 and others:
        hidden.add(min(others, key=lambda key: counts[key]))
    shown = {key: None if key in hidden else n for key, n in counts.items()}
    return shown, None if hidden and (len(hidden) == 1 or total < below) else total


def shown(value: int | None, below: int) -> str:
    """A count as text, or that it isn't shown."""
    return count(value) if value is not None else f"fewer than {below}, or hidden beside such a count"


def short(value: int | None) -> str:
    """As :func:`shown`, for a cell of a table whose note explains the mark."""
    return count(value) if value is not None else "*"
