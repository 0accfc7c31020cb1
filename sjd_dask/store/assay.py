"""One assay of a cohort: its published rows in a view, and ways to read them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from itertools import groupby
from sys import intern
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray

from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import Catalogue, as_of, current_snapshot
from sjd_dask.store.features import FeatureSpace, load_features
from sjd_dask.store.files import Files
from sjd_dask.store.layout import Encoding, common_encoding
from sjd_dask.store.region import Piece, RegionReader
from sjd_dask.store.segment import SegmentRecord, hash_tree, is_layer_key, load_manifest, segment_path

if TYPE_CHECKING:
    import xarray

    from sjd_dask.store.catalogue.nights import Arrival


@dataclass(frozen=True)
class SegmentInfo:
    """A segment as the catalogue knows it."""

    id: str
    n_samples: int
    encoding: Encoding
    chunks: tuple[int, int]
    n_bytes: int
    manifest_hash: str

    @staticmethod
    def of(record: SegmentRecord) -> SegmentInfo:
        """A segment that is not in the catalogue yet."""
        return SegmentInfo(
            record.segment_id, record.n_samples, record.encoding, record.chunks, record.n_bytes, record.manifest_hash
        )


class _Row(NamedTuple):
    """A row's place, as the catalogue's records have it."""

    sample_id: str
    segment_id: str
    row_index: int
    row_hash: str
    published_in: int
    source_hash: str | None


class Assay:
    """Samples x features of one quantity, as one view of the cohort shows them.

    Attributes
    ----------
    name, quantity : str
    n_features : int
    feature_hash : str
        Hash of the feature ids in order.
    snapshot : int
        The view.
    """

    def __init__(self, files: Files, catalogue: Catalogue, name: str, snapshot: int | None = None) -> None:
        self.files = files
        self.name = name
        with catalogue.read() as connection:
            newest = current_snapshot(connection)
            if snapshot is not None and not 0 <= snapshot <= newest:
                raise SpecError(f"there is no snapshot {snapshot}; the newest is {newest}")
            self.snapshot = newest if snapshot is None else snapshot
            record = (
                connection.execute(
                    sa.select(t.assays).where(t.assays.c.name == name, t.assays.c.published_in <= self.snapshot)
                )
                .mappings()
                .one_or_none()
            )
            if record is None:
                known = user_assays(connection)
                raise SpecError(f"this cohort has no assay {name!r}; it has: {', '.join(known) or 'none yet'}")
            rows = t.rows.c
            found_rows = connection.execute(
                sa.select(
                    rows.sample_id, rows.segment_id, rows.row_index, rows.row_hash, rows.published_in, rows.source_hash
                )
                .where(rows.assay == name, as_of(t.rows, self.snapshot))
                .order_by(rows.id)
            )
            # Segments are few: one text for each.
            self._rows: Sequence[_Row] = [_Row(one[0], intern(one[1]), *one[2:]) for one in found_rows]
            used = {row.segment_id for row in self._rows}
            found = connection.execute(sa.select(t.segments).where(t.segments.c.assay == name)).mappings()
            self.segments = {row["id"]: segment_info(row) for row in found if row["id"] in used}
        self.quantity: str = record["quantity"]
        self.n_features: int = record["n_features"]
        self.feature_hash: str = record["feature_hash"]
        self.feature_table: str = record["feature_table"]

    def __repr__(self) -> str:
        return f"<Assay {self.name!r}: {self.n_samples} samples x {self.n_features} features of {self.quantity}>"

    def with_arrivals(self, arrivals: Iterable[Arrival]) -> Assay:
        """This assay as it will be when segments that are written and not yet published are.

        Parameters
        ----------
        arrivals : iterable of Arrival
            From `ingest.pipeline.stage`; those of other assays are left out.

        Returns
        -------
        Assay
            Rows of new samples follow the published ones, a corrected sample's row is the new one; rows that are there
            with the same content stay. Reads (and hashes what it reads) as the assay will after publication.

        Raises
        ------
        DataError
            An arrival with other features or another quantity, or a sample in two arrivals.
        """
        mine = [one for one in arrivals if one.assay == self.name]
        laid: dict[str, _Row] = {}
        live = self.row_hashes()
        segments = dict(self.segments)
        for one in mine:
            if (one.record.quantity, one.record.feature_hash) != (self.quantity, self.feature_hash):
                raise DataError(f"a segment of {one.record.quantity} does not have the features of {self!r}")
            segments[one.record.segment_id] = SegmentInfo.of(one.record)
            for index, (sample, row_hash) in enumerate(zip(one.record.sample_ids, one.row_hashes, strict=True)):
                if sample in laid:
                    raise DataError(f"sample {sample!r} of assay {self.name!r} is in two arrivals")
                if live.get(sample) != row_hash:
                    laid[sample] = _Row(sample, one.record.segment_id, index, row_hash, self.snapshot + 1, None)
        result = copy(self)
        result._rows = [row for row in self._rows if row.sample_id not in laid] + list(laid.values())
        used = {row.segment_id for row in result._rows}
        result.segments = {key: info for key, info in segments.items() if key in used}
        return result

    @property
    def n_samples(self) -> int:
        """Rows of this view."""
        return len(self._rows)

    @property
    def encoding(self) -> Encoding:
        """How raw values stand for real ones; segments of other width are widened to it when read."""
        if not self.segments:
            raise DataError(f"assay {self.name!r} has no samples in this view")
        return common_encoding([segment.encoding for segment in self.segments.values()])

    @property
    def n_bytes(self) -> int:
        """Bytes on disk of the segments of this view."""
        return sum(segment.n_bytes for segment in self.segments.values())

    def sample_ids(self) -> list[str]:
        """Sample ids in order of publication."""
        return [row.sample_id for row in self._rows]

    def rows(self) -> pd.DataFrame:
        """Where each sample lies: sample_id, segment_id, row_index, row_hash, published_in, source_hash.

        `source_hash` is None but in a layer, where it is the hash of the row that this one was made from.
        """
        columns = ["sample_id", "segment_id", "row_index", "row_hash", "published_in", "source_hash"]
        return pd.DataFrame([tuple(row) for row in self._rows], columns=pd.Index(columns))

    def row_hashes(self) -> dict[str, str]:
        """Hash of the content of each sample's row."""
        return {row.sample_id: row.row_hash for row in self._rows}

    @cached_property
    def feature_space(self) -> FeatureSpace:
        """The features, read once."""
        space = load_features(self.files, self.feature_table)
        if space.hash != self.feature_hash:
            raise DataError(f"the feature table of assay {self.name!r} changed; restore it from a backup")
        return space

    def feature_ids(self) -> NDArray[Any]:
        """Feature ids in the assay's order: object array of str, shape (n_features,)."""
        return self.feature_space.feature_ids

    def features(self) -> pd.DataFrame:
        """Annotation of the features, index `feature_id`."""
        return self.feature_space.columns

    def reader(self, sample_ids: Iterable[str] | None = None) -> RegionReader:
        """A reader of these samples, aligned by id.

        Parameters
        ----------
        sample_ids : iterable of str, optional
            Which samples, in which order; default all in order of publication.

        Raises
        ------
        DataError
            Samples the assay does not hold, samples asked for twice, or none at all.
        """
        # As columns: reading a record by names costs more than all the rest.
        known, segment_ids, row_indices, row_hashes, *_ = [*zip(*self._rows, strict=True)] or [()] * 4
        place = dict(zip(known, range(len(known)), strict=True))
        ids = list(known) if sample_ids is None else [str(one) for one in sample_ids]
        absent = [one for one in ids if one not in place]
        if absent:
            raise DataError(
                f"{len(absent)} of {len(ids)} samples are not in assay {self.name!r}: "
                f"{', '.join(map(repr, absent[:5]))}{', ...' if len(absent) > 5 else ''}"
            )
        if len(set(ids)) != len(ids):
            raise DataError(f"a sample was asked for twice: {Counter(ids).most_common(1)[0][0]!r}")
        if not ids:
            raise DataError(f"no samples of assay {self.name!r} were asked for")
        numbers = np.fromiter((place[one] for one in ids), dtype=np.int64, count=len(ids))
        digest = blake2b(f"{self.quantity}\n{self.feature_hash}\n".encode(), digest_size=16)
        lines = (f"{len(one)}:{one}={row_hashes[i]}\n" for one, i in zip(ids, numbers.tolist(), strict=True))
        digest.update("".join(lines).encode())
        # In order of publication, which compaction keeps: a segment merged from others that were published before and
        # after a third one comes in two pieces, so that sums are taken in the order they always were.
        pieces = []
        positions = np.argsort(numbers, kind="stable")
        chosen = numbers[positions].tolist()
        indices = np.array([row_indices[i] for i in chosen], dtype=np.int64)
        start = 0
        for segment_id, run in groupby(segment_ids[i] for i in chosen):
            stop = start + sum(1 for _ in run)
            info = self.segments[segment_id]
            order = np.argsort(indices[start:stop], kind="stable")
            rows, places = indices[start:stop][order], positions[start:stop][order]
            pieces.append(Piece(segment_id, info.encoding, info.chunks, info.manifest_hash, rows, places))
            start = stop
        return RegionReader(self.files, self.name, self.quantity, ids, self.n_features, pieces, digest.hexdigest())

    def to_xarray(self) -> xarray.Dataset:
        """The assay as a lazy Dataset.

        Returns
        -------
        xarray.Dataset
            Dims (samples, features), coordinates `sample_id` and `feature_id`, one Dask-backed variable named by the
            quantity: float64 with NaN for missing where numbers are stored as integers, else the stored float type.
        """
        from sjd_dask.store.lazy import dataset

        return dataset(self.reader(), self.feature_ids())

    def check_chunks(self, deep: bool = False) -> None:
        """Check that every recorded file of this view's segments is there with its size, and with `deep` its content.

        Raises
        ------
        DataError
            Names the segments and chunks that are lost or changed.
        """
        problems = [
            problem
            for segment in self.segments.values()
            for problem in segment_problems(self.files, self.name, segment, deep)
        ]
        if problems:
            more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
            raise DataError(f"assay {self.name!r} is damaged: {'; '.join(problems[:5])}{more}. Restore from a backup.")


def user_assays(connection: sa.Connection) -> list[str]:
    """Names of the assays that are not a layer's, sorted."""
    known = connection.execute(sa.select(t.assays.c.name).order_by(t.assays.c.name)).scalars()
    return [name for name in known if not is_layer_key(name)]


def segment_info(row: sa.RowMapping) -> SegmentInfo:
    """A segment from its record."""
    return SegmentInfo(
        id=row["id"],
        n_samples=row["n_samples"],
        encoding=Encoding.from_json(json.loads(row["encoding"])),
        chunks=(row["chunk_samples"], row["chunk_features"]),
        n_bytes=row["n_bytes"],
        manifest_hash=row["manifest_hash"],
    )


def segment_problems(files: Files, assay: str, segment: SegmentInfo, deep: bool) -> list[str]:
    """What is wrong with a segment's files, in words."""
    try:
        manifest = load_manifest.__wrapped__(files, assay, segment.id, segment.manifest_hash)
    except DataError as error:
        return [str(error)]
    folder = segment_path(assay, segment.id)
    found = {entry.name: entry.size for entry in files.walk(folder)}
    problems = []
    for key, (size, _) in manifest.items():
        if key not in found:
            problems.append(f"segment {segment.id}: chunk {key} is lost")
        elif found[key] != size:
            problems.append(f"segment {segment.id}: chunk {key} has {found[key]} bytes instead of {size}")
    if deep:
        present = [key for key, (size, _) in manifest.items() if found.get(key) == size]
        hashes = hash_tree(files, folder, present)
        problems += [
            f"segment {segment.id}: chunk {key} changed after it was published"
            for key in present
            if hashes[key][1] != manifest[key][1]
        ]
    return problems
