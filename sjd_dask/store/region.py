"""Reading the rows of chosen samples, whatever segments they lie in, a stripe of features at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray
from zarr.core.buffer.cpu import NDBuffer

from sjd_dask.errors import DataError
from sjd_dask.store.files import Files
from sjd_dask.store.layout import Encoding, common_encoding, convert
from sjd_dask.store.segment import is_layer_key, load_manifest, open_array, segment_path

Block = tuple[NDArray[np.int64], NDArray[Any], Encoding]


@dataclass(frozen=True, eq=False)
class Piece:
    """Chosen rows of one segment that were published one after another, in the segment's order."""

    segment_id: str
    encoding: Encoding
    chunks: tuple[int, int]
    manifest_hash: str
    rows: NDArray[np.int64]
    positions: NDArray[np.int64]


class RegionReader:
    """Reads raw values of chosen samples of one assay.

    Built in the driver, small, picklable; opens segments in the process that reads. Blocks come in storage order with
    the positions of their rows in `sample_ids`, so rows are aligned by id and never by place.

    Parameters
    ----------
    files : Files
        The cohort's data.
    assay, quantity : str
    sample_ids : sequence of str
        The chosen samples.
    n_features : int
    pieces : list of Piece
        In storage order; together they hold every position once.
    content : str
        Hash of what the rows hold.
    """

    def __init__(
        self,
        files: Files,
        assay: str,
        quantity: str,
        sample_ids: Sequence[str],
        n_features: int,
        pieces: list[Piece],
        content: str,
    ) -> None:
        self.files = files
        self.assay = assay
        self.quantity = quantity
        self.sample_ids = tuple(sample_ids)
        self.n_features = n_features
        self.pieces = pieces
        self.encoding = common_encoding([piece.encoding for piece in pieces])
        self._content = content

    @property
    def n_samples(self) -> int:
        """How many samples were chosen."""
        return len(self.sample_ids)

    @property
    def n_segments(self) -> int:
        """How many segments they lie in."""
        return len({piece.segment_id for piece in self.pieces})

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the raw values that are handed out."""
        return self.encoding.numpy_dtype

    @property
    def chunk_samples(self) -> int:
        """Largest number of rows of a stored chunk."""
        return max(piece.chunks[0] for piece in self.pieces)

    @property
    def chunk_features(self) -> int:
        """Number of features of a stored chunk: stripes that are multiples of it read every chunk once."""
        return max(piece.chunks[1] for piece in self.pieces)

    @property
    def n_bytes(self) -> int:
        """Bytes of the chosen rows when decompressed, as stored types."""
        return sum(len(piece.rows) * piece.encoding.numpy_dtype.itemsize for piece in self.pieces) * self.n_features

    def content_hash(self) -> str:
        """Hash over sample ids with their row hashes and the features; compaction does not change it."""
        return self._content

    def row_blocks(
        self, feature_start: int, feature_stop: int, rows: int = 256, *, reuse: bool = False
    ) -> Iterator[Block]:
        """Blocks of exactly `rows` rows (the last one shorter) of some features.

        Parameters
        ----------
        feature_start, feature_stop : int
            The stripe; aligned to `chunk_features` it reads every chunk once.
        rows : int
            Rows of a block, whatever the segments' sizes. A multiple of `chunk_samples` reads straight into the block.
        reuse : bool
            Hand out the same array each time, overwritten at the next step: saves touching new memory.

        Yields
        ------
        positions : ndarray of int64, shape (k,)
            Where these rows stand in `sample_ids`.
        raw : ndarray, shape (k, feature_stop - feature_start), C-contiguous
            Raw values.
        encoding : Encoding
            What they mean; the same for all blocks.

        Raises
        ------
        DataError
            A chunk that was recorded at publication is lost or damaged. It is never read as missing values.
        """
        if not 0 <= feature_start <= feature_stop <= self.n_features:
            raise ValueError(f"features {feature_start}:{feature_stop} are not within 0:{self.n_features}")
        width, total, done = feature_stop - feature_start, self.n_samples, 0
        rows = max(1, rows)
        out = np.empty((min(rows, total), width), dtype=self.dtype)
        places = np.empty(len(out), dtype=np.int64)
        filled = 0
        for piece in self.pieces:
            source = _Source(self.files, self.assay, self.quantity, piece, feature_start, feature_stop)
            direct = piece.encoding == self.encoding
            at = 0
            while at < len(piece.rows):
                space = len(out) - filled
                count = source.straight(at, space) if direct else 0
                if count:
                    source.read_into(at, count, out[filled : filled + count])
                    taken: NDArray[Any] | None = None
                else:
                    count = source.next_chunks(at, max(space, piece.chunks[0]))
                    taken = convert(source.read(at, count), piece.encoding, self.encoding)
                start = 0
                while start < count:
                    step = min(count - start, len(out) - filled)
                    if taken is not None:
                        out[filled : filled + step] = taken[start : start + step]
                    places[filled : filled + step] = piece.positions[at + start : at + start + step]
                    start += step
                    filled += step
                    if filled == len(out):
                        yield places, out, self.encoding
                        done += filled
                        filled = 0
                        left = min(rows, total - done)
                        if not reuse:
                            out = np.empty((left, width), dtype=self.dtype)
                            places = np.empty(left, dtype=np.int64)
                        elif left < len(out):
                            out, places = out[:left], places[:left]
                at += count

    def columns(self, feature_start: int, feature_stop: int) -> tuple[NDArray[Any], Encoding]:
        """All chosen samples of some features.

        Returns
        -------
        raw : ndarray, shape (n_samples, feature_stop - feature_start)
            Rows in the order of `sample_ids`.
        encoding : Encoding
        """
        in_order = np.arange(self.n_samples)
        whole = all(np.array_equal(piece.positions, in_order) for piece in self.pieces)
        # The codec pipeline decodes whole chunks, all those of one read before it hands any out: of a narrow stripe
        # some rows at a time.
        step = self.chunk_features
        aligned = feature_start % step == 0 and (feature_stop % step == 0 or feature_stop == self.n_features)
        if whole and aligned:
            for _, raw, encoding in self.row_blocks(feature_start, feature_stop, self.n_samples):
                return raw, encoding
        result = np.empty((self.n_samples, feature_stop - feature_start), dtype=self.dtype)
        for positions, raw, _ in self.row_blocks(feature_start, feature_stop, reuse=True):
            result[positions] = raw
        return result, self.encoding

    def subset(self, positions: NDArray[np.int64]) -> RegionReader:
        """A reader of some of these samples, in the given order."""
        new_place = np.full(self.n_samples, -1, dtype=np.int64)
        new_place[positions] = np.arange(len(positions))
        pieces = []
        for piece in self.pieces:
            places = new_place[piece.positions]
            keep = places >= 0
            if keep.any():
                pieces.append(replace(piece, rows=piece.rows[keep], positions=places[keep]))
        digest = blake2b(self._content.encode(), digest_size=16)
        digest.update(np.ascontiguousarray(positions, dtype="<i8").tobytes())
        reader = RegionReader(
            self.files,
            self.assay,
            self.quantity,
            [self.sample_ids[one] for one in positions],
            self.n_features,
            pieces,
            digest.hexdigest(),
        )
        # Parts of one matrix must agree on their type.
        reader.encoding = self.encoding
        return reader


class _Source:
    """Reads of one segment within one stripe of features."""

    def __init__(
        self, files: Files, assay: str, quantity: str, piece: Piece, feature_start: int, feature_stop: int
    ) -> None:
        self.files, self.assay, self.quantity, self.piece = files, assay, quantity, piece
        self.features = slice(feature_start, feature_stop)
        self.folder = segment_path(assay, piece.segment_id)
        try:
            self.array = open_array(files, f"{self.folder}/{quantity}")
        except FileNotFoundError as error:
            raise self._lost(f"{quantity}/zarr.json", "is lost") from error
        self.sizes = chunk_sizes(files, assay, piece.segment_id, quantity, piece.manifest_hash)

    def straight(self, at: int, space: int) -> int:
        """How many rows from `at` on form one gapless run that fits the space and does not end within a chunk."""
        rows, step = self.piece.rows, self.piece.chunks[0]
        limit = min(space, len(rows) - at)
        if limit < 1:
            return 0
        if rows[at + limit - 1] - rows[at] != limit - 1:
            run = np.flatnonzero(np.diff(rows[at : at + limit]) != 1)
            limit = int(run[0]) + 1
            last = int(rows[at + limit - 1])
            following = int(rows[at + limit])
            if following // step != last // step:
                return limit
            # More rows of this chunk follow after a gap: leave the chunk to be read once, with them.
        elif at + limit == len(rows):
            return limit
        stop = int(rows[at]) + limit
        return max(0, stop - stop % step - int(rows[at]))

    def next_chunks(self, at: int, most: int) -> int:
        """How many chosen rows lie in the next neighbouring chunks, at least one chunk and about `most` rows."""
        rows, step = self.piece.rows, self.piece.chunks[0]
        first = int(rows[at]) // step
        window = rows[at : at + most] // step
        gap = np.flatnonzero(np.diff(window) > 1)
        last = int(window[int(gap[0])]) if len(gap) else int(window[-1])
        stop = int(np.searchsorted(rows, (last + 1) * step))
        if stop - at > most and last > first:
            stop = int(np.searchsorted(rows, last * step))
        return stop - at

    def read(self, at: int, count: int) -> NDArray[Any]:
        """The chosen rows from `at` on, by one read of the span they lie in."""
        chosen = self.piece.rows[at : at + count]
        start, stop = int(chosen[0]), int(chosen[-1]) + 1
        span = np.empty((stop - start, self.features.stop - self.features.start), dtype=self.array.dtype)
        self._read(start, stop, span)
        return span if stop - start == count else span[chosen - start]

    def read_into(self, at: int, count: int, out: NDArray[Any]) -> None:
        """A gapless run of rows, decoded straight to where it belongs."""
        start = int(self.piece.rows[at])
        self._read(start, start + count, out)

    def _read(self, start: int, stop: int, out: NDArray[Any]) -> None:
        if out.size == 0:
            return
        row_step, feature_step = self.piece.chunks
        row_chunks = range(start // row_step, (stop - 1) // row_step + 1)
        feature_chunks = range(self.features.start // feature_step, (self.features.stop - 1) // feature_step + 1)
        if self.files.is_local:
            for row in row_chunks:
                for feature in feature_chunks:
                    self._check_file(row, feature)
        try:
            self.array.get_basic_selection((slice(start, stop), self.features), out=NDBuffer.from_numpy_array(out))
        except (OSError, RuntimeError, ValueError) as error:
            raise DataError(
                f"segment {self.files.where(self.folder)}, rows {start}:{stop}, features {self.features.start}:"
                f"{self.features.stop} cannot be read: {error}. Find what is damaged with: sjd verify COHORT"
            ) from error
        if not self.files.is_local:
            self._check_fill(row_chunks, feature_chunks, start, stop, out)

    def _check_file(self, row: int, feature: int) -> None:
        # Zarr reads a lost chunk as fill values without a word; the recorded size tells.
        size = self.sizes.get((row, feature))
        if size is None:
            return
        key = f"{self.quantity}/c/{row}/{feature}"
        try:
            found = os.stat(f"{self.files.url}/{self.folder}/{key}").st_size
        except FileNotFoundError as error:
            raise self._lost(key, "is lost") from error
        if found != size:
            raise self._lost(key, f"has {found} bytes instead of {size}")

    def _check_fill(self, row_chunks: range, feature_chunks: range, start: int, stop: int, out: NDArray[Any]) -> None:
        # One request a chunk would double the cost on an object store: ask only where all that came is fill.
        row_step, feature_step = self.piece.chunks
        for row in row_chunks:
            top, bottom = max(row * row_step, start) - start, min((row + 1) * row_step, stop) - start
            for feature in feature_chunks:
                if (row, feature) not in self.sizes:
                    continue
                left = max(feature * feature_step, self.features.start) - self.features.start
                right = min((feature + 1) * feature_step, self.features.stop) - self.features.start
                fill = self.piece.encoding.fill_value
                if not _is_fill(out[top, left], fill) or not np.all(_is_fill(out[top:bottom, left:right], fill)):
                    continue
                key = f"{self.quantity}/c/{row}/{feature}"
                if not self.files.exists(f"{self.folder}/{key}"):
                    raise self._lost(key, "is lost")

    def _lost(self, key: str, what: str) -> DataError:
        remedy = "restore it from a backup"
        if not is_layer_key(self.assay):
            remedy += ", or ingest these samples again with --replace"
        return DataError(
            f"chunk {key} of segment {self.piece.segment_id} of assay {self.assay!r} {what} "
            f"({self.files.where(self.folder)}); {remedy}"
        )


def _is_fill(values: Any, fill: int | None) -> Any:
    return np.isnan(values) if fill is None else values == fill


@lru_cache(maxsize=1024)
def chunk_sizes(
    files: Files, assay: str, segment_id: str, quantity: str, manifest_hash: str
) -> dict[tuple[int, int], int]:
    """Recorded bytes of each chunk of the matrix; a chunk of fill values only was never written and is not in it."""
    sizes = {}
    for key, (size, _) in load_manifest(files, assay, segment_id, manifest_hash).items():
        parts = key.split("/")
        if len(parts) == 4 and parts[0] == quantity and parts[1] == "c":
            sizes[int(parts[2]), int(parts[3])] = size
    return sizes
