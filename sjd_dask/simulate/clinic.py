"""Clinical columns of the simulated sheet, by class, in a simple declared way.

The values say nothing about real classes; they give the clinical code something consistent to read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sjd_dask.simulate.keys import Stream

if TYPE_CHECKING:
    from sjd_dask.simulate.people import People

# Mean by class, in the order C1, C2, C3, C4, healthy.
ESSDAI_MEAN = np.array([6.0, 2.5, 7.0, 9.0, 0.0])
ESSPRI_MEAN = np.array([5.0, 5.8, 5.2, 5.5, 1.0])
SCHIRMER_MEAN = np.array([5.0, 8.0, 4.5, 5.0, 18.0])  # mm in 5 minutes, worse eye
SALIVA_MEAN = np.array([0.10, 0.20, 0.08, 0.10, 0.45])  # mL per minute, unstimulated
IGG_MEAN = np.array([15.5, 11.5, 18.0, 15.0, 11.0])  # g/L
ANTI_SSA = np.array([0.85, 0.35, 0.90, 0.75, 0.0])  # chance of being positive
FOCUS_SCORE_MEAN = np.array([1.8, 0.9, 2.4, 1.8, 0.0])  # foci per 4 mm2


def clinical_columns(people: People, seed: int) -> dict[str, np.ndarray]:
    """Columns by name; scores that are only taken from patients are NaN for healthy volunteers.

    Returns
    -------
    dict of ndarray (n_samples,): ``essdai`` (0-123), ``esspri`` and its three scales (0-10), ``schirmer`` (mm / 5 min),
    ``saliva`` (mL/min), ``igg`` (g/L), ``anti_ssa`` (0/1), ``focus_score`` (foci / 4 mm2).
    """
    n = len(people.klass)
    k = people.klass  # -1 reads the last entry: healthy

    def draws(purpose: str) -> np.random.Generator:
        return Stream(seed, f"clinic/{purpose}").at()

    def by_person(purpose: str, visit_share: float = 0.3) -> np.ndarray:
        """Standard normal values, correlated within a person."""
        person = draws(f"{purpose}/person").standard_normal(n)[people.person]
        visit = draws(f"{purpose}/visit").standard_normal(n)
        return np.sqrt(1 - visit_share) * person + np.sqrt(visit_share) * visit

    patient = people.is_patient
    essdai = np.round(ESSDAI_MEAN[k] * np.exp(0.6 * by_person("essdai") - 0.18))
    scales = {
        f"esspri_{scale}": np.clip(np.round(ESSPRI_MEAN[k] + 2.0 * by_person(f"esspri/{scale}")), 0, 10)
        for scale in ("dryness", "fatigue", "pain")
    }
    esspri = np.round(sum(scales.values()) / 3, 2)
    anti_ssa = draws("anti_ssa").random(n)[people.person] < ANTI_SSA[k]
    columns: dict[str, np.ndarray] = {"essdai": np.where(patient, np.minimum(essdai, 123), np.nan)}
    for name, values in scales.items():
        columns[name] = np.where(patient, values, np.nan)
    columns["esspri"] = np.where(patient, esspri, np.nan)
    columns["schirmer"] = np.clip(np.round(SCHIRMER_MEAN[k] * np.exp(0.45 * by_person("schirmer") - 0.1)), 0, 35)
    columns["saliva"] = np.round(SALIVA_MEAN[k] * np.exp(0.5 * by_person("saliva") - 0.12), 3)
    columns["igg"] = np.round(IGG_MEAN[k] * np.exp(0.18 * by_person("igg", 0.1)), 1)
    columns["anti_ssa"] = anti_ssa.astype(np.int64)
    focus = np.maximum(0, FOCUS_SCORE_MEAN[k] * np.exp(0.5 * by_person("focus", 0.0) - 0.12))
    columns["focus_score"] = np.where(patient, np.round(focus, 1), np.nan)
    return columns
