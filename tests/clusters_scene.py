"""Cohorts with known groups of symptoms and of everything, for tests of clusters."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sjd_dask.clinical.definitions import load_definition

SYMPTOMS = ["pain", "fatigue", "dryness", "anxiety", "depression"]
SYMPTOM_GROUPS = ["LSB", "HSB", "DDF", "PDF"]
CENTRES = np.array([[1.5, 2, 3, 3, 2], [8, 8, 8, 13, 11], [2.5, 6, 8, 6, 4], [7.5, 7, 4.5, 8, 6]])
SPREAD = np.array([1.0, 1.0, 1.0, 2.0, 2.0])

INTEGRATED_GROUPS = ["HSA-like", "LSAHS-like", "BALS-like"]
CHANCES = {
    "systemic": [0.45, 0.08, 0.08],
    "symptoms": [0.5, 0.9, 0.15],
    "b_cell": [0.5, 0.15, 0.8],
    "glands": [0.6] * 3,
}
# Variables by a cut-off: the column, a value that is not meant, one that is.
CUT = {
    "rheumatoid_factor": ("rf", 5, 60), "high_igg": ("igg", 12, 22), "low_c4": ("c4", 0.2, 0.05),
    "dryness": ("dryness", 3, 7), "fatigue": ("fatigue", 3, 7), "pain": ("pain", 2, 8), "anxiety": ("anxiety", 4, 12),
    "depression": ("depression", 3, 11), "low_tears": ("schirmer", 15, 2),
    "low_saliva": ("saliva_unstimulated", 0.3, 0.05), "focus_score": ("focus_score", 0, 2),
}  # fmt: skip


def ids(n: int) -> list[str]:
    return [f"{i:05d}" for i in range(n)]


def symptoms(n: int, seed: int = 1, missing: float = 0.0) -> tuple[np.ndarray, pd.DataFrame]:
    """Group of each person, and a sheet of one visit each."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 4, n)
    values = np.clip(np.round(CENTRES[groups] + rng.normal(size=(n, 5)) * SPREAD), 0, [10, 10, 10, 21, 21])
    values[rng.random(values.shape) < missing] = np.nan
    frame = pd.DataFrame(values, columns=SYMPTOMS)
    frame.insert(0, "sample_id", ids(n))
    return np.array(SYMPTOM_GROUPS)[groups], frame


def everything(n: int, seed: int = 1, missing: float = 0.0) -> tuple[np.ndarray, pd.DataFrame]:
    """Group of each person, and a sheet of all columns that integrated clusters are made of."""
    rng = np.random.default_rng(seed)
    groups = rng.integers(0, 3, n)
    data: dict[str, object] = {"sample_id": ids(n)}
    for name, entry in load_definition("integrated")["variables"].items():
        there = rng.random(n) < np.array(CHANCES[entry["role"]])[groups]
        column, no, yes = CUT.get(name, (name, 0, 2 if name == "central_nervous_system" else 1))
        values = np.where(there, yes, no).astype(np.float64)
        values[rng.random(n) < missing] = np.nan
        data[column] = values
    return np.array(INTEGRATED_GROUPS)[groups], pd.DataFrame(data)
