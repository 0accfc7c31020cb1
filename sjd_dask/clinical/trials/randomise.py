"""Stratified randomisation lists: permuted blocks whose every place hangs on the seed and the stratum alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from itertools import product
from math import gcd
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask.errors import SpecError

# Level of a person whose stratum isn't known.
UNKNOWN = "unknown"
_MOST_PLACES = 2_000_000
# Columns of the list and of its balance: neither a stratum's column nor an arm has such a name.
_OF_LIST = ("stratum", "sequence", "number", "block", "block_size", "arm")
_OF_BALANCE = ("stratum", "places", "blocks", "largest_imbalance")


def randomisation_lists(
    arms: Sequence[str],
    strata: Mapping[str, Sequence[str]] | Sequence[Mapping[str, str]],
    *,
    seed: int,
    allocation: Sequence[int] | None = None,
    block_sizes: Sequence[int] | None = None,
    per_stratum: int = 100,
) -> pd.DataFrame:
    """One list of permuted blocks for each stratum.

    The order within a block sorts the SHA-256 numbers of (seed, stratum, block, place), so that a list can be made
    again in any language and by any version of any library. Strata share nothing: one more stratum, or another order
    of the columns, changes no other list; a longer list begins with the shorter one.

    Parameters
    ----------
    arms : sequence of str
        Two or more different names.
    strata : mapping of column to levels, or sequence of mappings
        Every combination of levels is a stratum; or the strata themselves, ``{column: level}`` each. Empty: one list.
    seed : int
    allocation : sequence of int, optional
        Persons for each arm, such as ``(2, 1)``; equal when absent.
    block_sizes : sequence of int, optional
        Multiples of the sum of the allocation; where there are several, each block draws its size. Default: twice and
        three times the sum.
    per_stratum : int
        The least length of a list; its last block is whole.

    Returns
    -------
    DataFrame
        The columns of the strata, then ``stratum`` (text), ``sequence`` (from 1 in each stratum), ``number`` (what the
        envelope or system shows), ``block``, ``block_size``, ``arm``.

    Raises
    ------
    SpecError
        Fewer than two arms, an arm twice, an allocation or block size that doesn't fit, no place to fill, or a name
        that a column of the list has.

    References
    ----------
    [K] Permuted blocks of varying size, by stratum: ICH E9, section 2.3.2.
    """
    names, shares, sizes = _checked(arms, allocation, block_sizes, per_stratum)
    unit = [name for name, share in zip(names, shares, strict=True) for _ in range(share)]
    every = _strata(strata)
    longest = per_stratum + max(sizes) - 1
    if len(every) * longest > _MOST_PLACES:
        raise SpecError(
            f"{len(every):,} strata of {longest:,} places are more than {_MOST_PLACES:,}: take fewer columns or "
            "levels for `strata`, a smaller `per_stratum`, or smaller blocks"
        )
    columns: dict[str, list[Any]] = {}
    for levels in every:
        blocks = _blocks(seed, _key(levels), unit, sizes, per_stratum)
        text = stratum_text(levels)
        arm = [one for block in blocks for one in block]
        made: dict[str, list[Any]] = {column: [level] * len(arm) for column, level in levels.items()}
        made["stratum"] = [text] * len(arm)
        made["sequence"] = list(range(1, len(arm) + 1))
        made["number"] = [f"{text}-{i:04d}" for i in made["sequence"]]
        made["block"] = [i for i, block in enumerate(blocks, start=1) for _ in block]
        made["block_size"] = [len(block) for block in blocks for _ in block]
        made["arm"] = arm
        for name, values in made.items():
            columns.setdefault(name, []).extend(values)
    return pd.DataFrame(columns)


def stratum_text(levels: Mapping[str, str]) -> str:
    """A stratum as text, the same for any order of its columns."""
    return "|".join(f"{column}={levels[column]}" for column in sorted(levels)) or "all"


def observed_levels(frame: pd.DataFrame, columns: Sequence[str]) -> dict[str, list[str]]:
    """The levels that persons have in the columns of the strata, sorted; ``unknown`` where one is missing."""
    return {column: sorted(set(level_text(frame[column]))) for column in columns}


def level_text(values: pd.Series) -> NDArray[Any]:
    """Levels as text, (n,): 1.0 and "1" are one, and a missing value is ``unknown``."""
    codes, different = pd.factorize(values)
    texts = [str(int(v)) if isinstance(v, (float, np.floating)) and float(v).is_integer() else str(v)
             for v in different]  # fmt: skip
    return np.array([*texts, UNKNOWN], dtype=object)[codes]


def balance(lists: pd.DataFrame) -> pd.DataFrame:
    """Counts of a set of lists without the order: what may be shown to those who enrol.

    Parameters
    ----------
    lists : DataFrame
        As :func:`randomisation_lists` gives them.

    Returns
    -------
    DataFrame
        ``stratum``, ``places``, ``blocks``, one column of counts for each arm, and ``largest_imbalance``: between the
        shares of any two arms at any moment, in persons of an arm with allocation 1.
    """
    arms = list(dict.fromkeys(lists["arm"]))
    found = []
    for stratum, rows in lists.groupby("stratum", sort=False):
        taken = np.stack([(rows["arm"] == arm).to_numpy() for arm in arms], axis=1)
        total = taken.sum(axis=0)
        unit = total // np.gcd.reduce(total)
        running = taken.cumsum(axis=0) / unit
        counts = {arm: int(n) for arm, n in zip(arms, total, strict=True)}
        found.append(
            {
                "stratum": stratum,
                "places": len(rows),
                "blocks": int(rows["block"].max()),
                **counts,
                "largest_imbalance": float(np.ptp(running, axis=1).max()),
            }
        )
    return pd.DataFrame(found)


def _checked(
    arms: Sequence[str], allocation: Sequence[int] | None, block_sizes: Sequence[int] | None, per_stratum: int
) -> tuple[list[str], list[int], list[int]]:
    names = [str(arm) for arm in arms]
    if len(names) < 2 or len(set(names)) != len(names):
        raise SpecError(f"`arms` are {names}: randomisation needs two or more arms, each named once")
    alike: dict[str, str] = {}
    for name in names:
        other = alike.setdefault(" ".join(name.split()).casefold(), name)
        if other is not name:
            raise SpecError(f"`arms` names {other!r} and {name!r}, which nobody can tell apart: name them otherwise")
        if name in _OF_BALANCE:
            raise SpecError(f"`arms` names {name!r}, which is a column of the table of balance: name the arm otherwise")
    shares = [1] * len(names) if allocation is None else [int(share) for share in allocation]
    if len(shares) != len(names) or min(shares) < 1:
        raise SpecError(
            f"`allocation` is {shares} for the {len(names)} arms {', '.join(names)}: give one whole number of at least "
            "1 for each arm"
        )
    common = gcd(*shares)
    shares = [share // common for share in shares]
    unit = sum(shares)
    sizes = [2 * unit, 3 * unit] if block_sizes is None else [int(size) for size in block_sizes]
    wrong = [size for size in sizes if size < unit or size % unit]
    if wrong or not sizes:
        raise SpecError(
            f"`block_sizes` holds {wrong or 'nothing'}: a block holds each arm in its share, so its size is a multiple "
            f"of {unit} (allocation {':'.join(map(str, shares))})"
        )
    if per_stratum < 1:
        raise SpecError(f"`per_stratum` is {per_stratum}: a list has at least 1 place")
    return names, shares, sorted(set(sizes))


def _strata(strata: Mapping[str, Sequence[str]] | Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
    if isinstance(strata, Mapping):
        for column, levels in strata.items():
            if not levels or len(set(map(str, levels))) != len(levels):
                raise SpecError(f"the levels of the stratum column {column!r} are {list(levels)}: name each once")
        columns = list(strata)
        made = [
            dict(zip(columns, map(str, one), strict=True)) for one in product(*(strata[column] for column in columns))
        ]
    else:
        made = [{str(column): str(level) for column, level in one.items()} for one in strata] or [{}]
    taken = next((column for one in made for column in one if column in _OF_LIST), None)
    if taken is not None:
        raise SpecError(f"`strata` names the column {taken!r}, which is one of the list's own: name it otherwise")
    texts = [stratum_text(one) for one in made]
    if len(set(texts)) != len(texts):
        raise SpecError(f"a stratum is named twice: {next(text for text in texts if texts.count(text) > 1)}")
    return made


def _key(levels: Mapping[str, str]) -> str:
    return json.dumps(dict(sorted(levels.items())), ensure_ascii=False)


def _blocks(seed: int, key: str, unit: list[str], sizes: list[int], least: int) -> list[list[str]]:
    blocks: list[list[str]] = []
    filled = 0
    while filled < least:
        block = len(blocks) + 1
        size = sizes[_number(seed, key, block, "size") % len(sizes)]
        arms = unit * (size // len(unit))
        order = sorted(range(size), key=lambda place: _number(seed, key, block, str(place)))
        blocks.append([arms[place] for place in order])
        filled += size
    return blocks


def _number(seed: int, key: str, block: int, place: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}\n{key}\n{block}\n{place}".encode()).digest(), "big")
