"""The tables beside a model: its panel, what the folds said of everybody, and the folds themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.jobs.train_folds import Told
from sjd_dask.jobs.train_labels import ALONE, CORE, LABEL, PERSON, Labelled
from sjd_dask.jobs.train_tasks import Fold
from sjd_dask.normalise.method import PENDING_BATCH

# Probabilities before calibration, of each class.
UNCALIBRATED = "uncalibrated_"
Groups = Mapping[str, Mapping[str, NDArray[Any]]]


@dataclass(frozen=True)
class Judged:
    """An outer fold, what it did, and the groups of arrays that its task left."""

    fold: Fold
    told: Told
    groups: Groups


def predictions_table(labelled: Labelled, judged: Sequence[Judged]) -> pd.DataFrame:
    """One row a sample and repeat: what a classifier said that had not seen the person.

    Columns: sample_id, person_id, repeat, fold (both from 1), label, core, status, call, top_class, confidence,
    ``p_<class>`` and ``uncalibrated_<class>`` in the order of the classes, conformal_set, ood_score, n_missing. By
    repeat and sample id.
    """
    frame, classes = labelled.frame, labelled.classes
    parts = []
    for one in judged:
        found = one.groups["judged"]
        theirs = [str(name) for name in one.groups["classes"]["name"]]
        ids = [str(sample) for sample in found["sample"]]
        top, status = found["top"], found["status"].astype(object)
        named = np.array([*theirs, None], dtype=object)[top]
        held = [[name for name, inside in zip(theirs, row, strict=True) if inside] for row in found["conformal"]]
        p = {name: found["probabilities"][:, c] for c, name in enumerate(theirs)}
        raw = {name: found["uncalibrated"][:, c] for c, name in enumerate(theirs)}
        confidence = np.where(
            top >= 0, found["probabilities"][np.arange(len(top)), np.maximum(top, 0)], np.nan
        ) if len(top) else np.empty(0)  # fmt: skip
        part = pd.DataFrame(
            {
                names.SAMPLE_ID: ids,
                "status": status,
                "call": np.where(status == "called", named, None),
                "top_class": named,
                "confidence": confidence,
                **{f"{names.PROBABILITY}{name}": p[name] for name in classes},
                **{f"{UNCALIBRATED}{name}": raw[name] for name in classes},
                "conformal_set": ["|".join(one) for one in held],
                "ood_score": found["ood_score"],
                "n_missing": found["n_missing"].astype(np.int64),
            }
        )
        waiting = pd.DataFrame({names.SAMPLE_ID: one.told.pending, "status": PENDING_BATCH}, dtype=object)
        part = pd.concat([part, waiting], ignore_index=True) if len(waiting) else part
        part.insert(1, "repeat", one.fold.repeat + 1)
        part.insert(2, "fold", one.fold.number + 1)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True).sort_values(["repeat", names.SAMPLE_ID], kind="stable")
    table = table.reset_index(drop=True)
    own = frame.loc[table[names.SAMPLE_ID]]
    table.insert(1, names.PERSON_ID, person_ids(own[PERSON]))
    table.insert(4, LABEL, own[LABEL].to_numpy(dtype=object))
    table.insert(5, CORE, own[CORE].to_numpy(dtype=bool))
    text = ("status", "call", "top_class", "conformal_set")
    table = table.astype({name: object for name in text})
    table["n_missing"] = table["n_missing"].astype("Int64")
    return table


def person_ids(persons: pd.Series[Any]) -> NDArray[Any]:
    """Ids as the sample sheet has them; None for a sample without one."""
    return np.array([None if one.startswith(ALONE) else one for one in persons], dtype=object)


def panel_table(final: Groups, judged: Sequence[Judged]) -> pd.DataFrame:
    """The final panel; ``outer_frequency`` is the share of the outer folds whose own panel has the feature."""
    table = pd.DataFrame({name: value for name, value in final["panel"].items()})
    chosen = [set(map(str, one.groups["panel"][names.FEATURE_ID])) for one in judged]
    table["outer_frequency"] = [
        sum(feature in one for one in chosen) / len(chosen) for feature in table[names.FEATURE_ID].astype(str)
    ]
    return table


def panels_table(judged: Sequence[Judged]) -> pd.DataFrame:
    """The panels of the outer folds, as the final one, after columns ``repeat`` and ``fold``."""
    parts = []
    for one in judged:
        part = pd.DataFrame(dict(one.groups["panel"]))
        part.insert(0, "repeat", one.fold.repeat + 1)
        part.insert(1, "fold", one.fold.number + 1)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def sizes_table(final: Groups, judged: Sequence[Judged]) -> pd.DataFrame:
    """The sizes of panel that were tried, by the final model (no ``repeat`` and ``fold``) and by each outer fold."""
    parts = []
    for groups, repeat, fold in [
        (final, None, None),
        *((one.groups, one.fold.repeat + 1, one.fold.number + 1) for one in judged),
    ]:
        part = pd.DataFrame(dict(groups["sizes"]))
        part.insert(0, "repeat", pd.array([repeat] * len(part), dtype="Int64"))
        part.insert(1, "fold", pd.array([fold] * len(part), dtype="Int64"))
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def folds_table(judged: Sequence[Judged]) -> pd.DataFrame:
    """One row an outer fold: how many were trained on and judged, and how far its own groups moved."""
    rows = []
    for one in judged:
        fold, told = one.fold, one.told
        ids = one.groups["panel"][names.FEATURE_ID]
        rows.append(
            {
                "repeat": fold.repeat + 1,
                "fold": fold.number + 1,
                "n_train": len(fold.train),
                "n_train_core": int(fold.core.sum()),
                "n_train_persons": len(set(fold.persons)),
                "n_test": len(fold.test) + len(told.pending),
                "n_pending": len(told.pending),
                "n_unmatched": told.unmatched,
                "coreless": ", ".join(told.coreless),
                "share_moved": np.nan if told.moved is None else told.moved,
                "n_panel": len(ids),
            }
        )
    return pd.DataFrame(rows)


def arrow(frame: pd.DataFrame) -> pa.Table:
    """The frame without its index; text that may be missing stays text."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for i, column in enumerate(table.schema):
        if pa.types.is_null(column.type):
            table = table.set_column(i, column.name, pa.nulls(table.num_rows, pa.string()))
    return table
