"""A test read against its cut-off: positive, negative or unknown, per eye and per person."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask.clinical import threeway
from sjd_dask.clinical.reasons import where_reason
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


@dataclass(frozen=True)
class Reading:
    """A test read for each row; arrays (n,) of 1 positive, 0 negative, NaN unknown.

    Attributes
    ----------
    answer : ndarray
        Of the person.
    eyes : dict of ndarray
        By eye; empty for a test that is not of eyes.
    contradicts : ndarray of bool
        Rows in which two columns of the test say the opposite of each other.
    counts : str
        Which of the two counts, in words.
    """

    answer: np.ndarray
    eyes: dict[str, np.ndarray]
    contradicts: np.ndarray
    counts: str = ""

    def notes(self, name: str) -> list[np.ndarray]:
        """What was noticed, as a column of texts; none where no row contradicts itself."""
        return [where_reason(self.contradicts, f"{name}: {self.counts}")] if self.contradicts.any() else []


def read_test(sheet: Sheet, test: Mapping[str, Any]) -> Reading:
    """Read a test.

    Parameters
    ----------
    sheet : Sheet
    test : mapping
        ``flag``: a column that holds the answer. ``recorded``: one value as the clinic wrote it. ``right`` and
        ``left``: one value an eye; positive where at least one eye is, negative where both are known and neither is.
        ``any_of``: columns of which one positive is enough. Each but a flag with one cut-off (``at_least``,
        ``at_most``, ``above``, ``below``). ``confirmed_by``: a flag without which the answer is not positive: negative
        where it is recorded as false, unknown where it is empty; a sheet without the column has none to ask.

    Notes
    -----
    Where the eyes leave it open, a value recorded for both, read as that of the worse eye, decides.
    """
    contradicts, counts = np.zeros(sheet.n, dtype=bool), ""
    if "flag" in test:
        return Reading(sheet.flag(str(test["flag"])), {}, contradicts)
    eyes = {eye: _one(sheet, str(test[eye]), test) for eye in EYES if eye in test}
    columns = [str(test[eye]) for eye in eyes] + [str(one) for one in test.get("any_of", ())]
    there = [one for one in columns if sheet.has(one)]
    parts = [_one(sheet, one, test) for one in columns[len(eyes) :] if one in there]
    parts += [own for eye, own in eyes.items() if str(test[eye]) in there]
    if len(there) < len(columns) or not columns:
        parts.append(np.full(sheet.n, np.nan))
    found = threeway.any_of(*parts)
    if "recorded" in test and sheet.has(str(test["recorded"])):
        recorded = cut(sheet.number(str(test["recorded"])), test)
        contradicts, counts = np.abs(found - recorded) == 1, "eyes and recorded value disagree, the eyes count"
        found = np.where(np.isnan(found), recorded, found)
    if "confirmed_by" in test and sheet.has(str(test["confirmed_by"])):
        confirmed = sheet.flag(str(test["confirmed_by"]))
        contradicts = (confirmed == 0) & (found == 1)
        counts = f"positive, but {test['confirmed_by']} is recorded as false, which counts"
        found = threeway.all_of(found, confirmed)
    return Reading(found, eyes, contradicts, counts)


def answer(sheet: Sheet, test: Mapping[str, Any]) -> np.ndarray:
    """The answer of a test for each row, (n,): see `read_test`."""
    return read_test(sheet, test).answer


def _one(sheet: Sheet, column: str, test: Mapping[str, Any]) -> np.ndarray:
    return cut(sheet.number(column), test) if sheet.has(column) else np.full(sheet.n, np.nan)


def in_words(answers: np.ndarray, no: str = "negative", yes: str = "positive", unknown: str = "unknown") -> Any:
    """Three-valued answers (n,) as a text column."""
    return text_column([no, yes, unknown], np.where(np.isnan(answers), 2, answers).astype(np.intp))


def text_column(words: Sequence[str], codes: np.ndarray) -> Any:
    """The words of codes (n,), in the type pandas gives texts: nothing is made a text twice."""
    return pd.Series(list(words)).array.take(codes)
