"""Named arrays as a small Arrow table and back: what a fit's tasks leave in their part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from sjd_dask.normalise.method import Arrays, Partial

_GROUPS = ("sums", "rows", "columns")


def to_table(groups: dict[str, Arrays]) -> pa.Table:
    """One row an array: its group, name, type, shape and bytes; text as UTF-32."""
    found: dict[str, list[Any]] = {"group": [], "name": [], "dtype": [], "shape": [], "data": []}
    for group, arrays in groups.items():
        for name, value in arrays.items():
            array = np.asarray(value)
            if array.dtype.kind == "O":
                array = array.astype(str)
            array = np.ascontiguousarray(array)
            found["group"].append(group)
            found["name"].append(name)
            found["dtype"].append(array.dtype.str)
            found["shape"].append(list(array.shape))
            found["data"].append(
                memoryview(array.reshape(-1)).cast("B") if array.dtype.kind != "U" else array.tobytes()
            )
    return pa.table(
        {
            "group": pa.array(found["group"], pa.string()),
            "name": pa.array(found["name"], pa.string()),
            "dtype": pa.array(found["dtype"], pa.string()),
            "shape": pa.array(found["shape"], pa.list_(pa.int64())),
            "data": pa.array([bytes(one) for one in found["data"]], pa.large_binary()),
        }
    )


def from_table(table: pa.Table) -> dict[str, Arrays]:
    """The reverse of `to_table`."""
    groups: dict[str, Arrays] = {}
    columns = [table[name].to_pylist() for name in ("group", "name", "dtype", "shape")]
    data = table["data"].combine_chunks() if table.num_rows else []
    for i, (group, name, dtype, shape) in enumerate(zip(*columns, strict=True)):
        array = np.frombuffer(data[i].as_buffer(), dtype=np.dtype(dtype)).reshape(shape)
        groups.setdefault(group, {})[name] = array.astype(object) if array.dtype.kind == "U" else array
    return groups


def partial_table(partial: Partial) -> pa.Table:
    """A `Partial` as a table."""
    return to_table({group: getattr(partial, group) for group in _GROUPS})


def table_partial(table: pa.Table) -> Partial:
    """The reverse of `partial_table`."""
    groups = from_table(table)
    return Partial(*(groups.get(group, {}) for group in _GROUPS))
