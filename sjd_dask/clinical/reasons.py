"""Texts for a million rows, written once per distinct pattern.

A column of reasons holds few distinct texts: rows are sorted into patterns by small integers, a text is made for each
pattern, and the rows take theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

_PER_WORD = 62  # bits of an int64 that can be used without its sign


def by_pattern(codes: Sequence[np.ndarray], make: Callable[..., str | None]) -> np.ndarray:
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
    group = np.zeros(len(codes[0]), dtype=np.int64)
    for one in codes:
        inner, distinct = pd.factorize(np.asarray(one))
        group, _ = pd.factorize(group * max(len(distinct), 1) + inner)
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
    words = []
    for start in range(0, known.shape[1], _PER_WORD):
        word = np.zeros(known.shape[0], dtype=np.int64)
        for place in range(start, min(start + _PER_WORD, known.shape[1])):
            word |= (~known[:, place]).astype(np.int64) << (place - start)
        words.append(word)

    def text(*patterns: int) -> str:
        absent = [name for i, name in enumerate(names) if patterns[i // _PER_WORD] >> (i % _PER_WORD) & 1]
        return prefix + ", ".join(absent) if absent else ""

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
