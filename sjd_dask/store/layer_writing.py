"""Writing a layer from many workers: the driver plans segments and makes them, workers fill rows, the driver finishes.

The segments belong to a run and are named by it, so a resumed run finds the rows that an earlier attempt wrote. A chunk
is encoded here and written like every other file of the cohort, under a temporary name that is forced to disk and
renamed: a worker that is killed, or one of a dead attempt that still writes, never leaves a torn chunk. Its hash is of
the bytes that went to disk, so the driver need not read the matrix again.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from hashlib import blake2b
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Final

import numpy as np
from numcodecs import blosc  # type: ignore[import-untyped]
from numpy.typing import NDArray

from sjd_dask.errors import DataError
from sjd_dask.store.codec import use_fast_pipeline
from sjd_dask.store.features import FeatureSpace
from sjd_dask.store.files import Files, fsync_folder, storage_error
from sjd_dask.store.hashing import RowHasher
from sjd_dask.store.layout import Encoding, Layout
from sjd_dask.store.segment import (
    LZ4,
    LZ4_LEVEL,
    Manifest,
    SegmentRecord,
    check_assay_key,
    check_name,
    create_matrix,
    hash_tree,
    remove_segment,
    segment_path,
    write_manifest,
)

# As compaction makes them: more rows make every task carry more sample ids, fewer make readers open more segments.
SEGMENT_ROWS: Final = 1024
_PLAN = "plan"


@dataclass(frozen=True)
class LayerSegment:
    """The plan of one segment of a layer. Picklable, and small: its sample ids and a few numbers."""

    assay: str
    segment_id: str
    quantity: str
    encoding: Encoding
    chunks: tuple[int, int]
    sample_ids: tuple[str, ...]
    n_features: int
    feature_hash: str
    feature_table: str

    @property
    def n_samples(self) -> int:
        """How many rows."""
        return len(self.sample_ids)

    @property
    def path(self) -> str:
        """Its folder."""
        return segment_path(self.assay, self.segment_id)

    @cached_property
    def plan_hash(self) -> str:
        """Hash of all of this plan; the written group carries it."""
        content = [
            self.assay,
            self.segment_id,
            self.quantity,
            self.encoding.to_json(),
            list(self.chunks),
            list(self.sample_ids),
            self.feature_hash,
        ]
        return blake2b(json.dumps(content, sort_keys=True).encode(), digest_size=16).hexdigest()

    def row_ranges(self, rows: int) -> list[tuple[int, int]]:
        """Ranges [start, stop) that cover the segment, each of about `rows` rows and at least one chunk row."""
        step = max(1, rows // self.chunks[0]) * self.chunks[0]
        return [(start, min(start + step, self.n_samples)) for start in range(0, self.n_samples, step)]

    def chunk_keys(self, row_start: int = 0, row_stop: int | None = None) -> list[str]:
        """Files of the chunks of these rows, below the segment's folder."""
        stop = self.n_samples if row_stop is None else row_stop
        rows = range(row_start // self.chunks[0], -(-stop // self.chunks[0]))
        return [
            f"{self.quantity}/c/{row}/{feature}"
            for row in rows
            for feature in range(-(-self.n_features // self.chunks[1]))
        ]


@dataclass(frozen=True)
class RowsWritten:
    """What a worker says of the rows it wrote.

    Attributes
    ----------
    row_start, n_rows : int
        Which rows of the segment.
    row_hashes : tuple of str
        One a row, as `sjd_dask.store.hashing` defines it.
    entries : dict
        File below the segment's folder to its size and blake2b-128.
    """

    row_start: int
    n_rows: int
    row_hashes: tuple[str, ...]
    entries: Manifest

    def to_json(self) -> dict[str, Any]:
        """Plain data, for a part."""
        return {
            "row_start": self.row_start,
            "n_rows": self.n_rows,
            "row_hashes": list(self.row_hashes),
            "entries": {key: list(value) for key, value in self.entries.items()},
        }

    @staticmethod
    def from_json(data: dict[str, Any]) -> RowsWritten:
        """What `to_json` described."""
        entries = {str(key): (int(size), str(digest)) for key, (size, digest) in data["entries"].items()}
        return RowsWritten(int(data["row_start"]), int(data["n_rows"]), tuple(map(str, data["row_hashes"])), entries)


def plan_segments(
    run_id: str,
    key: str,
    name: str,
    sample_ids: Sequence[str],
    feature_space: FeatureSpace,
    encoding: Encoding,
    layout: Layout,
    max_rows: int = SEGMENT_ROWS,
) -> list[LayerSegment]:
    """The segments that a run will write, in the order of the samples; the same for each attempt of the run.

    Parameters
    ----------
    key, name : str
        From `layer_key`, and the layer's name.
    max_rows : int
        Rows of a segment, rounded down to whole chunks.

    Raises
    ------
    DataError
        A sample is named twice.
    """
    if not encoding.is_float and encoding.scale_factor is None:
        raise ValueError(f"a layer stores floats or scaled codes, not {encoding.dtype}")
    ids = [str(one) for one in sample_ids]
    if len(set(ids)) != len(ids):
        seen: set[str] = set()
        twice = next(one for one in ids if one in seen or seen.add(one))  # type: ignore[func-returns-value]
        raise DataError(f"sample {twice!r} would be written twice to {name!r}")
    step = max(1, max_rows // layout.chunk_samples) * layout.chunk_samples
    return [
        LayerSegment(
            assay=check_assay_key(key),
            segment_id=check_name(f"{run_id}-{number}", "a segment"),
            quantity=name,
            encoding=encoding,
            chunks=layout.chunks(len(ids[start : start + step]), feature_space.n_features),
            sample_ids=tuple(ids[start : start + step]),
            n_features=feature_space.n_features,
            feature_hash=feature_space.hash,
            feature_table=feature_space.table_hash,
        )
        for number, start in enumerate(range(0, len(ids), step))
    ]


def create_segment(files: Files, segment: LayerSegment, feature_space: FeatureSpace) -> bool:
    """Make the group, its ids and its feature table, before any worker writes.

    Returns
    -------
    bool
        Whether it was made. A segment of the same plan is left as it is with all its chunks; another one is removed.
    """
    if feature_space.hash != segment.feature_hash:
        raise ValueError("the segment was planned for other features")
    use_fast_pipeline()
    feature_space.store(files)
    try:
        if json.loads(files.read_bytes(f"{segment.path}/zarr.json"))["attributes"][_PLAN] == segment.plan_hash:
            return False
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        pass
    try:
        remove_segment(files, segment.assay, segment.segment_id)
        create_matrix(
            files.zarr_store(segment.path),
            segment.quantity,
            segment.encoding,
            segment.chunks,
            segment.sample_ids,
            feature_space.feature_ids,
            {"quantity": segment.quantity, "feature_hash": segment.feature_hash, _PLAN: segment.plan_hash},
        )
    except (OSError, RuntimeError) as error:
        raise storage_error(error, files.where(segment.path), "nothing was published") from error
    return True


_FLUSH: SimpleQueue[str] = SimpleQueue()


@lru_cache(maxsize=1)
def _flusher() -> threading.Thread:
    """One thread of this process that forces files to disk behind the work; nobody relies on it."""

    def flush() -> None:
        while True:
            # What is gone or can't be flushed shows when the segment is finished.
            with contextlib.suppress(OSError):
                fsync_file(Path(_FLUSH.get()))

    thread = threading.Thread(target=flush, name="flusher", daemon=True)
    thread.start()
    return thread


def fsync_file(path: Path) -> None:
    """Force a file to disk."""
    with path.open("rb") as stream:
        os.fsync(stream.fileno())


class RowsWriter:
    """Writes some rows of a segment, a stripe of features after the other. Use it in a `with` block.

    Memory: three chunks. One thread compresses and hashes, another waits for the disk.

    Parameters
    ----------
    durable : bool
        Whether the rows are on disk when the block ends. Without, they are on their way, and `finish_segment` with
        `sync` makes sure on the same machine: the disk then works beside the computation.
    """

    def __init__(self, files: Files, segment: LayerSegment, row_start: int, n_rows: int, durable: bool = True) -> None:
        _check_aligned(row_start, row_start + n_rows, segment.chunks[0], segment.n_samples, "rows")
        self.files = files
        self.segment = segment
        self.row_start = row_start
        self.n_rows = n_rows
        self._durable = durable or not files.is_local
        self._hasher = RowHasher(n_rows, segment.encoding)
        self._entries: Manifest = {}
        self._next = 0
        self._pool = ThreadPoolExecutor(1)
        self._waiting: list[Future[None]] = []
        self._result: RowsWritten | None = None

    def __enter__(self) -> RowsWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None:
                self._finish()
        finally:
            self._pool.shutdown(cancel_futures=True)

    @property
    def result(self) -> RowsWritten:
        """What was written; only after the block ended well."""
        if self._result is None:
            raise ValueError("the rows are not written yet")
        return self._result

    def write(self, feature_start: int, raw: NDArray[Any]) -> None:
        """Write the next features of these rows.

        Parameters
        ----------
        feature_start : int
            Where they begin: where the last ones ended, on a chunk.
        raw : ndarray, shape (n_rows, k)
            Raw values of the segment's stored type; k ends on a chunk or with the last feature.
        """
        segment = self.segment
        if raw.dtype != segment.encoding.numpy_dtype:
            raise ValueError(f"block has type {raw.dtype}, the segment stores {segment.encoding.dtype}")
        if raw.ndim != 2 or len(raw) != self.n_rows or feature_start != self._next:
            raise ValueError(
                f"block of shape {raw.shape} at feature {feature_start}: {self.n_rows} rows from feature {self._next} "
                f"on were expected"
            )
        stop = feature_start + raw.shape[1]
        _check_aligned(feature_start, stop, segment.chunks[1], segment.n_features, "features")
        row_step, feature_step = segment.chunks
        for row in range(0, self.n_rows, row_step):
            for feature in range(0, raw.shape[1], feature_step):
                part = raw[row : row + row_step, feature : feature + feature_step]
                place = f"{(self.row_start + row) // row_step}/{(feature_start + feature) // feature_step}"
                key = f"{segment.quantity}/c/{place}"
                content = encode_chunk(part, segment.encoding, segment.chunks)
                self._entries[key] = (len(content), blake2b(content, digest_size=16).hexdigest())
                self._waiting.append(self._pool.submit(self._put, f"{segment.path}/{key}", content))
                del content
                if len(self._waiting) > 1:
                    self._waiting.pop(0).result()
        self._hasher.update(0, raw)
        self._next = stop

    def _put(self, path: str, content: bytes) -> None:
        self.files.write_bytes(path, content, durable=self._durable)
        if not self._durable:
            _flusher()
            _FLUSH.put(str(self.files.local_path(path)))

    def _finish(self) -> None:
        if self._next != self.segment.n_features:
            raise ValueError(f"features from {self._next} on are missing of {self.segment.n_features}")
        for one in self._waiting:
            one.result()
        hashes = tuple(self._hasher.hexdigests())
        self._result = RowsWritten(self.row_start, self.n_rows, hashes, self._entries)


def open_rows(files: Files, segment: LayerSegment, row_start: int, n_rows: int, *, durable: bool = True) -> RowsWriter:
    """A writer of some rows by stripes of features, for blocks that are too wide for memory."""
    return RowsWriter(files, segment, row_start, n_rows, durable)


def write_rows(
    files: Files, segment: LayerSegment, row_start: int, raw: NDArray[Any], *, durable: bool = True
) -> RowsWritten:
    """Write whole rows, force them to disk unless told otherwise (see `RowsWriter`), and say what was written.

    Parameters
    ----------
    row_start : int
        On a chunk row; the rows end on one too, or with the segment.
    raw : ndarray, shape (k, n_features)
        Raw values of the segment's stored type; nothing is converted.

    Raises
    ------
    SjdError
        Storage refused: names the place and the remedy.
    """
    with open_rows(files, segment, row_start, len(raw), durable=durable) as writer:
        writer.write(0, raw)
    return writer.result


def encode_chunk(part: NDArray[Any], encoding: Encoding, chunks: tuple[int, int]) -> bytes:
    """The bytes of a chunk as the segment's metadata describes them; a chunk at the edge is filled up."""
    if part.shape == chunks:
        whole = np.ascontiguousarray(part, dtype=encoding.numpy_dtype.newbyteorder("<"))
    else:
        whole = np.full(chunks, encoding.fill, dtype=encoding.numpy_dtype.newbyteorder("<"))
        whole[: part.shape[0], : part.shape[1]] = part
    return bytes(blosc.compress(whole, LZ4.encode(), LZ4_LEVEL, blosc.SHUFFLE))


def existing_rows(files: Files, segment: LayerSegment, written: RowsWritten, *, content: bool = False) -> bool:
    """Whether the files that a part speaks of are there with their sizes, and with `content` their bytes too.

    After a power failure a file that was not forced to disk may have its size and other bytes.
    """
    if set(segment.chunk_keys(written.row_start, written.row_start + written.n_rows)) != set(written.entries):
        return False
    for key, (size, _) in written.entries.items():
        try:
            if files.size(f"{segment.path}/{key}") != size:
                return False
        except FileNotFoundError:
            return False
    return not content or hash_tree(files, segment.path, written.entries) == written.entries


def finish_segment(
    files: Files,
    segment: LayerSegment,
    written: Iterable[RowsWritten],
    feature_space: FeatureSpace,
    *,
    sync: bool = False,
) -> tuple[SegmentRecord, list[str]]:
    """Make a filled segment ready to be published; with `sync` force its chunks to disk first.

    Returns
    -------
    record : SegmentRecord
    row_hashes : list of str
        One a row.

    Raises
    ------
    DataError
        Rows are missing or were written twice, or a file is lost or has another size than was written.
    """
    parts = sorted(written, key=lambda part: part.row_start)
    row_hashes: list[str] = []
    manifest: Manifest = {}
    again = "run the same command again: these rows are computed anew"
    for part in parts:
        if part.row_start != len(row_hashes) or part.n_rows != len(part.row_hashes):
            raise DataError(
                f"segment {segment.segment_id}: rows {len(row_hashes)} to {part.row_start - 1} are missing "
                f"or written twice; {again}"
            )
        row_hashes += part.row_hashes
        manifest |= part.entries
    if len(row_hashes) != segment.n_samples:
        raise DataError(
            f"segment {segment.segment_id}: {len(row_hashes)} of {segment.n_samples} rows are written; {again}"
        )
    chunks = set(segment.chunk_keys())
    found = {entry.name: entry.size for entry in files.walk(segment.path)}
    bad = [key for key in sorted(chunks) if key not in manifest or found.get(key) != manifest[key][0]]
    if bad:
        raise DataError(
            f"chunk {bad[0]} of segment {files.where(segment.path)} (of {len(bad)} such) is lost or has "
            f"another size than was written; {again}"
        )
    if sync and files.is_local:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fsync_file, (files.local_path(f"{segment.path}/{key}") for key in sorted(chunks))))
        for folder in sorted({files.local_path(f"{segment.path}/{key}").parent for key in chunks}):
            fsync_folder(folder)
    feature_space.store(files)
    rest = ["zarr.json", f"{segment.quantity}/zarr.json"]
    rest += [key for key in found if key.split("/")[0] in ("sample_id", "feature_id") and not _is_temporary(key)]
    for key in found:
        if key not in chunks and key not in rest:
            # Of a worker that was killed while it wrote.
            files.delete(f"{segment.path}/{key}")
    try:
        manifest |= hash_tree(files, segment.path, rest, sync=True)
    except FileNotFoundError as error:
        raise DataError(f"segment {files.where(segment.path)} has lost its metadata; {again}") from error
    record = write_manifest(
        files,
        manifest,
        segment_id=segment.segment_id,
        assay=segment.assay,
        quantity=segment.quantity,
        encoding=segment.encoding,
        chunks=segment.chunks,
        sample_ids=segment.sample_ids,
        feature_space=feature_space,
    )
    return record, row_hashes


def _is_temporary(key: str) -> bool:
    name = key.rsplit("/", 1)[-1]
    return name.startswith(".") or name.endswith((".tmp", ".partial"))


def _check_aligned(start: int, stop: int, step: int, length: int, what: str) -> None:
    if start % step or (stop % step and stop != length) or not 0 <= start < stop <= length:
        raise ValueError(f"{what} {start}:{stop} are not aligned to chunks of {step} within 0:{length}")
