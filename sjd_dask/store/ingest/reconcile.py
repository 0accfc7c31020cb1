"""Features of a matrix against the features of its assay, by id and never by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.features import FeatureSpace
from sjd_dask.store.ingest.ids import name_some
from sjd_dask.store.ingest.sheets import read_table
from sjd_dask.store.ingest.sources.base import MatrixSource, Orientation


@dataclass(frozen=True)
class FeatureMatch:
    """How the features of a matrix become those of the assay.

    Attributes
    ----------
    space : FeatureSpace
    order : ndarray of int64, shape (space.n_features,)
        Place in the matrix of each feature of the assay; -1 where the matrix lacks it.
    dropped : list of str
        Features of the matrix that are not stored.
    absent : list of str
        Features of the assay that the matrix lacks: missing values.
    """

    space: FeatureSpace
    order: npt.NDArray[np.int64]
    dropped: list[str]
    absent: list[str]

    @property
    def is_permuted(self) -> bool:
        """Do the stored features come in another order than in the matrix?"""
        kept = self.order[self.order >= 0]
        return bool((np.diff(kept) < 0).any())


def read_features(table: Path | str | pd.DataFrame) -> pd.DataFrame:
    """A feature table: indexed by `feature_id` (a column of that name, else the first), with any further columns."""
    if isinstance(table, pd.DataFrame):
        frame = table.set_index(names.FEATURE_ID) if names.FEATURE_ID in table.columns else table
        return frame.set_axis(pd.Index([str(i) for i in frame.index], name=names.FEATURE_ID, dtype=object), axis=0)
    return read_table(table, None, names.FEATURE_ID, "feature")


def match_features(
    matrix_ids: Sequence[str],
    known: FeatureSpace | None,
    table: pd.DataFrame | None,
    columns: pd.DataFrame | None,
    where: str,
    assay: str,
) -> FeatureMatch:
    """Find the place of each feature of the assay in the matrix.

    Parameters
    ----------
    matrix_ids : sequence of str
        Unique feature ids in the order of the matrix.
    known : FeatureSpace or None
        That of the assay; None for a new assay.
    table : DataFrame or None
        A feature table declared by the user: the features to keep. A new assay takes its features, order and columns
        from it.
    columns : DataFrame or None
        Feature columns the matrix itself carries, for a new assay without a table.
    where, assay : str
        For messages.

    Raises
    ------
    DataError
        Features that differ from the assay's without a table; a table that shares nothing with the matrix, or that
        declares features the assay doesn't have.
    """
    if known is None:
        if table is None:
            space = FeatureSpace.of(matrix_ids, columns)
            return FeatureMatch(space, np.arange(len(matrix_ids), dtype=np.int64), [], [])
        kept = set(map(str, table.index))
        space = FeatureSpace.of(list(table.index), table)
    else:
        space = known
        kept = set(known.feature_ids)
        if table is not None:
            foreign = [str(i) for i in table.index if i not in kept]
            if foreign:
                raise DataError(
                    f"the feature table declares {len(foreign):,} features that assay {assay!r} does not have: "
                    f"{name_some(foreign)}. The features of an assay are fixed at its first ingest: remove them "
                    f"from the "
                    "table, or ingest into a new assay."
                )
            kept &= set(map(str, table.index))
    place = pd.Index(np.asarray(matrix_ids, dtype=object))
    wanted = np.asarray([i if i in kept else None for i in space.feature_ids], dtype=object)
    order = np.asarray(place.get_indexer(pd.Index(wanted, dtype=object)), dtype=np.int64)
    absent = [str(i) for i in space.feature_ids[order < 0]]
    dropped = [i for i in matrix_ids if i not in kept]
    if len(absent) == space.n_features:
        raise DataError(
            f"{where}: none of its {len(matrix_ids):,} features ({name_some(matrix_ids, 3)}) is "
            f"{'listed in the feature table' if table is not None else f'a feature of assay {assay!r}'} "
            f"({name_some(map(str, space.feature_ids[:4]), 3)}). Are these the right ids, and is the matrix the "
            f"right way "
            "round (--rows)?"
        )
    if known is not None and table is None and (absent or dropped):
        lines = []
        if absent:
            lines.append(f"lacks {len(absent):,} of the assay's {space.n_features:,} features ({name_some(absent)})")
        if dropped:
            lines.append(f"holds {len(dropped):,} that the assay does not have ({name_some(dropped)})")
        raise DataError(
            f"{where}: features differ from those of assay {assay!r}: it {' and '.join(lines)}. To store what is "
            f"shared, with "
            "missing values for the rest, declare the features to keep with --features TABLE; or ingest into a new "
            "assay."
        )
    return FeatureMatch(space, order, dropped, absent)


def check_orientation(
    source: MatrixSource, ids: Sequence[str], axis: Orientation, known_samples: set[str], known_features: set[str]
) -> None:
    """Refuse a matrix that evidently lies the other way round.

    Parameters
    ----------
    source : MatrixSource
    ids : sequence of str
        Ids along one axis (all, or the first of them).
    axis : {'features', 'samples'}
        What the ids are taken for.
    known_samples, known_features : set of str
        Ids from the sample sheet and the cohort, and from the assay or the feature table.

    Raises
    ------
    DataError
        The ids are known as the other kind and none of them as their own.
    """
    own, other = (known_features, known_samples) if axis == "features" else (known_samples, known_features)
    as_other = [i for i in ids if i in other]
    if not as_other or any(i in own for i in ids):
        return
    # Nothing is known of the own kind (a new assay, no sheet): one id that happens to be shared proves little.
    if not own and len(as_other) * 2 < len(ids):
        return
    right = "samples" if source.orientation == "features" else "features"
    kind, true_kind = ("features", "samples") if axis == "features" else ("samples", "features")
    raise DataError(
        f"{source.path} lies the other way round: its {'rows' if axis == source.orientation else 'columns'} were "
        f"taken for "
        f"{kind}, but {name_some(as_other, 3)} {'are' if len(as_other) > 1 else 'is'} known as {true_kind}. "
        f"Say --rows {right}."
    )
