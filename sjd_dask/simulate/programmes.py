"""What is planted: classes, their programmes, and the genes and proteins that carry a programme's name.

Class shares and leading programmes: general knowledge of Soret et al. 2021, not checked against its tables. Activities
and effect sizes are declarations of this simulation.
"""

from __future__ import annotations

from typing import Final

import numpy as np

HEALTHY: Final = "healthy"
PATIENT: Final = "patient"
CLASSES: Final = ("C1", "C2", "C3", "C4")
CLASS_SHARES: Final = {"C1": 0.33, "C2": 0.25, "C3": 0.29, "C4": 0.13}

NONE: Final = "none"
PROGRAMMES: Final = ("disease", "interferon", "b_cell", "inflammation")

# Mean activity of each programme in each class; healthy volunteers are at 0. C2 is close to healthy.
ACTIVITY: Final = {
    "C1": {"disease": 1.0, "interferon": 1.0, "b_cell": 0.1, "inflammation": 0.1},
    "C2": {"disease": 0.3, "interferon": 0.1, "b_cell": 0.0, "inflammation": 0.0},
    "C3": {"disease": 1.0, "interferon": 0.8, "b_cell": 1.0, "inflammation": 0.1},
    "C4": {"disease": 1.2, "interferon": 0.8, "b_cell": 0.2, "inflammation": 1.0},
}
# Spread of the activities around the class mean, healthy included: between persons, and between visits of one person.
PERSON_ACTIVITY_SD: Final = 0.15
VISIT_ACTIVITY_SD: Final = 0.08

# Named genes of each programme, with an approximate place on GRCh38 (chromosome, position in bp).
GENES: Final = {
    "interferon": {
        "IFI44": ("1", 78_649_000),
        "IFI44L": ("1", 78_619_000),
        "IFIT1": ("10", 89_392_000),
        "IFIT3": ("10", 89_327_000),
        "MX1": ("21", 41_420_000),
        "RSAD2": ("2", 6_865_000),
        "GBP1": ("1", 89_052_000),
        "CXCL9": ("4", 76_001_000),
    },
    "b_cell": {"MS4A1": ("11", 60_455_000), "CD19": ("16", 28_931_000), "CD79A": ("19", 41_877_000)},
    "inflammation": {
        "S100A8": ("1", 153_390_000),
        "S100A9": ("1", 153_357_000),
        "CXCL8": ("4", 73_740_000),
        "IL1B": ("2", 112_829_000),
    },
    "disease": {},
}
NAMED_GENES: Final = tuple((gene, programme) for programme in GENES for gene in GENES[programme])

# Cytokines in the order in which they are measured; the rest is named CYT0025 and so on.
CYTOKINES: Final = (
    ("CXCL10", "interferon"),
    ("CXCL13", "b_cell"),
    ("IL6", "inflammation"),
    ("IL10", NONE),
    ("IFNA2", "interferon"),
    ("TNFSF13B", "b_cell"),
    ("TNF", "inflammation"),
    ("IL17A", NONE),
    ("CXCL9", "interferon"),
    ("IL21", "b_cell"),
    ("CXCL8", "inflammation"),
    ("IL4", NONE),
    ("CCL2", "interferon"),
    ("IL1B", "inflammation"),
    ("IL2", NONE),
    ("IL5", NONE),
    ("IL7", NONE),
    ("IL13", NONE),
    ("IL15", NONE),
    ("VEGFA", NONE),
    ("EGF", NONE),
    ("CCL11", NONE),
    ("CSF2", NONE),
    ("CCL5", NONE),
)


def class_activity() -> np.ndarray:
    """Mean activities, float64 (4 classes, 4 programmes)."""
    return np.array([[ACTIVITY[c][p] for p in PROGRAMMES] for c in CLASSES])


def class_shares() -> np.ndarray:
    """Shares of the classes among patients, float64 (4,), sum 1."""
    return np.array([CLASS_SHARES[c] for c in CLASSES])


def planted(place: np.ndarray, share: float) -> np.ndarray:
    """Programme of each feature: -1 for none, else the index into PROGRAMMES.

    Parameters
    ----------
    place : ndarray of float in [0, 1)
        An evenly spread number for each feature.
    share : float
        Share of features that carry a programme; the four programmes have 2, 4, 2 and 2 tenths of it.
    """
    if share <= 0:
        return np.full(place.shape, -1, dtype=np.int8)
    edges = np.array([0.2, 0.6, 0.8, 1.0]) * share
    code = np.searchsorted(edges, place, side="right")
    return np.where(code < len(PROGRAMMES), code, -1).astype(np.int8)


def truth_columns(programme: np.ndarray, loading: np.ndarray) -> dict[str, np.ndarray]:
    """Planted effects of each feature against healthy, on the scale of the loading.

    Parameters
    ----------
    programme : ndarray of int (n_features,)
        -1 for none, else the index into PROGRAMMES.
    loading : ndarray of float (n_features,)
        Effect of a programme activity of one.

    Returns
    -------
    dict with ``programme`` (str), ``effect_C1`` to ``effect_C4`` and ``effect_patient``, the mean over the class
    shares: what a patient against healthy contrast estimates when cells, age, sex and batch are in the design.
    """
    code = np.asarray(programme)
    mean = np.where(code[:, None] >= 0, class_activity().T[code], 0.0)  # (n_features, n_classes)
    effects = mean * np.asarray(loading, dtype=np.float64)[:, None] + 0.0  # no negative zeros
    names = np.array([*PROGRAMMES, NONE], dtype=object)
    columns: dict[str, np.ndarray] = {"programme": names[code]}
    for i, name in enumerate(CLASSES):
        columns[f"effect_{name}"] = effects[:, i]
    columns["effect_patient"] = effects @ class_shares()
    return columns
