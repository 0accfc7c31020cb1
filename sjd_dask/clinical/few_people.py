"""Which numbers of a table of counts to keep back, so that a count of few people can't be worked out."""

from __future__ import annotations

import numpy as np


def hide_small(counts: np.ndarray, minimum: int, *, also: np.ndarray | None = None) -> np.ndarray:
    """Which counts and totals to hide, so that no count of 1 to minimum - 1 people is given away.

    Parameters
    ----------
    counts : ndarray of int (r, c)
    minimum : int
    also : ndarray of bool (r + 1, c + 1), optional
        Numbers that are hidden in any case, such as those that a table beside this one hides.

    Returns
    -------
    ndarray of bool (r + 1, c + 1)
        The last column belongs to the row totals, the last row to the column totals, their corner to the sum of all. In
        no row or column is one number hidden alone; where a total is shown, those hidden beside it hold at least
        `minimum` people; and no small count follows from all rows and columns together.
    """
    counts = np.asarray(counts)
    whole = np.vstack([np.column_stack([counts, counts.sum(axis=1)]), np.append(counts.sum(axis=0), counts.sum())])
    small = (whole > 0) & (whole < minimum)
    hidden = small.copy() if also is None else small | also
    _close(whole, hidden, minimum)
    while (place := _worked_out(whole, hidden, small)) is not None:
        hidden[_beside(whole, hidden, *place)] = True
        _close(whole, hidden, minimum)
    return hidden


def _close(whole: np.ndarray, hidden: np.ndarray, minimum: int) -> None:
    """Hide more until no row or column by itself gives away what is hidden in it; changes `hidden`."""
    changed = bool(hidden.any())
    while changed:
        changed = False
        for table, veil in ((whole, hidden), (whole.T, hidden.T)):
            for line in range(len(table)):
                # A row of the table: hiding writes into `hidden`, whichever way round it is looked at.
                while _told(table[line], veil[line], minimum):
                    shown = np.flatnonzero(~veil[line, :-1])
                    own, beside = table[line, shown], veil[:, shown].any(axis=0)
                    # Where something is hidden already, then few people; a count of nobody hides nothing.
                    order = np.lexsort((own, ~beside, own == 0))
                    veil[line, shown[order[0]] if len(shown) else -1] = True
                    changed = True


def _told(line: np.ndarray, veil: np.ndarray, minimum: int) -> bool:
    """Whether a row (its total last) gives away what is hidden in it."""
    alone = veil.sum() == 1
    return bool(alone or (veil.any() and not veil[-1] and line[veil].sum() < minimum))


def _worked_out(whole: np.ndarray, hidden: np.ndarray, small: np.ndarray) -> tuple[int, int] | None:
    """A small count that can be no other, given all that is shown and that nobody counts below 0.

    Rows and columns with their totals are a network, so the least and the greatest solution of the linear programme
    are whole numbers, and what it finds is exact.
    """
    open_still = small & hidden
    if not open_still.any():
        return None
    from scipy.optimize import linprog

    places = np.argwhere(hidden)
    lines = np.zeros((sum(whole.shape), len(places)))
    for at, (i, j) in enumerate(places):
        lines[i, at] = -1.0 if j == whole.shape[1] - 1 else 1.0
        lines[len(whole) + j, at] = -1.0 if i == len(whole) - 1 else 1.0
    own = whole[hidden].astype(np.float64)
    used = lines.any(axis=1)
    lines, sums = lines[used], (lines @ own)[used]
    varies = ~open_still[hidden]
    for at in range(len(places)):
        for sign in (1.0, -1.0):
            if varies[at]:
                break
            wanted = np.zeros(len(places))
            wanted[at] = sign
            # A step away decides; without a bound a sum of hidden totals could grow for ever.
            found = linprog(wanted, A_eq=lines, b_eq=sums, bounds=np.column_stack([np.zeros(len(own)), own + 1.0]))
            varies |= np.abs(found.x - own) > 0.5
        if not varies[at]:
            return int(places[at, 0]), int(places[at, 1])
    return None


def _beside(whole: np.ndarray, hidden: np.ndarray, i: int, j: int) -> tuple[int, int]:
    """The number to hide next to one that was worked out: few people first, nobody after them, totals last."""
    last_row, last_column = whole.shape[0] - 1, whole.shape[1] - 1
    near = [(i, column) for column in range(whole.shape[1])] + [(row, j) for row in range(whole.shape[0])]
    shown = [place for place in near if not hidden[place]]
    if not shown:
        shown = [(int(row), int(column)) for row, column in np.argwhere(~hidden)]
    return min(
        shown,
        key=lambda one: (one[0] == last_row or one[1] == last_column, whole[one] == 0, int(whole[one]), one),
    )
