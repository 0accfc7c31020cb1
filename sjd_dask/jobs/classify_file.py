"""A matrix file that is classified without being taken in: read once, and only what the model needs is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.jobs.matrix import decoded
from sjd_dask.store.ingest.columns import load_sheet, merge_columns
from sjd_dask.store.ingest.ids import check_ids
from sjd_dask.store.ingest.reconcile import check_orientation
from sjd_dask.store.ingest.sheets import unmatched
from sjd_dask.store.ingest.sources import Block, MatrixSource, Orientation, SourceOptions, open_source
from sjd_dask.store.ingest.spool import Spool
from sjd_dask.store.ingest.validate import BlockChecker
from sjd_dask.store.ingest.writing import Spooled
from sjd_dask.store.layout import Encoding, encoding_for

Floats = NDArray[np.float64]
_HASH_BYTES = 1 << 20


@dataclass
class FileValues:
    """What is kept of a file.

    Attributes
    ----------
    sample_ids : list of str
        In the file's order.
    feature_ids : ndarray of str objects
        All features of the file.
    sample_columns : DataFrame or None
        Columns the file itself carries.
    quantity : str
    spooled : Spooled
        The features that are wanted, in their order; absent ones are missing.
    """

    sample_ids: list[str]
    feature_ids: NDArray[np.object_]
    sample_columns: pd.DataFrame | None
    quantity: str
    spooled: Spooled
    spool: Spool

    def blocks(self, samples: NDArray[np.int64], rows: int, scale: str) -> Iterator[tuple[NDArray[np.int64], Floats]]:
        """Values of the wanted features of some samples, in blocks, with their places among `samples`."""
        whole = slice(0, len(self.spooled.order))
        for start in range(0, len(samples), rows):
            places = np.arange(start, min(len(samples), start + rows))
            raw = self.spooled.take(samples[places], whole)
            yield places, decoded(raw, self.spooled.encoding, self.quantity, scale)

    def close(self) -> None:
        """Drop the values."""
        self.spool.close()


def read_file(
    path: Path,
    options: SourceOptions,
    quantity: str,
    wanted: Sequence[str] | NDArray[np.object_],
    known: tuple[set[str], set[str]],
    check: Callable[[NDArray[np.object_]], object],
    folder: Path | None,
) -> FileValues:
    """Read a file once; every value is checked, those of the wanted features are kept.

    Parameters
    ----------
    path, options, quantity
        As for `sjd ingest`.
    wanted : sequence of str
        Features to keep, each once.
    known : (set of str, set of str)
        Samples and features by which a matrix that lies the other way round is seen.
    check : callable
        Called with the file's feature ids as soon as they are known; raises what it has against them.
    folder : Path or None
        Where values go that outgrow memory.

    Raises
    ------
    DataError
        What `sjd ingest` would refuse: ids that are empty or repeated, values out of range, a damaged file.
    """
    place = {str(one): i for i, one in enumerate(wanted)}
    with open_source(path, options) as source:
        blocks = _first_block(source, known)
        for ids, kind in ((source.feature_ids, "feature"), (source.sample_ids, "sample")):
            if ids is not None:
                check_ids(ids, kind, str(path))
        if source.feature_ids is not None:
            check(np.array(source.feature_ids, dtype=object))
        encoding = _encoding(quantity, source)
        by_features = source.orientation == "features"
        columns = None
        if not by_features:
            columns = np.array([i for i, one in enumerate(source.minor_ids) if one in place], dtype=np.int64)
        spool = Spool(len(source.minor_ids) if columns is None else len(columns), encoding.numpy_dtype, folder)
        try:
            checker = BlockChecker(source, quantity)
            major: list[str] = []
            kept: list[str] = []
            for block in blocks:
                checker.check(block.ids, block.values)
                major.extend(block.ids)
                values = block.values
                if columns is None:
                    rows = [i for i, one in enumerate(block.ids) if one in place]
                    kept.extend(block.ids[i] for i in rows)
                    values = values[rows]
                else:
                    values = values[:, columns]
                spool.append(encoding.encode(values))
            if not major:
                raise DataError(f"{path}: there are no rows of values.")
            check_ids(major, source.major, str(path))
            feature_ids = np.array(major if by_features else source.minor_ids, dtype=object)
            if source.feature_ids is None:
                check(feature_ids)
            if columns is not None:
                kept = [source.minor_ids[i] for i in columns]
            order = np.full(len(place), -1, dtype=np.int64)
            order[[place[one] for one in kept]] = np.arange(len(kept))
            return FileValues(
                list(source.minor_ids) if by_features else major,
                feature_ids,
                source.sample_columns,
                quantity,
                Spooled(spool.finish(), source.orientation, encoding, order),
                spool,
            )
        except BaseException:
            spool.close()
            raise


def file_hash(path: Path) -> str:
    """blake2b-128 of a file, or of all files of a folder with their names.

    Raises
    ------
    DataError
        There is none.
    """
    if not path.exists():
        raise DataError(f"there is no file {path}.")
    digest = hashlib.blake2b(digest_size=16)
    for one in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if one.is_file():
            digest.update(f"{one.relative_to(path)}\0{one.stat().st_size}\0".encode())
            with one.open("rb") as opened:
                while piece := opened.read(_HASH_BYTES):
                    digest.update(piece)
    return digest.hexdigest()


def file_sheet(cohort_sheet: pd.DataFrame, values: FileValues, sheet: str | None) -> tuple[pd.DataFrame, list[str]]:
    """Sample columns of a file's samples, and what a person should know of them.

    The sheet's columns come first, then the file's own, then the cohort's.

    Raises
    ------
    DataError
        None of the file's samples is in the sheet.
    """
    said: list[str] = []
    given = None if sheet is None else load_sheet(sheet)
    if given is not None:
        absent, _ = unmatched(values.sample_ids, given)
        if len(absent) == len(values.sample_ids):
            raise DataError(
                f"none of the {len(absent):,} samples of the file ({', '.join(map(repr, absent[:3]))}) is in the "
                f"sample sheet {Path(str(sheet)).name} ({', '.join(repr(str(one)) for one in given.index[:3])}): ids "
                "must be written the same way in both"
            )
        if absent:
            said.append(f"{len(absent):,} of {len(values.sample_ids):,} samples are not in the sample sheet")
    index = pd.Index(values.sample_ids, name=names.SAMPLE_ID, dtype=object)
    known = cohort_sheet.loc[cohort_sheet.index.intersection(index)]
    merged = merge_columns(known, merge_columns(values.sample_columns, given))
    assert merged is not None
    found = merged.reindex(index).infer_objects()
    found.index = index
    return found, said


def _encoding(quantity: str, source: MatrixSource) -> Encoding:
    """As an assay would store the values; whole numbers in a type that holds all of them."""
    if quantity == names.COUNTS:
        return Encoding("float64")
    return encoding_for(quantity, source.dtype, np.nan, np.nan)


def _first_block(source: MatrixSource, known: tuple[set[str], set[str]]) -> Iterator[Block]:
    """The blocks, once the first of them has shown that the matrix does not lie the other way round."""
    blocks = source.blocks()
    if not source.rows_may_be_told:
        return blocks
    axis: Orientation = "samples" if source.orientation == "features" else "features"
    check_orientation(source, source.minor_ids, axis, *known)
    first = next(blocks, None)
    if first is None:
        return blocks
    check_orientation(source, first.ids, source.orientation, *known)
    return chain((first,), blocks)
