"""Writing a segment: one arrival of samples as an immutable Zarr v3 group that xarray can open by itself."""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec, ZstdCodec

from sjd_dask import names
from sjd_dask.errors import DataError, SjdError, SpecError
from sjd_dask.store.codec import assert_fast, use_fast_pipeline
from sjd_dask.store.features import FeatureSpace
from sjd_dask.store.files import Files, storage_error
from sjd_dask.store.layout import Encoding, Layout, check_quantity

if TYPE_CHECKING:
    from zarr.abc.store import Store

LZ4: Final = "lz4"
LZ4_LEVEL: Final = 5
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
Manifest = dict[str, tuple[int, str]]


def check_name(name: str, what: str) -> str:
    """A name that may become part of a path, or SpecError naming it and the rule."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name or len(name) > 200:
        raise SpecError(
            f"{name!r} cannot be the name of {what}: use letters, digits, '_', '-' and '.', starting with a letter or "
            f"digit, without '..', at most 200 characters"
        )
    return name


_LAYER_KEY = re.compile(r"([^@]+)@[0-9a-f]{16}")


def is_layer_key(name: str) -> bool:
    """Whether an assay's name in the catalogue is a layer's: NAME@HASH. No user can give an assay such a name."""
    return "@" in name


def check_assay_key(name: str) -> str:
    """The name of an assay, or the name under which a layer's rows are kept; else SpecError."""
    match = _LAYER_KEY.fullmatch(name) if isinstance(name, str) else None
    check_name(match.group(1) if match else name, "an assay")
    return name


def segment_path(assay: str, segment_id: str) -> str:
    """The folder of a segment."""
    return f"segments/{assay}/{segment_id}.zarr"


def manifest_path(assay: str, segment_id: str) -> str:
    """The list of a segment's files with their sizes and hashes."""
    return f"segments/{assay}/{segment_id}.manifest.json"


@dataclass(frozen=True)
class SegmentRecord:
    """What the catalogue needs to know of a written segment."""

    segment_id: str
    assay: str
    quantity: str
    encoding: Encoding
    chunks: tuple[int, int]
    sample_ids: tuple[str, ...]
    n_features: int
    feature_hash: str
    feature_table: str
    n_bytes: int
    manifest_hash: str

    @property
    def n_samples(self) -> int:
        """How many rows."""
        return len(self.sample_ids)


class SegmentWriter:
    """Writes one segment, block by block; nobody sees it before it is published.

    Parameters
    ----------
    files : Files
        The cohort's data.
    assay, segment_id, quantity : str
        Names; `segment_id` is new.
    encoding : Encoding
        How the raw blocks stand for values.
    layout : Layout
        Chunk shape; smaller matrices get smaller chunks.
    sample_ids : sequence of str
        One a row.
    feature_space : FeatureSpace
        The columns.
    """

    def __init__(
        self,
        files: Files,
        assay: str,
        segment_id: str,
        quantity: str,
        encoding: Encoding,
        layout: Layout,
        sample_ids: Sequence[str],
        feature_space: FeatureSpace,
    ) -> None:
        use_fast_pipeline()
        self.files = files
        self.assay = check_assay_key(assay)
        self.segment_id = check_name(segment_id, "a segment")
        # A layer's variable has the layer's own name.
        self.quantity = check_name(quantity, "a layer") if is_layer_key(assay) else check_quantity(quantity)
        self.encoding = encoding
        self.sample_ids = tuple(str(one) for one in sample_ids)
        self.feature_space = feature_space
        self.path = segment_path(assay, segment_id)
        if not self.sample_ids:
            raise DataError(f"a segment of {assay} needs at least one sample")
        self.shape = (len(self.sample_ids), feature_space.n_features)
        self.chunks = layout.chunks(*self.shape)
        if files.exists(f"{self.path}/zarr.json"):
            raise DataError(f"segment {files.where(self.path)} exists; segments are written once")
        self._guard(self._create)

    def _guard(self, action: Callable[[], Any]) -> Any:
        try:
            return action()
        except SjdError:
            raise
        except (OSError, RuntimeError, ValueError) as error:
            # The codec library raises RuntimeError for a full disk.
            if isinstance(error, ValueError) and not isinstance(error, OSError):
                raise
            where = self.files.where(self.path)
            raise storage_error(error, where, "this segment is not complete and was not published") from error

    def _create(self) -> None:
        self._array = create_matrix(
            self.files.zarr_store(self.path),
            self.quantity,
            self.encoding,
            self.chunks,
            self.sample_ids,
            self.feature_space.feature_ids,
            {"quantity": self.quantity, "feature_hash": self.feature_space.hash},
        )

    def write(self, row_start: int, feature_start: int, raw: NDArray[Any]) -> None:
        """Write a block of raw values, shape (rows, features), whose corner lies on a chunk corner.

        Raises
        ------
        SjdError
            Storage refused (disk full, read-only): names the place and the remedy.
        """
        rows, columns = raw.shape
        row_stop, feature_stop = row_start + rows, feature_start + columns
        for start, stop, step, length in (
            (row_start, row_stop, self.chunks[0], self.shape[0]),
            (feature_start, feature_stop, self.chunks[1], self.shape[1]),
        ):
            # A block that ends inside a chunk would make the next one read it back and write it again.
            if start % step or (stop % step and stop != length) or stop > length:
                raise ValueError(f"block {start}:{stop} is not aligned to chunks of {step} within 0:{length}")
        if raw.dtype != self.encoding.numpy_dtype:
            raise ValueError(f"block has type {raw.dtype}, the segment stores {self.encoding.dtype}")

        def put() -> None:
            self._array[row_start:row_stop, feature_start:feature_stop] = raw

        self._guard(put)

    def finish(self) -> SegmentRecord:
        """Force all bytes to disk, record every file's size and hash, and return what is to be published."""
        result: SegmentRecord = self._guard(self._finish)
        return result

    def _finish(self) -> SegmentRecord:
        self.feature_space.store(self.files)
        manifest = hash_tree(self.files, self.path)
        return write_manifest(
            self.files,
            manifest,
            segment_id=self.segment_id,
            assay=self.assay,
            quantity=self.quantity,
            encoding=self.encoding,
            chunks=self.chunks,
            sample_ids=self.sample_ids,
            feature_space=self.feature_space,
        )

    def abort(self) -> None:
        """Remove what was written."""
        remove_segment(self.files, self.assay, self.segment_id)


def create_matrix(
    store: Store,
    quantity: str,
    encoding: Encoding,
    chunks: tuple[int, int],
    sample_ids: Sequence[str],
    feature_ids: NDArray[Any],
    group_attributes: dict[str, Any],
) -> zarr.Array[Any]:
    """Make a group that xarray opens by itself: the matrix, empty, and its ids.

    Parameters
    ----------
    store : zarr store
        Holds nothing yet.
    group_attributes : dict
        Of the group; written last, so a group that has them is complete but for its chunks.

    Returns
    -------
    zarr.Array
        The matrix, dims (samples, features).
    """
    group = zarr.open_group(store, mode="w-", zarr_format=3)
    attributes: dict[str, Any] = {"coordinates": f"{names.SAMPLE_ID} {names.FEATURE_ID}"}
    if encoding.scale_factor is not None:
        attributes["scale_factor"] = encoding.scale_factor
    if encoding.fill_value is not None:
        attributes["_FillValue"] = encoding.fill_value
    array = group.create_array(
        quantity,
        shape=(len(sample_ids), len(feature_ids)),
        dtype=encoding.numpy_dtype,
        chunks=chunks,
        compressors=_compressor(encoding),
        fill_value=encoding.fill,
        dimension_names=(names.SAMPLES, names.FEATURES),
        attributes=attributes,
    )
    for name, dimension, ids in (
        (names.SAMPLE_ID, names.SAMPLES, sample_ids),
        (names.FEATURE_ID, names.FEATURES, feature_ids),
    ):
        # Text of variable length: the fixed-length type has no stable Zarr v3 specification and warns.
        coordinate = group.create_array(
            name,
            shape=(len(ids),),
            dtype=str,
            chunks=(max(1, len(ids)),),
            compressors=ZstdCodec(level=3),
            dimension_names=(dimension,),
        )
        coordinate[:] = np.array(ids, dtype=object)
    group.attrs.update(group_attributes)
    return array


def write_manifest(
    files: Files,
    manifest: Manifest,
    *,
    segment_id: str,
    assay: str,
    quantity: str,
    encoding: Encoding,
    chunks: tuple[int, int],
    sample_ids: tuple[str, ...],
    feature_space: FeatureSpace,
) -> SegmentRecord:
    """Write the list of a finished segment's files; returns what is to be published."""
    content = json.dumps(manifest, separators=(",", ":"), sort_keys=True).encode()
    files.write_bytes(manifest_path(assay, segment_id), content)
    return SegmentRecord(
        segment_id=segment_id,
        assay=assay,
        quantity=quantity,
        encoding=encoding,
        chunks=chunks,
        sample_ids=sample_ids,
        n_features=feature_space.n_features,
        feature_hash=feature_space.hash,
        feature_table=feature_space.table_hash,
        n_bytes=sum(size for size, _ in manifest.values()),
        manifest_hash=blake2b(content, digest_size=16).hexdigest(),
    )


def _compressor(encoding: Encoding) -> BloscCodec | ZstdCodec:
    """LZ4 with byte shuffle for floats and scaled codes, whose low bits are noise that zstd spends its time on; zstd
    for counts."""
    if encoding.is_float or encoding.scale_factor is not None:
        return BloscCodec(cname=LZ4, clevel=LZ4_LEVEL, shuffle="shuffle", typesize=encoding.numpy_dtype.itemsize)
    return ZstdCodec(level=3)


def remove_segment(files: Files, assay: str, segment_id: str) -> None:
    """Delete a segment's bytes; nothing happens where there are none."""
    files.delete_tree(segment_path(assay, segment_id))
    files.delete(manifest_path(assay, segment_id))


def hash_tree(files: Files, folder: str, keys: Iterable[str] | None = None, *, sync: bool | None = None) -> Manifest:
    """Size and blake2b-128 of every file below a folder, or of some.

    Local files are forced to disk on the way where `sync` says so; default: where all are asked for.
    """
    wanted = sorted(keys) if keys is not None else sorted(entry.name for entry in files.walk(folder))
    force = files.is_local and (keys is None if sync is None else sync)

    def one(key: str) -> tuple[str, tuple[int, str]]:
        if files.is_local:
            with files.local_path(f"{folder}/{key}").open("rb") as stream:
                content = stream.read()
                if force:
                    os.fsync(stream.fileno())
        else:
            content = files.read_bytes(f"{folder}/{key}")
        return key, (len(content), blake2b(content, digest_size=16).hexdigest())

    with ThreadPoolExecutor(4) as pool:
        return dict(pool.map(one, wanted))


@lru_cache(maxsize=1024)
def load_manifest(files: Files, assay: str, segment_id: str, manifest_hash: str) -> Manifest:
    """The recorded files of a segment.

    Raises
    ------
    DataError
        The manifest is lost or is not the one that was published.
    """
    path = manifest_path(assay, segment_id)
    remedy = f"segment {segment_id} of {assay} cannot be checked; restore the file from a backup"
    try:
        content = files.read_bytes(path)
    except FileNotFoundError as error:
        raise DataError(f"the manifest {files.where(path)} is lost; {remedy}") from error
    if blake2b(content, digest_size=16).hexdigest() != manifest_hash:
        raise DataError(f"the manifest {files.where(path)} changed after it was published; {remedy}")
    return {key: (int(size), str(digest)) for key, (size, digest) in json.loads(content).items()}


@lru_cache(maxsize=2048)
def open_array(files: Files, path: str) -> zarr.Array[Any]:
    """Open an array of a segment for reading; opened once in each process."""
    use_fast_pipeline()
    folder, _, name = path.rpartition("/")
    array = zarr.open_array(files.zarr_store(folder, read_only=True), path=name, mode="r", zarr_format=3)
    if array.dtype.kind in "uif" and (files.is_local or files.url.startswith("s3")):
        assert_fast(array)
    return array


def new_segment_id() -> str:
    """A new name for a segment: the time, for people who look into the folder, and randomness."""
    return time.strftime("%Y%m%d%H%M%S", time.gmtime()) + "-" + secrets.token_hex(4)
