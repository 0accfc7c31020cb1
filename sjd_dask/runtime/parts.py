"""The small files that partitions leave behind, and how it is known that one is whole.

A part is an Arrow IPC file followed by a trailer: the blake2b-256 of the Arrow bytes, their length, and a mark. The
partition it belongs to (bounds and extras) is in the schema metadata, so under the same hash. A part is done when all
of that agrees; a torn, truncated or changed file, or one of a plan with other bounds, is as good as none. It is written
once under its name (locally: temporary name, forced to disk, renamed; object store: one PUT).
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import pyarrow as pa

from sjd_dask.errors import DataError
from sjd_dask.runtime.events import Listener, PartInvalid
from sjd_dask.runtime.plan import Partition
from sjd_dask.store.files import Files

_MARK = b"SJDPART1"
_TRAILER = struct.Struct("<32sQ8s")
_PARTITION_KEY = b"sjd_partition"
_JSON_COLUMN = "json"

Payload: TypeAlias = pa.Table | Mapping[str, Any]


class PartStore:
    """Parts of one attempt of one run, with sight of the earlier attempts.

    Parameters
    ----------
    files
        The cohort's files; parts lie at `runs/<run>/<attempt>/parts/<index>.arrow` below them.
    run_id
        The run.
    attempt
        This attempt, from 1. Parts of attempts 1 to `attempt` count as done; new ones go to this one.

    Notes
    -----
    Small and picklable: workers write through their own copy.
    """

    def __init__(self, files: Files, run_id: str, attempt: int) -> None:
        self.files = files
        self.run_id = run_id
        self.attempt = attempt
        self._found: dict[int, str] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return PartStore, (self.files, self.run_id, self.attempt)

    def path(self, index: int, attempt: int | None = None) -> str:
        """Path of a part below the cohort's files."""
        return f"runs/{self.run_id}/{self.attempt if attempt is None else attempt}/parts/{index}.arrow"

    def write(self, partition: Partition, payload: Payload) -> int:
        """Write the part of a partition.

        Parameters
        ----------
        partition
            What was computed.
        payload
            An Arrow table, or a mapping of plain JSON data (read back with `read_json`).

        Returns
        -------
        int
            Bytes written.
        """
        content = encode_part(partition, payload)
        # A torn part fails its hash and is computed again, so it need not wait for the disk.
        self.files.write_bytes(self.path(partition.index), content, durable=False)
        return len(content)

    def done(self, partitions: Iterable[Partition], on_event: Listener | None = None) -> set[int]:
        """Indices of the partitions whose part is whole, in this attempt or an earlier one.

        Every candidate is read and its hash checked. What is broken is told as `PartInvalid` and left where it is.
        """
        wanted = {partition.index: partition for partition in partitions}
        self._found = {}
        for attempt in range(self.attempt, 0, -1):
            folder = f"runs/{self.run_id}/{attempt}/parts"
            present = {entry.name for entry in self.files.walk(folder)}
            for index, partition in wanted.items():
                if index in self._found or f"{index}.arrow" not in present:
                    continue
                path = self.path(index, attempt)
                try:
                    decode_part(self.files.read_bytes(path), partition)
                except (DataError, OSError) as error:
                    if on_event is not None:
                        on_event(PartInvalid(index, path, str(error)))
                else:
                    self._found[index] = path
        return set(self._found)

    def read(self, partition: Partition) -> pa.Table:
        """The table of a partition.

        Raises
        ------
        DataError
            There is no whole part of it.
        """
        known = self._found.get(partition.index)
        paths = [self.path(partition.index, attempt) for attempt in range(self.attempt, 0, -1)]
        problem = "there is none"
        for path in [known, *paths] if known else paths:
            try:
                return decode_part(self.files.read_bytes(path), partition)
            except FileNotFoundError:
                continue
            except DataError as error:
                problem = str(error)
        raise DataError(
            f"run {self.run_id} has no whole part of {partition}: {problem}. Resume the run to compute it again."
        )

    def read_json(self, partition: Partition) -> dict[str, Any]:
        """The mapping a partition left, where it left one."""
        table = self.read(partition)
        if table.column_names != [_JSON_COLUMN]:
            raise DataError(f"the part of {partition} is a table, not a mapping")
        return dict(json.loads(table.column(0)[0].as_py()))

    def tables(self, partitions: Sequence[Partition]) -> Iterator[pa.Table]:
        """The tables of all partitions in their order, one at a time."""
        for partition in partitions:
            yield self.read(partition)

    def delete(self) -> None:
        """Remove the parts of all attempts: their result is published, or nobody wants it. Logs and plans stay."""
        for attempt in range(1, self.attempt + 1):
            self.files.delete_tree(f"runs/{self.run_id}/{attempt}/parts")
        self._found = {}


def encode_part(partition: Partition, payload: Payload) -> bytes:
    """The bytes of a part file."""
    if isinstance(payload, pa.Table):
        table = payload
    elif isinstance(payload, Mapping):
        table = pa.table({_JSON_COLUMN: [json.dumps(payload, sort_keys=True)]})
    else:
        raise TypeError(f"a part is a pyarrow.Table or a mapping of plain data, not {type(payload).__qualname__}")
    label = json.dumps(partition.to_json(), sort_keys=True).encode()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _PARTITION_KEY: label})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body + _TRAILER.pack(hashlib.blake2b(body, digest_size=32).digest(), len(body), _MARK)


def decode_part(content: bytes, partition: Partition) -> pa.Table:
    """The table of a part file.

    Raises
    ------
    DataError
        The file is not a whole part of that partition.
    """
    if len(content) < _TRAILER.size:
        raise DataError(f"it is truncated ({len(content)} bytes)")
    digest, length, mark = _TRAILER.unpack(content[-_TRAILER.size :])
    body = memoryview(content)[: -_TRAILER.size]
    if mark != _MARK or length != len(body):
        raise DataError(f"it is truncated or not a part ({len(content)} bytes)")
    if hashlib.blake2b(body, digest_size=32).digest() != digest:
        raise DataError("its hash differs from its content")
    table = pa.ipc.open_file(pa.py_buffer(body)).read_all()
    metadata = dict(table.schema.metadata)
    label = json.loads(metadata.pop(_PARTITION_KEY))
    if label != json.loads(json.dumps(partition.to_json())):
        raise DataError(
            f"it holds features {label['feature_start']} to {label['feature_stop'] - 1} of another plan, not "
            f"{partition}"
        )
    return table.replace_schema_metadata(metadata or None)
