"""A test read against its cut-off: positive, negative or unknown, per eye and per person."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from sjd_dask.clinical import threeway
from sjd_dask.clinical.sheet import Sheet
from sjd_dask.errors import SpecError

CUTS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "at_least": threeway.at_least,
    "at_most": threeway.at_most,
    "above": threeway.above,
    "below": threeway.below,
}
EYES = ("right", "left")


def cut(values: np.ndarray, test: Mapping[str, Any]) -> np.ndarray:
    """Values (n,) against the one cut-off of a test: 1, 0, or NaN where the value is missing.

    Raises
    ------
    SpecError
        A test without a cut-off, or with two.
    """
    named = [name for name in CUTS if name in test]
    if len(named) != 1:
        raise SpecError(f"a test has one cut-off of {', '.join(CUTS)}; {dict(test)} has {len(named)}")
    return CUTS[named[0]](values, float(test[named[0]]))


def test_columns(test: Mapping[str, Any]) -> list[str]:
    """The columns a test reads, those that only confirm it last."""
    single = [str(test[key]) for key in (*EYES, "recorded", "flag") if key in test]
    return [
        *single,
        *map(str, test.get("any_of", ())),
        *([str(test["confirmed_by"])] if "confirmed_by" in test else []),
    ]


def eyes(sheet: Sheet, test: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The answer of each eye, (n,) each; empty for a test that is not of eyes."""
    return {eye: cut(sheet.number(str(test[eye])), test) for eye in EYES if eye in test}


def answer(sheet: Sheet, test: Mapping[str, Any]) -> np.ndarray:
    """The answer of a test for each row.

    Parameters
    ----------
    sheet : Sheet
    test : mapping
        ``flag``: a column that holds the answer. ``recorded``: one value as the clinic wrote it. ``right`` and
        ``left``: one value an eye; positive where at least one eye is, negative where both are known and neither is.
        ``any_of``: columns of which one positive is enough. Each but a flag with one cut-off (``at_least``,
        ``at_most``, ``above``, ``below``). ``confirmed_by``: a flag that makes the answer negative where it is
        recorded as false.

    Returns
    -------
    ndarray of float (n,)
        1 positive, 0 negative, NaN unknown. Where the eyes leave it open, a value recorded for both, read as that of
        the worse eye, decides.
    """
    if "flag" in test:
        return sheet.flag(str(test["flag"]))
    parts = list(eyes(sheet, test).values())
    parts += [cut(sheet.number(str(column)), test) for column in test.get("any_of", ())]
    found = threeway.any_of(*parts) if parts else np.full(sheet.n, np.nan)
    if "recorded" in test:
        recorded = cut(sheet.number(str(test["recorded"])), test)
        found = np.where(np.isnan(found), recorded, found)
    if "confirmed_by" in test:
        found = np.where(sheet.flag(str(test["confirmed_by"])) == 0, 0.0, found)
    return found


def contradicts(sheet: Sheet, test: Mapping[str, Any]) -> np.ndarray:
    """Rows, bool (n,), where the eyes decide and the value recorded for both says the opposite."""
    if "recorded" not in test or not any(eye in test for eye in EYES):
        return np.zeros(sheet.n, dtype=bool)
    both = threeway.any_of(*eyes(sheet, test).values())
    recorded = cut(sheet.number(str(test["recorded"])), test)
    return np.abs(both - recorded) == 1
