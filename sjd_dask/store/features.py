"""The feature space of an assay: which features, in which order, and what is known of them. Stored once."""

from __future__ import annotations

import io
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.files import Files


@dataclass(frozen=True, eq=False)
class FeatureSpace:
    """Features of an assay in their stored order.

    Attributes
    ----------
    hash : str
        Hash of the ids in order: equal hashes mean equal columns of the matrix.
    table_hash : str
        Hash of the ids and their annotation columns; names the stored file.
    feature_ids : ndarray of str (object), shape (n_features,)
    columns : DataFrame
        Annotation, one row a feature, index `feature_id`; may have no columns.
    """

    hash: str
    table_hash: str
    feature_ids: NDArray[Any]
    columns: pd.DataFrame

    @property
    def n_features(self) -> int:
        """How many features."""
        return len(self.feature_ids)

    @staticmethod
    def of(feature_ids: Iterable[str], columns: pd.DataFrame | None = None) -> FeatureSpace:
        """The feature space of these ids.

        Parameters
        ----------
        feature_ids : iterable of str
            Unique, not empty.
        columns : DataFrame, optional
            Annotation indexed by feature id; features it lacks get missing values, others are left out.

        Raises
        ------
        DataError
            No features, an empty id, or an id twice.
        """
        ids = np.array([str(one) for one in feature_ids], dtype=object)
        if not len(ids):
            raise DataError("the matrix has no features")
        index = pd.Index(ids, dtype=str, name=names.FEATURE_ID)
        if not index.is_unique:
            twice = sorted(set(index[index.duplicated()]))
            raise DataError(f"{len(twice)} feature ids appear more than once: {', '.join(map(repr, twice[:5]))}")
        if "" in index:
            raise DataError(f"feature {int(np.flatnonzero(ids == '')[0]) + 1} has an empty id")
        ids_hash = hash_ids(ids)
        if columns is None:
            table = pd.DataFrame(index=index)
        else:
            given = columns.copy()
            given.index = pd.Index([str(one) for one in given.index], dtype=str, name=names.FEATURE_ID)
            table = given.reindex(index)
            table.columns = pd.Index([str(one) for one in table.columns], dtype=str)
        table_hash = ids_hash
        if len(table.columns):
            digest = blake2b(ids_hash.encode(), digest_size=16)
            digest.update(",".join(table.columns).encode())
            digest.update(np.ascontiguousarray(pd.util.hash_pandas_object(table, index=False).to_numpy()).tobytes())
            table_hash = digest.hexdigest()
        return FeatureSpace(ids_hash, table_hash, ids, table)

    def store(self, files: Files) -> None:
        """Write the feature table once; nothing happens where it exists."""
        path = features_path(self.table_hash)
        if files.exists(path):
            return
        table = pa.table({names.FEATURE_ID: pa.array(self.feature_ids, type=pa.string())})
        for name in self.columns.columns:
            table = table.append_column(name, pa.Array.from_pandas(self.columns[name]))
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        files.write_bytes(path, buffer.getvalue())


def features_path(table_hash: str) -> str:
    """Where a feature table lies."""
    return f"features/{table_hash}.parquet"


def hash_ids(ids: Iterable[str]) -> str:
    """blake2b-128 of ids in order, as hexadecimal text. No separator occurs in an id's own length prefix."""
    digest = blake2b(digest_size=16)
    encoded = [one.encode() for one in ids]
    digest.update(np.array([len(one) for one in encoded], dtype="<u4").tobytes())
    digest.update(b"".join(encoded))
    return digest.hexdigest()


@lru_cache(maxsize=8)
def load_features(files: Files, table_hash: str) -> FeatureSpace:
    """Read a stored feature table.

    Raises
    ------
    DataError
        The file is lost, or its ids are not those that were stored.
    """
    path = features_path(table_hash)
    try:
        content = files.read_bytes(path)
    except FileNotFoundError as error:
        raise DataError(f"feature table {files.where(path)} is lost; restore it from a backup") from error
    try:
        table = pq.read_table(pa.BufferReader(content))
    except pa.ArrowException as error:
        raise DataError(f"feature table {files.where(path)} is damaged ({error}); restore it from a backup") from error
    frame = table.to_pandas()
    index = pd.Index(frame.pop(names.FEATURE_ID), dtype=str, name=names.FEATURE_ID)
    frame.index = index
    ids = np.array(index.tolist(), dtype=object)
    ids.setflags(write=False)
    return FeatureSpace(hash_ids(ids), table_hash, ids, frame)
