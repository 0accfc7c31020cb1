"""Texts for a million rows, written once per distinct pattern.

A column of reasons holds few distinct texts: rows are sorted into patterns by small integers, a text is made for each
pattern, and the rows take theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

_BYTES = 7  # bytes of an int64 that are used, its sign left alone
_PER_WORD = 8 * _BYTES


def by_pattern(codes: Sequence[np.ndarray], make: Callable[..., Any]) -> np.ndarray:
    """``make(c1, c2, ...)`` for each row's codes, called once for each distinct combination.

    Parameters
    ----------
    codes
        Arrays (n,) of integers or booleans, any values.
    make
        Gives the text of one combination of plain integers.

    Returns
    -------
    numpy.ndarray
        (n,) objects.
    """
    group, _ = pd.factorize(np.asarray(codes[0]))
    for one in codes[1:]:
        inner, distinct = pd.factorize(np.asarray(one))
        group, _ = pd.factorize(group * np.int64(len(distinct) + 1) + inner)
    n_groups = int(group.max()) + 1 if len(group) else 0
    first = np.full(n_groups, -1, dtype=np.int64)
    first[group[::-1]] = np.arange(len(group))[::-1]
    texts = np.empty(n_groups, dtype=object)
    for place, row in enumerate(first):
        texts[place] = make(*(int(one[row]) for one in codes))
    return texts[group] if n_groups else np.empty(0, dtype=object)


def missing_reason(known: np.ndarray, names: Sequence[str], prefix: str = "missing: ") -> np.ndarray:
    """``missing: renal, biological`` for each row, empty where all is known.

    Parameters
    ----------
    known
        (n, k) booleans.
    names
        k names of the items.
    """
    known = np.asarray(known, dtype=bool)
    k = known.shape[1]
    words = []
    for start in range(0, k, _PER_WORD):
        word = np.zeros(known.shape[0], dtype=np.int64)
        for place in range(start, min(start + _PER_WORD, k)):
            word |= np.where(known[:, place], np.int64(0), np.int64(1) << (place - start))
        words.append(word)
    # The text of each byte of a pattern is made once: many items make many patterns.
    pieces = [
        ["".join(f", {name}" for bit, name in enumerate(names[at : at + 8]) if byte >> bit & 1) for byte in range(256)]
        for at in range(0, k, 8)
    ]

    def text(*patterns: int) -> str:
        absent = "".join(table[patterns[i // _BYTES] >> 8 * (i % _BYTES) & 255] for i, table in enumerate(pieces))
        return prefix + absent[2:] if absent else ""

    return by_pattern(words, text)


def join_reasons(*reasons: np.ndarray, separator: str = "; ") -> np.ndarray:
    """The texts of several reason columns in one, empty (or None) ones left out."""
    coded = [pd.factorize(np.asarray(one, dtype=object)) for one in reasons]

    def text(*codes: int) -> str:
        parts = [str(table[code]) for code, (_, table) in zip(codes, coded, strict=True) if code >= 0]
        return separator.join(part for part in parts if part)

    return by_pattern([codes for codes, _ in coded], text)


def where_reason(condition: np.ndarray, text: str) -> np.ndarray:
    """``text`` where the condition holds, an empty text elsewhere."""
    return np.array(["", text], dtype=object)[np.asarray(condition, dtype=np.int8)]


def texts_at(codes: np.ndarray, texts: Sequence[str | None]) -> Any:
    """The text of each row's code, as a column of a DataFrame: a million texts without a million Python objects.

    Parameters
    ----------
    codes
        (n,) integers from 0.
    texts
        By code; None is missing.
    """
    return pd.Series(list(texts)).array.take(np.asarray(codes, dtype=np.intp))


def listed(present: Sequence[np.ndarray], names: Sequence[str]) -> Any:
    """Names of what is present in each row, separated by semicolons; empty where nothing is.

    Parameters
    ----------
    present
        k < 63 arrays (n,) of booleans.
    names
        k names.
    """
    word = np.zeros(len(present[0]), dtype=np.int64)
    for place, one in enumerate(present):
        word |= np.asarray(one, dtype=np.int64) << place
    codes, patterns = pd.factorize(word)
    return texts_at(codes, ["; ".join(name for i, name in enumerate(names) if int(bits) >> i & 1) for bits in patterns])
