"""Sjögren-like cohorts with known truth, at any size, in any blocks.

Everything here is invented: no number comes from a person. Class shares and the leading programme of each class
follow the field's general knowledge of Soret et al. 2021 (Nat Commun 12:3523); effect sizes are declared, not
estimated.
"""

from __future__ import annotations

from sjd_dask.simulate.people import CELL_TYPES, SampleOptions
from sjd_dask.simulate.programmes import ACTIVITY, CLASS_SHARES, CLASSES, PROGRAMMES
from sjd_dask.simulate.simulation import ASSAYS, Simulation

__all__ = [
    "ACTIVITY",
    "ASSAYS",
    "CELL_TYPES",
    "CLASSES",
    "CLASS_SHARES",
    "PROGRAMMES",
    "SampleOptions",
    "Simulation",
]
