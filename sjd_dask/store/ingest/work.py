"""One ingest under way: read, check, spool, encode, write; nothing is seen before it is published.

Memory is bounded whatever the matrix: a few blocks of text, the spool's 256 MB (beyond that a nameless file), and three
tiles of 64 MB or of one chunk.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from sjd_dask import names
from sjd_dask.errors import DataError
from sjd_dask.store.catalogue.nights import Arrival
from sjd_dask.store.files import writing
from sjd_dask.store.ingest.columns import join_sheet, merge_columns
from sjd_dask.store.ingest.ids import check_ids, name_some
from sjd_dask.store.ingest.reconcile import FeatureMatch, check_orientation, match_features
from sjd_dask.store.ingest.report import IngestReport
from sjd_dask.store.ingest.sources import Block, MatrixSource, Orientation, SourceOptions, open_source
from sjd_dask.store.ingest.spool import Spool
from sjd_dask.store.ingest.validate import BlockChecker, MissingLimits, check_missing
from sjd_dask.store.ingest.writing import Spooled, count_missing, hash_rows
from sjd_dask.store.layout import Encoding, encoding_for
from sjd_dask.store.owners import HEARTBEAT_SECONDS
from sjd_dask.store.segment import SegmentWriter, new_segment_id

if TYPE_CHECKING:
    from sjd_dask.store.assay import Assay
    from sjd_dask.store.cohort import Cohort

Progress = Callable[[str, int, int | None], None]

# Whole numbers wait in these, until the largest is known and the smallest type that holds them can be chosen.
_WHOLE = Encoding("uint32", None, int(np.iinfo(np.uint32).max))
_WHOLE_WIDE = Encoding("uint64", None, int(np.iinfo(np.uint64).max))


@dataclass(frozen=True)
class StagedIngest:
    """A matrix that was brought in and is not published yet.

    Attributes
    ----------
    arrival : Arrival or None
        The written segment; None where all of it is there already.
    columns : DataFrame or None
        Sample columns that came with it.
    report : IngestReport
    message : str
        For the log.
    """

    arrival: Arrival | None
    columns: pd.DataFrame | None
    report: IngestReport
    message: str


@dataclass
class Work:
    """One ingest under way."""

    cohort: Cohort
    assay: str
    quantity: str
    path: Path
    known: Assay | None
    sheet: pd.DataFrame | None
    table: pd.DataFrame | None
    limits: MissingLimits
    dtype: str | None
    replace: bool
    message: str
    progress: Progress | None
    report: IngestReport
    beside: Sequence[Arrival] = ()
    withdrawn: set[str] = field(default_factory=set)
    segment_id: str = field(default_factory=new_segment_id)
    staging: str | None = None
    _beat: float = field(default_factory=time.monotonic)

    def tell(self, stage: str, done: int, total: int | None) -> None:
        """Report progress, and keep the staging record alive."""
        now = time.monotonic()
        if self.staging is not None and now - self._beat > HEARTBEAT_SECONDS / 2:
            self.cohort.heartbeat_staging(self.staging)
            self._beat = now
        if self.progress is not None:
            self.progress(stage, done, total)

    def stage(self, sample_ids: list[str]) -> None:
        """Announce the samples, so that a second writer of one of them is turned away."""
        if self.staging is None:
            staged = self.staged_hashes()
            mine = [one for one in sample_ids if one not in staged and one not in self.withdrawn]
            self.staging = self.cohort.begin_staging(self.assay, self.segment_id, mine)

    def staged_hashes(self) -> dict[str, str]:
        """Row hashes of samples that lie in segments beside this one, to be published together with it."""
        return {one: value for arrival in self.beside for one, value in arrival.hashes().items()}

    # -- reading ---------------------------------------------------------------------------------------------------

    def known_ids(self) -> tuple[set[str], set[str]]:
        """Sample ids and feature ids that tell which way round a matrix lies."""
        samples = set(map(str, self.sheet.index)) if self.sheet is not None else set()
        features: set[str] = set()
        if self.known is not None:
            samples |= set(self.known.sample_ids())
            features |= set(self.known.feature_ids())
        if self.table is not None:
            features |= set(map(str, self.table.index))
        return samples, features

    def match(self, source: MatrixSource, feature_ids: list[str]) -> FeatureMatch:
        """Place the features; may be called before the values are read, so that a wrong file is refused early."""
        check_ids(feature_ids, "feature", str(self.path))
        space = self.known.feature_space if self.known is not None else None
        return match_features(feature_ids, space, self.table, source.feature_columns, str(self.path), self.assay)

    def check_samples(self, source: MatrixSource, sample_ids: list[str]) -> None:
        """Check the ids of the samples, leave out those of withdrawn people, and join the sheet."""
        if not sample_ids:
            raise DataError(f"{self.path}: there are no samples.")
        check_ids(sample_ids, "sample", str(self.path))
        self.withdrawn = self.cohort.withdrawn_samples(sample_ids, merge_columns(source.sample_columns, self.sheet))
        if self.withdrawn:
            kept = [one for one in sample_ids if one not in self.withdrawn]
            self.report.n_withdrawn = len(sample_ids) - len(kept)
            sample_ids = kept
            if self.sheet is not None:
                self.sheet = self.sheet[~self.sheet.index.isin(list(self.withdrawn))]
        # A sheet of withdrawn people alone says nothing of the others.
        if self.sheet is not None and len(self.sheet) and sample_ids:
            join_sheet(self.report, sample_ids, self.sheet, str(self.path))

    def first_block(self, source: MatrixSource) -> Iterator[Block]:
        """The blocks, once the first of them has shown that the matrix does not lie the other way round."""
        blocks = source.blocks()
        if not source.rows_may_be_told:
            return blocks
        samples, features = self.known_ids()
        axis: Orientation = "samples" if source.orientation == "features" else "features"
        check_orientation(source, source.minor_ids, axis, samples, features)
        first = next(blocks, None)
        if first is None:
            return blocks
        check_orientation(source, first.ids, source.orientation, samples, features)
        return chain((first,), blocks)

    def read(
        self, source: MatrixSource, blocks: Iterable[Block], spool: Spool, encoding: Encoding
    ) -> tuple[list[str], BlockChecker, Encoding]:
        """Check and spool every block. Returns the major ids, the checker, and the encoding of the spool."""
        checker = BlockChecker(source, self.quantity)
        major: list[str] = []
        total = len(source.major_ids) if source.major_ids is not None else None
        for block in blocks:
            checker.check(block.ids, block.values)
            if encoding.dtype == "float32":
                largest = max(abs(checker.minimum), abs(checker.maximum))
                if largest > float(np.finfo(np.float32).max):
                    raise DataError(f"{self.path}: {largest:g} does not fit float32; leave --dtype out.")
            if encoding == _WHOLE and checker.maximum >= np.iinfo(np.uint32).max:
                spool.widen(np.dtype(np.uint64), int(_WHOLE.fill), int(_WHOLE_WIDE.fill))
                encoding = _WHOLE_WIDE
            spool.append(encoding.encode(block.values))
            major.extend(block.ids)
            self.tell("read", len(major), total)
        if not major:
            raise DataError(f"{self.path}: there are no rows of values.")
        return major, checker, encoding

    # -- deciding --------------------------------------------------------------------------------------------------

    def select(self, spooled: Spooled, sample_ids: list[str], encoding: Encoding) -> npt.NDArray[np.int64]:
        """Which samples to write: new ones, and with `replace` those whose content changed."""
        every = np.array([i for i, one in enumerate(sample_ids) if one not in self.withdrawn], dtype=np.int64)
        ids = [sample_ids[i] for i in every]
        staged = self.staged_hashes()
        live = self.cohort.published_hashes(self.assay, ids) if self.known is not None else {}
        if not live and not staged:
            self.report.new = ids
            return every
        total = len(ids) * len(spooled.order)
        hashes = hash_rows(
            spooled, every, self.cohort.layout, encoding, progress=lambda done: self.tell("compare", done, total)
        )
        changed, disputed = [], []
        for name, value in zip(ids, hashes, strict=True):
            if staged.get(name, live.get(name)) == value:
                self.report.unchanged.append(name)
            elif name in staged:
                disputed.append(name)
            elif name not in live:
                self.report.new.append(name)
            else:
                changed.append(name)
        if disputed:
            raise DataError(
                f"{len(disputed):,} of the {len(ids):,} samples of {self.path} are in another file that is to be "
                f"published with it, with other content: {name_some(disputed)}. Which is right can't be told: leave "
                "one of the files out."
            )
        if changed and not self.replace:
            raise DataError(
                f"{len(changed):,} of the {len(ids):,} samples of {self.path} are published in assay "
                f"{self.assay!r} with "
                f"other content: {name_some(changed)}. If these are corrections, say --replace; otherwise give the "
                f"samples "
                "other ids."
            )
        self.report.replaced = changed
        written = set(self.report.new) | set(changed)
        return np.array([i for i, name in enumerate(sample_ids) if name in written], dtype=np.int64)

    def columns(self, source: MatrixSource) -> pd.DataFrame | None:
        """Sample columns of the file and of the sheet, without those of withdrawn people."""
        found = merge_columns(source.sample_columns, self.sheet)
        if found is not None and self.withdrawn:
            found = found[~found.index.isin(list(self.withdrawn))]
        return found if found is not None and len(found) else None

    def final_encoding(self, source: MatrixSource, checker: BlockChecker) -> Encoding:
        """How the values are stored, now that their range is known."""
        encoding = encoding_for(self.quantity, source.dtype, checker.minimum, checker.maximum, self.dtype)
        if encoding.dtype == "float32":
            largest = max(abs(checker.minimum), abs(checker.maximum))
            if source.dtype != np.float32 and np.isfinite(largest):
                self.report.encoding_error = float(np.spacing(np.float32(largest))) / 2
        if encoding.scale_factor is not None:
            self.report.encoding_error = encoding.scale_factor / 2
        self.report.encoding = encoding.to_json()
        return encoding

    def check_shares(
        self, spooled: Spooled, match: FeatureMatch, checker: BlockChecker, sample_ids: list[str], n_features: int
    ) -> None:
        """Refuse or name samples with many missing values, among the features that are kept."""
        missing = checker.missing_by_sample()
        if match.dropped:
            n_features -= len(match.dropped)
            missing = count_missing(spooled, len(sample_ids), self.cohort.layout) - len(match.absent)
        if self.withdrawn:
            kept = np.array([one not in self.withdrawn for one in sample_ids])
            missing, sample_ids = missing[kept], [one for one in sample_ids if one not in self.withdrawn]
        high, warnings = check_missing(sample_ids, missing, n_features, self.limits, str(self.path))
        self.report.n_missing = int(missing.sum())
        self.report.high_missing = high
        self.report.warnings.extend(warnings)

    # -- writing ---------------------------------------------------------------------------------------------------

    def unchanged(self, columns: pd.DataFrame | None) -> StagedIngest:
        """Everything is there already: nothing is written."""
        self.report.status = "unchanged"
        if self.known is not None:
            rows = self.known.rows()
            own = rows[rows["sample_id"].isin(self.report.unchanged[:1])]
            self.report.segment_id = str(own["segment_id"].iloc[0]) if len(own) else None
        return StagedIngest(None, columns, self.report, self.message)

    def write(
        self,
        spooled: Spooled,
        match: FeatureMatch,
        selected: npt.NDArray[np.int64],
        sample_ids: list[str],
        encoding: Encoding,
        columns: pd.DataFrame | None,
    ) -> StagedIngest:
        """Write the segment; nobody sees it yet."""
        assert self.staging is not None
        chosen = [sample_ids[i] for i in selected]
        writer = SegmentWriter(
            self.cohort.files,
            self.assay,
            self.segment_id,
            self.quantity,
            encoding,
            self.cohort.layout,
            chosen,
            match.space,
        )
        total = len(chosen) * match.space.n_features
        hashes = hash_rows(
            spooled, selected, self.cohort.layout, encoding, writer, lambda done: self.tell("write", done, total)
        )
        record = writer.finish()
        self.report.status, self.report.segment_id, self.report.n_bytes = "staged", record.segment_id, record.n_bytes
        return StagedIngest(Arrival(self.staging, record, hashes, self.replace), columns, self.report, self.message)

    # -- the whole -------------------------------------------------------------------------------------------------

    def run(self, options: SourceOptions) -> StagedIngest:
        """Read, check and write the matrix."""
        folder = self.cohort.files.root
        if folder is not None:
            with writing(str(folder), "nothing was ingested"):
                folder.mkdir(parents=True, exist_ok=True)
        with open_source(self.path, options) as source:
            self.report.warnings.extend(source.warnings)
            blocks = self.first_block(source)
            match = None
            if source.feature_ids is not None:
                match = self.match(source, source.feature_ids)
            if source.sample_ids is not None:
                self.check_samples(source, source.sample_ids)
                self.stage(source.sample_ids)
            encoding = encoding_for(self.quantity, source.dtype, np.nan, np.nan, self.dtype)
            if self.quantity == names.COUNTS and not encoding.is_float:
                encoding = _WHOLE
            spool = Spool(len(source.minor_ids), encoding.numpy_dtype, folder)
            try:
                major, checker, encoding = self.read(source, blocks, spool, encoding)
                source.close()
                sample_ids = source.minor_ids if source.orientation == "features" else major
                feature_ids = major if source.orientation == "features" else source.minor_ids
                if source.sample_ids is None:
                    self.check_samples(source, sample_ids)
                    self.stage(sample_ids)
                if match is None:
                    match = self.match(source, feature_ids)
                self.report.n_samples = len(sample_ids) - self.report.n_withdrawn
                self.report.n_features = match.space.n_features
                self.report.features_dropped, self.report.features_absent = len(match.dropped), len(match.absent)
                self.report.features_permuted = match.is_permuted
                spooled = Spooled(spool.finish(), source.orientation, encoding, match.order)
                self.check_shares(spooled, match, checker, sample_ids, len(feature_ids))
                final = self.final_encoding(source, checker)
                columns = self.columns(source)
                selected = self.select(spooled, sample_ids, final)
                if not len(selected):
                    return self.unchanged(columns)
                return self.write(spooled, match, selected, sample_ids, final, columns)
            finally:
                spool.close()
