"""One object that gives any part of a simulated cohort."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from sjd_dask.simulate.assay import Assay
from sjd_dask.simulate.cytokines import Cytokines
from sjd_dask.simulate.methylation import Methylation
from sjd_dask.simulate.people import SampleOptions, make_people, sheet
from sjd_dask.simulate.programmes import PROGRAMMES
from sjd_dask.simulate.rnaseq import RnaSeq

ASSAYS = ("methylation", "rnaseq", "cytokines")


class Simulation:
    """A Sjögren-like cohort with known truth.

    Every value is a function of (seed, options, assay, row, feature) alone: it does not depend on the block that was
    asked for, on the order of the calls or on the process. The first samples and features of a larger cohort with the
    same seed and options are those of a smaller one. Random bits are the same on every machine with the same NumPy;
    ``exp`` and ``log`` may differ in the last bit between processor types.

    Parameters
    ----------
    n_samples : int
        Samples, not persons: some persons have two or three.
    n_features : int
        Methylation features.
    seed : int
        At least 0.
    n_genes, n_cytokines : int
        Sizes of the two other assays.
    planted_share : float
        Share of features that carry a programme; the others have no disease effect once cells, age, sex and batch are
        in the model. Named genes and cytokines always carry theirs.
    missing_share : float
        Share of missing values, completely at random, NaN; not for counts.
    patient_share, repeat_share, n_batches, female_share, remission
        See :class:`SampleOptions`.

    Raises
    ------
    ValueError
        For a size below 1, a share outside [0, 1] or a negative seed.

    Examples
    --------
    >>> sim = Simulation(20, 100, seed=1)
    >>> sim.block("methylation", 0, 2, 0, 3).shape
    (2, 3)
    """

    def __init__(
        self,
        n_samples: int,
        n_features: int,
        seed: int = 0,
        *,
        n_genes: int = 2000,
        n_cytokines: int = 24,
        planted_share: float = 0.01,
        missing_share: float = 0.0,
        patient_share: float = 0.5,
        repeat_share: float = 0.2,
        n_batches: int = 4,
        female_share: float = 0.9,
        remission: float = 0.0,
    ) -> None:
        for name, size in (
            ("n_samples", n_samples),
            ("n_features", n_features),
            ("n_genes", n_genes),
            ("n_cytokines", n_cytokines),
        ):
            if size < 1:
                raise ValueError(f"{name} is {size}: at least 1 is needed")
        for name, share in (("planted_share", planted_share), ("missing_share", missing_share)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} is {share}: a share lies between 0 and 1")
        if seed < 0:
            raise ValueError(f"seed is {seed}: it must be 0 or more")
        options = SampleOptions(patient_share, repeat_share, n_batches, female_share, remission)
        self.n_samples = n_samples
        self.seed = seed
        self.people = make_people(n_samples, seed, options)
        self._rnaseq = RnaSeq(self.people, n_genes, seed, planted_share, 0.0)
        self._assays: dict[str, Assay] = {
            "methylation": Methylation(self.people, n_features, seed, planted_share, missing_share),
            "rnaseq": self._rnaseq,
            "cytokines": Cytokines(self.people, n_cytokines, seed, planted_share, missing_share),
        }

    @property
    def assays(self) -> tuple[str, ...]:
        """Names of the assays."""
        return ASSAYS

    @property
    def sample_ids(self) -> np.ndarray:
        """Sample ids in row order, object array of str (n_samples,)."""
        return self.people.sample_ids

    def samples(self) -> pd.DataFrame:
        """The sample sheet, index ``sample_id``; ``true_class`` is the planted class."""
        return sheet(self.people, self.seed)

    def clinical_sheet(self, *, complete: bool = False) -> pd.DataFrame:
        """The items behind the clinical columns, one row a sample of a patient, index ``sample_id``.

        Domain levels add up to the sheet's ``essdai``, the worse eye is its ``schirmer``, the scales are its ESSPRI.

        Parameters
        ----------
        complete : bool
            Without the holes that a clinic's table has.

        See Also
        --------
        simulate.clinic_items : what is declared.
        """
        from sjd_dask.simulate.clinic_items import clinical_items

        return clinical_items(self.people, self.seed, complete=complete)

    def sample_truth(self) -> pd.DataFrame:
        """Planted class and the activity of each programme, index ``sample_id``."""
        frame = self.samples()[["true_class"]]
        return frame.assign(**{f"true_{p}": self.people.activity[:, i] for i, p in enumerate(PROGRAMMES)})

    def _assay(self, assay: str) -> Assay:
        if assay not in self._assays:
            raise ValueError(f"no simulated assay is called {assay!r}; there are {', '.join(ASSAYS)}")
        return self._assays[assay]

    def size(self, assay: str) -> int:
        """Number of features of an assay."""
        return self._assay(assay).n_features

    def quantity(self, assay: str) -> str:
        """What the assay holds: ``beta``, ``counts`` or ``concentration``."""
        return self._assay(assay).quantity

    def features(self, assay: str) -> pd.DataFrame:
        """Feature table in matrix order: ``feature_id`` and what is known of each feature, without the truth.

        Methylation has chromosome, position (bp) and gene symbol (missing for most); cytokines have the limit of
        detection in pg/mL.
        """
        return self._assay(assay).features()

    def feature_ids(self, assay: str) -> np.ndarray:
        """Feature ids in matrix order, object array of str."""
        return self._assay(assay).feature_ids()

    def truth(self, assay: str) -> pd.DataFrame:
        """What was planted in each feature, in matrix order.

        Returns
        -------
        DataFrame
            ``feature_id``; ``programme`` (none, disease, interferon, b_cell, inflammation); ``effect_C1`` to
            ``effect_C4`` against healthy and ``effect_patient``, their mean over the class shares; ``effect_age`` per
            year. Effects are M-value differences for methylation, log2 fold changes for counts and concentrations,
            given cells, age, sex and batch.
        """
        return self._assay(assay).truth()

    def block(self, assay: str, row_start: int, row_stop: int, feature_start: int, feature_stop: int) -> np.ndarray:
        """Values of some rows and features, half-open ranges.

        Returns
        -------
        ndarray (row_stop - row_start, feature_stop - feature_start)
            float32 betas, int64 counts or float64 concentrations in pg/mL; missing values are NaN.

        Raises
        ------
        IndexError
            When a range leaves the matrix.
        """
        table = self._assay(assay)
        for what, start, stop, size in (
            ("rows", row_start, row_stop, self.n_samples),
            ("features", feature_start, feature_stop, table.n_features),
        ):
            if not 0 <= start <= stop <= size:
                raise IndexError(f"{what} {start} to {stop} of {assay!r}: there are {size}")
        return table.block(row_start, row_stop, feature_start, feature_stop)

    def true_expression(self, row_start: int, row_stop: int) -> np.ndarray:
        """What normalisation should find: log2 expression of each gene without library size, batch and noise.

        Returns
        -------
        ndarray (row_stop - row_start, n_genes) of float64
            Up to a constant a gene.
        """
        return self._rnaseq.expression(row_start, row_stop)

    def true_batch_effects(self) -> pd.DataFrame:
        """Planted batch effects on the genes, log2 units: index batch as in the sheet, columns feature ids."""
        effects = self._rnaseq.batch_effects()
        return pd.DataFrame(
            effects, index=[f"B{i + 1:02d}" for i in range(len(effects))], columns=self._rnaseq.feature_ids()
        )

    def blocks(self, assay: str, rows: int = 64) -> Iterator[tuple[int, np.ndarray]]:
        """Stripes of ``rows`` samples over all features, in order: pairs of first row and block."""
        for start in range(0, self.n_samples, rows):
            yield start, self.block(assay, start, min(start + rows, self.n_samples), 0, self.size(assay))
