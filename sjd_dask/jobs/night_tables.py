"""The three results of a night."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.jobs.class_tables import classes_table
from sjd_dask.jobs.drift import DriftReport
from sjd_dask.jobs.night_changes import CHANGES_COLUMNS, changes
from sjd_dask.jobs.night_inputs import (
    DRIFT,
    SCORES,
    STATE,
    WINDOW,
    by_sample,
    calls_frame,
    carried,
    rules_json,
    window_table,
)
from sjd_dask.jobs.night_state import Night
from sjd_dask.jobs.reported import REPORTED_COLUMNS, replay, with_runs

if TYPE_CHECKING:
    from sjd_dask.jobs.nightly import Look, NightlyJob
    from sjd_dask.store.items import ResultItem

_TEXT = pa.string()
REPORTED_SCHEMA = pa.schema([(name, _TEXT) for name in REPORTED_COLUMNS])
CHANGES_SCHEMA = pa.schema(
    [(name, pa.float64() if name.endswith("confidence") else _TEXT) for name in CHANGES_COLUMNS]
)  # fmt: skip
STATE_SCHEMA = pa.schema(
    [(names.SAMPLE_ID, _TEXT), ("row_hash", _TEXT), ("sheet_hash", _TEXT), ("eligible", pa.bool_())]
)


@dataclass
class Made:
    """What a night is about to publish.

    Attributes
    ----------
    output : str
    classes, scores : pyarrow.Table
    night : Night
    changes : DataFrame
    drift : DriftReport or None
    window : DataFrame or None
    facts, night_facts : dict
        Of `classes/NAME`, and what `changes/NAME` says besides.
    """

    output: str
    classes: pa.Table
    scores: pa.Table
    night: Night
    changes: pd.DataFrame
    drift: DriftReport | None
    window: pd.DataFrame | None
    facts: dict[str, Any]
    night_facts: dict[str, Any]

    @property
    def names(self) -> list[str]:
        """The results, without versions."""
        return [f"{kind}/{self.output}" for kind in (names.CLASSES, names.REPORTED, names.CHANGES)]

    def items(self, more: dict[str, Any]) -> list[ResultItem]:
        """The results as they are published; `more`: facts of the run."""
        state = self.night.state.reset_index()
        tables: dict[str, pa.Table] = {"table": changes_table(self.changes)}
        if self.drift is not None and len(self.drift.table):
            tables[DRIFT] = pa.Table.from_pandas(self.drift.table, preserve_index=False)
        if self.window is not None and len(self.window):
            tables[WINDOW] = window_table(self.window)
        classes = {
            "table": self.classes,
            SCORES: self.scores,
            STATE: _table(state, STATE_SCHEMA),
        }
        facts = {**self.facts, **more}
        return [
            (names.CLASSES, self.output, classes, facts),
            (names.REPORTED, self.output, {"table": _table(self.night.reported, REPORTED_SCHEMA)}, facts),
            (names.CHANGES, self.output, tables, {**facts, "night": self.night_facts}),
        ]


def make_tables(job: NightlyJob, look: Look, scores: pd.DataFrame, drift: DriftReport | None, run: str) -> Made:
    """Tonight's tables: what was scored, what is carried over from the night before, and what follows from both.

    Parameters
    ----------
    job : NightlyJob
    look : Look
    scores : DataFrame
        From `read_scores`: the samples of `look.todo.score`.
    drift : DriftReport or None
    run : str
    """
    samples, before = look.samples, look.before
    names_of = job.bundle.classifier.classes
    ids = pd.Index(np.sort(samples.state.index.to_numpy(dtype=object)), dtype=object)
    state = samples.state.loc[ids]
    state.index.name = names.SAMPLE_ID
    fresh = _fresh(state, before.night, look.todo.score, job.bundle.hash)
    made, reasons = classes_table(scores, samples.sheet.loc[ids[fresh]], names_of, job.model, run)
    if not fresh.all():
        assert before.classes is not None and before.scores is not None
        made = by_sample(pa.concat_tables([made, carried(before.classes, ids[~fresh], samples.people)]))
        reasons = by_sample(pa.concat_tables([reasons, carried(before.scores, ids[~fresh])]))
    calls = calls_frame(made)
    ready = calls[state["eligible"].to_numpy(dtype=bool)]
    found = replay(ready, names_of, job.spec.margin)
    reported = with_runs(found, ready["run"], None if before.night is None else before.night.reported)
    night = Night(calls, state, reported, job.rules, n_published=len(ids))
    changed = changes(before.night, night, run, job.model)
    window = drift.window if drift is not None else before.window
    facts = _facts(job, look, night, made)
    return Made(
        job.spec.output,
        made,
        reasons,
        night,
        changed,
        drift,
        window,
        facts,
        _night_facts(look, made, night, drift, job),
    )


def changes_table(changed: pd.DataFrame) -> pa.Table:
    """`changes/NAME` as it is stored."""
    return _table(changed, CHANGES_SCHEMA)


def _fresh(state: pd.DataFrame, before: Night | None, scored: list[str], model: str) -> NDArray[np.bool_]:
    """Samples whose rows are made anew: those that were scored, and those that are not eligible any more, or new."""
    if before is None or before.rules.model_hash != model:
        return np.ones(len(state), dtype=bool)
    was = before.state["eligible"].reindex(state.index)
    idle = ~state["eligible"].to_numpy(dtype=bool)
    return np.asarray(state.index.isin(scored) | (idle & ~was.eq(False).to_numpy(dtype=bool)))


def _table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    arrays = []
    for one in schema:
        cells = frame[one.name]
        if pa.types.is_string(one.type):
            text = cells.astype(object)
            arrays.append(pa.array(text.where(text.notna(), None).to_numpy(dtype=object), _TEXT))
        elif pa.types.is_boolean(one.type):
            arrays.append(pa.array(cells.to_numpy(dtype=bool), one.type))
        else:
            arrays.append(pa.array(cells.to_numpy(dtype=np.float64), one.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=schema)


# -- facts -------------------------------------------------------------------------------------------------------------


def _facts(job: NightlyJob, look: Look, night: Night, made: pa.Table) -> dict[str, Any]:
    counts = Counter(made["status"].to_pylist())
    classifier, platform, spec = job.bundle.classifier, job.bundle.platform, job.spec
    return {
        "job": "nightly",
        "title": spec.output,
        "spec": {**spec.model_dump(mode="json", exclude={"cohort", "inbox"}), "cohort": "."},
        "model": job.model,
        "previous_model": look.before.meta.get("model"),
        "model_hash": job.bundle.hash,
        "classes": list(classifier.classes),
        "n_panel": classifier.n_panel,
        "n_sentinels": len(classifier.features) - classifier.n_panel,
        "coverage": classifier.recipe.coverage,
        "max_missing": classifier.recipe.max_missing,
        "ood_threshold": float(classifier.distribution.threshold),
        "chain": job.bundle.chain.text if job.bundle.chain is not None else None,
        "assay": spec.assay,
        "quantity": platform["quantity"],
        "eligible": spec.eligible,
        "margin": spec.margin,
        "suppress_below": spec.suppress_below,
        "statuses": {name: counts[name] for name in names.CALL_STATUSES if counts[name]},
        "cohort": {"name": job.cohort.name, "snapshot": job.snapshot},
        "samples": {"available": made.num_rows, "used": made.num_rows - counts[names.NOT_ELIGIBLE]},
        "warnings": list(job.warnings),
        "night_state": {
            "rules": rules_json(night.rules),
            "files": look.arrivals.files,
            "n_samples": made.num_rows,
        },
    }


def _night_facts(
    look: Look, made: pa.Table, night: Night, drift: DriftReport | None, job: NightlyJob
) -> dict[str, Any]:
    before = look.before.night
    facts: dict[str, Any] = {
        **look.arrivals.facts(),
        "n_samples": made.num_rows,
        "n_scored": len(look.todo.score),
        "statuses": dict(Counter(night.calls["status"])),
        "calls": _calls(night.reported),
    }
    if before is not None:
        facts["previous_statuses"] = dict(Counter(before.calls["status"]))
        facts["previous_calls"] = _calls(before.reported)
    if drift is not None:
        facts["drift"] = {
            "level": drift.level,
            "messages": list(drift.messages),
            "accepted": drift.is_held and job.spec.drift.accept,
        }
    return facts


def _calls(reported: pd.DataFrame) -> dict[str, int]:
    found = Counter(reported["reported_call"].dropna())
    return {str(name): found[name] for name in sorted(found)}
