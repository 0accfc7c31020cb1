"""Files that steps of a normalisation name: found beside the spec, hashed, and kept by name only."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable
from pathlib import Path

from sjd_dask.errors import SpecError
from sjd_dask.jobs.normalise_spec import NormaliseSpec
from sjd_dask.normalise.method import METHODS, Method


def portable(method: Method) -> Method:
    """The method with the bare names of its files."""
    changed = {
        one.name: Path(value).name
        for one in dataclasses.fields(method)  # type: ignore[arg-type]
        if one.metadata.get("path") and isinstance(value := getattr(method, one.name), str)
    }
    return dataclasses.replace(method, **changed) if changed else method  # type: ignore[type-var]


def with_paths(spec: NormaliseSpec, change: Callable[[str], str]) -> NormaliseSpec:
    """The spec with the paths of its steps' files changed."""
    if spec.steps is None:
        return spec
    steps = []
    for step in spec.steps:
        method = METHODS[step.method]
        changed = {
            one.name: change(value)
            for one in dataclasses.fields(method)  # type: ignore[arg-type]
            if one.metadata.get("path") and isinstance(value := getattr(step, one.name), str)
        }
        steps.append(step.model_copy(update=changed))
    return spec.model_copy(update={"steps": steps})


def file_name(path: str) -> str:
    """The name of a file without its folder."""
    return Path(path).name


def file_hashes(method: Method) -> dict[str, str]:
    """Hashes of the files that a method names, by option.

    Raises
    ------
    SpecError
        A file can't be read.
    """
    found = {}
    for one in dataclasses.fields(method):  # type: ignore[arg-type]
        value = getattr(method, one.name)
        if one.metadata.get("path") and isinstance(value, str):
            try:
                found[one.name] = hashlib.blake2b(Path(value).read_bytes(), digest_size=16).hexdigest()
            except OSError as error:
                raise SpecError(f"step `{method.method}`: `{one.name}: {value}` can't be read: {error}") from None
    return found
