"""Cohorts and runs for the tests of association jobs, and the measure of agreement with another program's numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sjd_dask import names
from sjd_dask.jobs.driver import Outcome, run_spec
from sjd_dask.jobs.spec import parse_spec
from sjd_dask.store.cohort import create_cohort, open_cohort
from sjd_dask.store.ingest.pipeline import ingest
from sjd_dask.store.layout import Layout


def read_table(path: Path) -> pd.DataFrame:
    """A table that R wrote, by its first column as text."""
    first, *others = pd.read_csv(path, sep="\t", nrows=0).columns
    missing = {name: ["NA", "NaN"] for name in others}
    frame = pd.read_csv(path, sep="\t", dtype={first: str}, na_values=missing, keep_default_na=False)
    return frame.set_index(first).astype(np.float64)


def write_npz(path: Path, values: np.ndarray, samples: Any, features: Any, **more: Any) -> Path:
    """A matrix, samples x features, as NPZ."""
    np.savez(path, values=values, samples=np.asarray(samples, str), features=np.asarray(features, str), **more)
    return path


def make_cohort(path: Path, chunk_samples: int = 64, chunk_features: int = 16384) -> Path:
    """An empty cohort."""
    create_cohort(path, layout=Layout(chunk_samples, chunk_features))
    return path


def bring(cohort: Path, assay: str, matrix: Path, quantity: str = names.EXPRESSION, **options: Any) -> None:
    """Ingest a matrix."""
    ingest(open_cohort(cohort), assay, matrix, quantity=quantity, **options)


def spec_of(cohort: Path, output: str, **keys: Any) -> Any:
    """A checked spec of an association."""
    return parse_spec({"job": "associate", "cohort": str(cohort), "output": output, **keys}, "spec")


@dataclass(frozen=True)
class Ran:
    """A published association: rows by contrast, each by feature id in the order of the table."""

    tables: dict[str, pd.DataFrame]
    meta: dict[str, Any]
    outcome: Outcome

    def __getitem__(self, contrast: str) -> pd.DataFrame:
        return self.tables[contrast]

    @property
    def contrasts(self) -> list[str]:
        return [name for name in self.tables if name != names.F_CONTRAST]


def run(cohort: Path, cluster: Any, output: str, **keys: Any) -> Ran:
    """Run an association and read what it published."""
    outcome = run_spec(spec_of(cohort, output, **keys), Path(), cluster=cluster, quiet=True)
    return read_result(outcome)


def read_result(outcome: Outcome) -> Ran:
    result = outcome.cohort.result(outcome.results[0])
    frame = result.to_pandas().set_index(names.FEATURE_ID)
    tables = {str(name): rows for name, rows in frame.groupby(names.CONTRAST, sort=False)}
    return Ran(tables, result.meta, outcome)


def compare(ran: Ran, wanted: pd.DataFrame) -> dict[str, float]:
    """Largest disagreement with a table of limma, by kind of number.

    Columns of `wanted`: coef.NAME, t.NAME, p.NAME, B.NAME for each contrast of the run, sigma, Amean, df_total, F, F_p.
    Effects: over max(|value|, standard error); t, B and F: over max(1, |value|); p: relative, where it is above 1e-300;
    the rest relative. A number that one side has and the other lacks counts as infinite.
    """
    worst: dict[str, float] = {}

    def note(kind: str, found: Any, value: Any, scale: Any) -> None:
        found, value, scale = (np.asarray(x, np.float64) for x in (found, value, scale))
        with np.errstate(invalid="ignore", divide="ignore"):
            error = np.abs(found - value) / np.broadcast_to(scale, value.shape)
        error[(found == value) | (np.isnan(found) & np.isnan(value))] = 0.0
        error[np.isnan(found) != np.isnan(value)] = np.inf
        worst[kind] = max(worst.get(kind, 0.0), float(np.nanmax(error, initial=0.0)))

    def tail(found: Any, value: Any) -> None:
        value = np.asarray(value, np.float64)
        seen = ~(value < 1e-300)
        note("p", np.asarray(found)[seen], value[seen], value[seen])

    first = ran[ran.contrasts[0]]
    assert list(first.index) == list(wanted.index)
    for name in ran.contrasts:
        table = ran[name]
        effect, error = wanted[f"coef.{name}"], wanted[f"stdev_unscaled.{name}"] * np.sqrt(wanted["s2_post"])
        note("effect", table["effect"], effect, np.fmax(effect.abs(), error))
        note("standard error", table["standard_error"], error, error)
        note("t", table["statistic"], wanted[f"t.{name}"], np.fmax(1, wanted[f"t.{name}"].abs()))
        tail(table["p_value"], wanted[f"p.{name}"])
        note("B", table["log_odds"], wanted[f"B.{name}"], np.fmax(1, wanted[f"B.{name}"].abs()))
        note("df", table["df"], wanted["df_total"], wanted["df_total"])
    note("sigma", first["sigma"], wanted["sigma"], wanted["sigma"])
    note("mean", first["mean"], wanted["Amean"], np.fmax(wanted["sigma"], wanted["Amean"].abs()))
    if names.F_CONTRAST in ran.tables:
        table = ran[names.F_CONTRAST]
        note("F", table["statistic"], wanted["F"], np.fmax(1, wanted["F"].abs()))
        tail(table["p_value"], wanted["F_p"])
    return worst
