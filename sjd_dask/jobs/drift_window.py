"""The newest nights together: counts that are kept from night to night, for what moves slowly and for small nights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import pandas as pd

from sjd_dask.classify.reference import Reference
from sjd_dask.jobs.drift_spec import DriftWatch

NIGHT, WINDOW = "night", "window"
STATUS = "status"
WINDOW_COLUMNS: Final = ("night", "model", "variable", "n_samples", "n_persons", "counts")


@dataclass(frozen=True)
class Part:
    """Samples that are judged together.

    Attributes
    ----------
    span : str
        NIGHT, or WINDOW for the newest nights together.
    batch : str
        "" for all of them.
    counts : ndarray of int64 (p + s, b + 1)
        In the bins of the reference's features and scores; the last column counts missing values.
    statuses : dict
        Samples of each status that the reference knows.
    n_samples, n_persons : int
    may_hold : bool
        Whether they can hold a night back.
    """

    span: str
    batch: str
    counts: np.ndarray
    statuses: dict[str, int]
    n_samples: int
    n_persons: int
    may_hold: bool


def with_earlier(
    reference: Reference, tonight: Part, settings: DriftWatch, earlier: pd.DataFrame | None, night: str, model: str
) -> tuple[pd.DataFrame, Part]:
    """Counts of the newest nights with tonight's, to be stored, and all of them together.

    Parameters
    ----------
    reference : Reference
    tonight : Part
    settings : DriftWatch
    earlier : DataFrame or None
        What was stored the night before. Nights of another model, or counted in other bins, are left out.
    night, model : str
        A night that is done again takes its own place.
    """
    variables = [*reference.features, *reference.scores]
    kept = [_stored(tonight, variables, night, model)] if tonight.n_samples else []
    counts, statuses = tonight.counts.copy(), dict(tonight.statuses)
    n_samples, n_persons = tonight.n_samples, tonight.n_persons
    for before in _nights(earlier, variables, night, model):
        if n_samples >= settings.window:
            break
        stored = dict(zip(before["variable"], before["counts"], strict=True))
        if any(len(stored[name]) != counts.shape[1] for name in variables):
            continue
        counts += np.array([np.asarray(stored[name], dtype=np.int64) for name in variables])
        statuses = {name: k + int(stored[f"{STATUS}:{name}"][0]) for name, k in statuses.items()}
        n_samples += int(before["n_samples"].iloc[0])
        # A person who came on two nights counts twice: the window takes a little too much for certain.
        n_persons += int(before["n_persons"].iloc[0])
        kept.append(before)
    table = pd.concat(kept[::-1], ignore_index=True) if kept else pd.DataFrame(columns=list(WINDOW_COLUMNS))
    return table, Part(WINDOW, "", counts, statuses, n_samples, n_persons, not tonight.may_hold)


def _nights(earlier: pd.DataFrame | None, variables: list[str], night: str, model: str) -> Iterator[pd.DataFrame]:
    """Stored nights of this model, the newest first."""
    if earlier is None or earlier.empty:
        return
    for name in list(dict.fromkeys(earlier["night"]))[::-1]:
        rows = earlier[(earlier["night"] == name) & (earlier["model"] == model)]
        if name != night and set(variables) <= set(rows["variable"]):
            yield rows


def _stored(part: Part, variables: list[str], night: str, model: str) -> pd.DataFrame:
    counts = [row.tolist() for row in part.counts] + [[k] for k in part.statuses.values()]
    return pd.DataFrame(
        {
            "night": night, "model": model, "variable": variables + [f"{STATUS}:{name}" for name in part.statuses],
            "n_samples": part.n_samples, "n_persons": part.n_persons, "counts": counts,
        }
    )  # fmt: skip
