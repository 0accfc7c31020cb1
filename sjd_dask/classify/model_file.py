"""A fitted pipeline as bytes of skops: no pickle, the same bytes each time, types checked before anything is made."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator, Mapping
from typing import Any

from sjd_dask.errors import DataError

# Beside what skops trusts by itself: a dtype that the imputer remembers, and the nodes of a tree.
TRUSTED = ("numpy.dtype", "sklearn.tree._tree.Tree")
# What the pipelines of this package are made of. Importing skops imports all of scikit-learn, which takes longer than
# scoring a night, so the file's own list of types is looked at first; skops looks again before anything is made.
_NODES = frozenset(
    f"{kind}Node"
    for kind in "DType Dict Json List Loss NdArray Object RandomState Set Tree Tuple Type".split()  # noqa: SIM905
)
_PACKAGES = frozenset(("numpy", "sklearn"))
_BUILTINS = frozenset(("NoneType", "bool", "dict", "float", "int", "list", "set", "str", "tuple"))
_EPOCH = (1980, 1, 1, 0, 0, 0)


def dump_pipeline(pipeline: Any) -> bytes:
    """The pipeline in the format of skops.

    skops names what it stores by addresses in memory; here they are numbered in their order, so equal pipelines have
    equal bytes.
    """
    import skops.io

    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(pipeline))) as source:
        numbers: dict[Any, int] = {}
        schema = _renumbered(json.loads(source.read("schema.json")), numbers)
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w") as made:
            for name in sorted(source.namelist(), key=lambda name: numbers.get(_number(name), -1)):
                if name != "schema.json":
                    _write(made, f"{numbers[_number(name)]}.npy", source.read(name))
            _write(made, "schema.json", json.dumps(schema).encode())
    return out.getvalue()


def check_pipeline(data: bytes) -> None:
    """Refuse bytes that aren't of skops, or would make an object of a type that isn't known to be harmless.

    Raises
    ------
    DataError
        Names the types.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as source:
            unknown = sorted(set(_unknown_types(json.loads(source.read("schema.json")))))
    except (zipfile.BadZipFile, KeyError, ValueError, OSError, EOFError, RecursionError) as error:
        raise DataError(
            f"model.skops of this bundle can't be read ({type(error).__name__}: {error}): the file is damaged. "
            "Restore the bundle from a backup or train the model again."
        ) from error
    if unknown:
        raise DataError(
            f"model.skops of this bundle holds objects of type {', '.join(unknown)}, which are not of a classifier "
            "trained here: nothing of it was loaded. Train the model again, or restore the bundle from a backup."
        )


def load_pipeline(data: bytes) -> Any:
    """The pipeline, after `check_pipeline`."""
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    check_pipeline(data)
    try:
        return skops.io.loads(data, trusted=list(TRUSTED))
    except UntrustedTypesFoundException as error:
        raise DataError(f"model.skops of this bundle was not loaded: {error}. Train the model again.") from error


def _unknown_types(node: Any) -> Iterator[str]:
    """Names of what a file would make, and this package never puts there."""
    if isinstance(node, list):
        for one in node:
            yield from _unknown_types(one)
    elif isinstance(node, Mapping):
        module, name = str(node.get("__module__", "builtins")), str(node.get("__class__", "dict"))
        is_known = name in _BUILTINS if module == "builtins" else module.split(".")[0] in _PACKAGES
        if not is_known or node.get("__loader__", "DictNode") not in _NODES:
            yield f"{module}.{name}"
        for one in node.values():
            yield from _unknown_types(one)


def _number(name: str) -> Any:
    stem = name.removesuffix(".npy")
    return int(stem) if stem.isdigit() else stem


def _renumbered(node: Any, numbers: dict[Any, int]) -> Any:
    """The schema with new numbers; plain values get one of their own, since which of them share a place is chance."""
    if isinstance(node, list):
        return [_renumbered(one, numbers) for one in node]
    if not isinstance(node, Mapping):
        return node
    made = {key: _renumbered(value, numbers) for key, value in node.items()}
    if "__id__" in node:
        old = ("plain", len(numbers)) if node.get("__loader__") == "JsonNode" else node["__id__"]
        made["__id__"] = numbers.setdefault(old, len(numbers) + 1)
    if isinstance(node.get("file"), str) and node["file"].endswith(".npy"):
        number = numbers.setdefault(_number(node["file"]), len(numbers) + 1)
        made["file"] = f"{number}.npy"
    return made


def _write(made: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = 0o600 << 16
    made.writestr(entry, data)
