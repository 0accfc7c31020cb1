"""Values that a companion assay says were not measured well: they are missing before the first step of a chain."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError, SpecError
from sjd_dask.jobs.matrix import Matrix

if TYPE_CHECKING:
    from sjd_dask.jobs.normalise_spec import NormaliseSpec
    from sjd_dask.store.assay import Assay
    from sjd_dask.store.cohort import Cohort

Floats = NDArray[np.float64]

DETECTION_P, BEAD_COUNT = "detection_p", "bead_count"
N_MASKED = "n_masked"
# What a companion assay may hold.
_HOLDS = {DETECTION_P: (names.PROPORTION,), BEAD_COUNT: (names.COUNTS, names.EXPRESSION)}


@dataclass(frozen=True)
class _Companion:
    matrix: Matrix
    order: NDArray[np.int64] | None


@dataclass(frozen=True)
class Masks:
    """The companions of some samples, picklable; read where a block is decoded.

    Attributes
    ----------
    limits : dict of str to float
        Highest detection p and lowest bead count of a value that stays.
    companions : dict
        Their readers hold the samples of the source, in its order.
    """

    limits: dict[str, float]
    companions: dict[str, _Companion]

    def read(self, places: NDArray[np.int64]) -> Callable[[Floats, int], tuple[Floats, NDArray[np.int64]]]:
        """Read the companions of these samples once; what comes back masks blocks of them.

        Returns
        -------
        callable
            ``mask(values, at)``: values of the samples from number `at` of `places` on, (k, p) in the source's order of
            features; gives a masked copy, and how many values of each sample went, (k,).
        """
        read = {}
        for name, one in self.companions.items():
            reader = one.matrix.reader.subset(places)
            read[name] = (one, *reader.columns(0, reader.n_features))

        def mask(values: Floats, at: int) -> tuple[Floats, NDArray[np.int64]]:
            tables: dict[str, Floats | None] = {DETECTION_P: None, BEAD_COUNT: None}
            for name, (one, raw, encoding) in read.items():
                table = one.matrix.values(raw[at : at + len(values)], encoding)
                tables[name] = table if one.order is None else table[:, one.order]
            # Loaded where there are masks: most layers have none.
            from sjd_dask.kernels.array_quality import mask_cells

            return mask_cells(
                values,
                tables[DETECTION_P],
                self.limits.get(DETECTION_P, 1.0),
                tables[BEAD_COUNT],
                self.limits.get(BEAD_COUNT, 0.0),
            )

        return mask


class CompanionAssays:
    """The companion assays of a spec, opened.

    Parameters
    ----------
    cohort : Cohort
    spec : NormaliseSpec

    Raises
    ------
    SpecError
        An assay that isn't there or holds something else.
    """

    def __init__(self, cohort: Cohort, spec: NormaliseSpec) -> None:
        self.limits: dict[str, float] = {}
        self.assays: dict[str, Assay] = {}
        if spec.detection_p is not None:
            self.limits[DETECTION_P] = spec.detection_p.above
            self.assays[DETECTION_P] = cohort.assay(spec.detection_p.assay)
        if spec.bead_count is not None:
            self.limits[BEAD_COUNT] = float(spec.bead_count.below)
            self.assays[BEAD_COUNT] = cohort.assay(spec.bead_count.assay)
        for name, assay in self.assays.items():
            if assay.quantity not in _HOLDS[name]:
                wanted = " or ".join(_HOLDS[name])
                raise SpecError(f"`{name}`: assay {assay.name!r} holds {assay.quantity}, and {wanted} is needed")

    def check(self, sample_ids: Sequence[str], feature_ids: NDArray[np.object_], name: str) -> None:
        """Refuse companions that lack samples or features of the source, naming them.

        Raises
        ------
        DataError
        """
        for key, assay in self.assays.items():
            for what, wanted, there, remedy in (
                ("samples", sample_ids, assay.sample_ids(), "ingest them, or leave these samples out with `samples`"),
                ("features", feature_ids, assay.feature_ids(), "ingest it with all features of the assay it describes"),
            ):
                known = set(map(str, there))
                absent = [str(one) for one in wanted if str(one) not in known]
                if absent:
                    raise DataError(
                        f"`{key}`: {len(absent):,} of the {len(wanted):,} {what} of {name!r} are not in assay "
                        f"{assay.name!r}: {', '.join(map(repr, absent[:5]))}{', ...' if len(absent) > 5 else ''}; "
                        f"{remedy}"
                    )

    def of(self, sample_ids: Sequence[str], feature_ids: NDArray[np.object_]) -> Masks | None:
        """Masks of these samples in this order; None without any companion."""
        if not self.assays:
            return None
        found = {}
        for name, assay in self.assays.items():
            there = assay.feature_ids()
            order = None
            if len(there) != len(feature_ids) or not bool(np.all(there == feature_ids)):
                place = {str(one): i for i, one in enumerate(there)}
                order = np.array([place[str(one)] for one in feature_ids], dtype=np.int64)
            found[name] = _Companion(Matrix(assay.reader(list(sample_ids)), assay.quantity), order)
        return Masks(dict(self.limits), found)

    def content(self, sample_ids: Sequence[str]) -> dict[str, str]:
        """Hash of what each companion holds of these samples."""
        return {name: assay.reader(list(sample_ids)).content_hash() for name, assay in self.assays.items()}

    def row_hashes(self, source: dict[str, str]) -> dict[str, str]:
        """Hash of each sample's source row together with its companions': a corrected companion makes the row anew."""
        if not self.assays:
            return source
        theirs = [assay.row_hashes() for assay in self.assays.values()]
        return {
            one: hashlib.blake2b(
                "|".join([row, *(t.get(one, "") for t in theirs)]).encode(), digest_size=16
            ).hexdigest()
            for one, row in source.items()
        }

    def row_bytes(self) -> int:
        """Raw bytes of one sample of all companions."""
        return sum(len(assay.feature_ids()) * assay.encoding.numpy_dtype.itemsize for assay in self.assays.values())


def masks_text(limits: dict[str, float]) -> str:
    """Limits in words."""
    words = {DETECTION_P: "detection p above {:g}", BEAD_COUNT: "bead count below {:g}"}
    return ", ".join(text.format(limits[name]) for name, text in words.items() if name in limits) or "no mask"
