"""Folds that never split a person, and hang on the seed and the ids alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sjd_dask.errors import DataError, SpecError

Ints = NDArray[np.int64]


def person_folds(persons: ArrayLike, labels: ArrayLike, n_folds: int, seed: int) -> Ints:
    """A fold for each sample: persons dealt out class by class, in an order that the seed and their ids fix.

    Parameters
    ----------
    persons : array of str (n,)
    labels : array of str (n,)
        A person with samples of several classes counts for the most frequent, of equals the first by name.
    n_folds : int
    seed : int

    Returns
    -------
    ndarray of int64 (n,)
        0..n_folds-1. All samples of a person have the same; folds differ by at most one person a class, and by at
        most one person in all; other samples or another order of them change nothing.

    Raises
    ------
    SpecError
        Fewer than 2 folds.
    DataError
        A class with fewer persons than folds, named with the number.
    """
    if n_folds < 2:
        raise SpecError(f"{n_folds} fold(s): at least 2 are needed.")
    names, at = np.unique(np.asarray(persons, dtype=str), return_inverse=True)
    classes, y = np.unique(np.asarray(labels, dtype=str), return_inverse=True)
    if len(at) != len(y):
        raise DataError(f"{len(at)} persons and {len(y)} labels don't belong together: one of each for a sample.")
    counts = np.zeros((len(names), len(classes)), dtype=np.int64)
    np.add.at(counts, (at, y), 1)
    own = counts.argmax(axis=1)
    few = [(str(name), int((own == c).sum())) for c, name in enumerate(classes) if (own == c).sum() < n_folds]
    if few:
        told = ", ".join(f"{name!r}: {count}" for name, count in few)
        raise DataError(
            f"{n_folds} folds of persons need at least {n_folds} persons in each class, and there are fewer in "
            f"{told}. Use fewer folds, join classes, or leave these out."
        )
    numbers = draw_keys([str(name) for name in names], seed, "fold")
    fold = np.empty(len(names), dtype=np.int64)
    dealt = 0
    for c in range(len(classes)):
        members = np.flatnonzero(own == c)
        members = members[np.argsort(numbers[members], kind="stable")]
        fold[members] = (dealt + np.arange(len(members))) % n_folds
        dealt += len(members)
    return np.asarray(fold[at])


def draw_keys(ids: Sequence[str], *purpose: int | str) -> NDArray[np.uint64]:
    """A random number for each id, fixed by the purpose (seed, what for, round), (n,)."""
    start = hashlib.blake2b("\x1f".join(str(one) for one in purpose).encode(), digest_size=8)

    def number(name: str) -> bytes:
        made = start.copy()
        made.update(b"\x1e" + name.encode())
        return made.digest()

    return np.frombuffer(b"".join(number(name) for name in ids), dtype="<u8").astype(np.uint64)


def draw_seed(*purpose: int | str) -> int:
    """A seed for a library's own generator, fixed by the purpose: within 0..2^32-1."""
    return int(draw_keys(["seed"], *purpose)[0] >> np.uint64(32))
