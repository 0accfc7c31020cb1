"""Bundles: a folder of files that belong together, named with size and hash in a manifest whose own hash is published.

Equal content gives an equal hash. Nothing in a bundle is ever unpickled, and whoever reads one gets exactly the files
that were published, or an error that names the file that is not.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

from sjd_dask.errors import DataError, SpecError
from sjd_dask.store.catalogue.results import BundleFile
from sjd_dask.store.files import Files, writing

BUNDLES: Final = "models"
MANIFEST: Final = "manifest.json"
FACTS: Final = "facts.json"
FORMAT: Final = 1
# What a file may be, by its ending. All of these can be read without running code from the file.
KINDS: Final = {".json": "json", ".npz": "arrays", ".skops": "skops", ".txt": "text", ".parquet": "table"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}(/[A-Za-z0-9][A-Za-z0-9_.-]{0,199}){0,3}")


def bundle_bytes(blobs: Mapping[str, bytes], facts: Mapping[str, Any]) -> dict[str, bytes]:
    """All files of a bundle, its manifest last.

    Raises
    ------
    SpecError
        A name or kind of file that can't be stored, or facts that are not plain data.
    """
    content = dict(sorted(blobs.items()))
    for name in content:
        if not _NAME.fullmatch(name) or ".." in name or name in (MANIFEST, FACTS) or _kind(name) is None:
            raise SpecError(
                f"{name!r} cannot be the name of a file in a bundle: letters, digits, '_', '-', '.' and '/', ending in "
                f"{', '.join(KINDS)}, other than {MANIFEST} and {FACTS}"
            )
    content[FACTS] = _text(facts, "the facts of a bundle").encode()
    files = {
        name: {"bytes": len(blob), "hash": _hash(blob), "kind": _kind(name)} for name, blob in sorted(content.items())
    }
    content[MANIFEST] = _text({"format": FORMAT, "files": files}, "a manifest").encode()
    return content


def bundle_hash(blobs: Mapping[str, bytes], facts: Mapping[str, Any]) -> str:
    """The hash that `write_bundle` gives this content."""
    return _hash(bundle_bytes(blobs, facts)[MANIFEST])


def write_bundle(files: Files, blobs: Mapping[str, bytes], facts: Mapping[str, Any]) -> BundleFile:
    """Write a bundle under a new id below ``models/``.

    Parameters
    ----------
    blobs : mapping of str to bytes
        Files by name; the ending says what one is (`KINDS`).
    facts : mapping
        Plain data.

    Returns
    -------
    BundleFile
        Its hash depends on the content alone: equal blobs and facts, equal hash.

    Raises
    ------
    SpecError
        A name or kind of file that can't be stored, or facts that are not plain data.
    """
    content = bundle_bytes(blobs, facts)
    path = f"{BUNDLES}/{secrets.token_hex(12)}"
    try:
        with writing(files.where(path), "the model was not published"):
            # The manifest is last, so a folder with a manifest is whole.
            for name, blob in content.items():
                files.write_bytes(f"{path}/{name}", blob)
    except BaseException:
        files.delete_tree(path)
        raise
    return BundleFile(path, sum(map(len, content.values())), _hash(content[MANIFEST]))


def read_bundle(files: Files, bundle: BundleFile) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files and facts of a bundle, every byte checked.

    Returns
    -------
    blobs : dict of str to bytes
    facts : dict

    Raises
    ------
    DataError
        A file is lost, added or changed, is of an unknown kind, or the bundle has a newer format; each is named.
    """
    content, problems = _read(files, bundle)
    if problems:
        raise DataError(
            f"the bundle {files.where(bundle.path)} is not the one that was published: {'; '.join(problems)}. It was "
            f"not loaded. Restore it from a backup."
        )
    facts: dict[str, Any] = json.loads(content.pop(FACTS))
    return content, facts


def bundle_problems(files: Files, bundle: BundleFile) -> list[str]:
    """What is wrong with a bundle's files, in words; nothing where it is as published."""
    return _read(files, bundle)[1]


def check_bundle(files: Files, bundle: BundleFile) -> None:
    """Refuse a bundle whose manifest is not there, or is another (DataError); its other files are not read."""
    _, problems = _manifest(files, bundle)
    if problems:
        raise DataError(f"the bundle {files.where(bundle.path)}: {'; '.join(problems)}; nothing was published")


def _manifest(files: Files, bundle: BundleFile) -> tuple[dict[str, dict[str, Any]], list[str]]:
    try:
        blob = files.read_bytes(f"{bundle.path}/{MANIFEST}")
    except (FileNotFoundError, NotADirectoryError):
        return {}, [f"{MANIFEST} is lost"]
    if _hash(blob) != bundle.hash:
        return {}, [f"{MANIFEST} changed: its hash is {_hash(blob)}, the catalogue's {bundle.hash}"]
    manifest = json.loads(blob)
    if manifest["format"] > FORMAT:
        known = f"format {manifest['format']}, and this version of sjd-dask knows formats up to {FORMAT}"
        return {}, [f"it has {known}; install a newer one (pip install --upgrade sjd-dask)"]
    return manifest["files"], []


def _read(files: Files, bundle: BundleFile) -> tuple[dict[str, bytes], list[str]]:
    listed, problems = _manifest(files, bundle)
    if problems:
        return {}, problems
    found = {entry.name for entry in files.walk(bundle.path)} - {MANIFEST}
    problems = [f"{name} was added" for name in sorted(found - set(listed))]
    content = {}
    for name, about in listed.items():
        if about["kind"] not in KINDS.values():
            problems.append(f"{name} is of the unknown kind {about['kind']!r}")
            continue
        try:
            blob = files.read_bytes(f"{bundle.path}/{name}")
        except FileNotFoundError:
            problems.append(f"{name} is lost")
            continue
        if len(blob) != about["bytes"]:
            problems.append(f"{name} changed: it has {len(blob)} bytes instead of {about['bytes']}")
        elif _hash(blob) != about["hash"]:
            problems.append(f"{name} changed: its hash is another")
        else:
            content[name] = blob
    return content, problems


def _kind(name: str) -> str | None:
    return next((kind for ending, kind in KINDS.items() if name.endswith(ending)), None)


def _text(data: Mapping[str, Any], what: str) -> str:
    try:
        return json.dumps(dict(data), sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise SpecError(f"{what} must be plain data without infinite or missing numbers: {error}") from error


def _hash(blob: bytes) -> str:
    return blake2b(blob, digest_size=16).hexdigest()
