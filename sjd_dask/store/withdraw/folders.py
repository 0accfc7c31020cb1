"""Files beside segments and results: what runs wrote on their way, leftovers, and what arrived in an inbox."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from sjd_dask.errors import DataError
from sjd_dask.store.bundle import BUNDLES
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.segment import remove_segment
from sjd_dask.store.withdraw.blobs import file_names, stored_names
from sjd_dask.store.withdraw.ids import Leaving, scrub_lines
from sjd_dask.store.withdraw.segments import stored_ids

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort

DONE, QUARANTINE, REASON = "done", "quarantine", ".reason.txt"


def clean_runs(cohort: Cohort, leaving: Leaving) -> tuple[int, int]:
    """Parts go, since other samples are other runs; plans, states and logs are scrubbed.

    Returns
    -------
    n_parts, n_scrubbed : int
        Files removed, and files changed.
    """
    n_parts = n_scrubbed = 0
    for entry in list(cohort.files.walk("runs")):
        path = f"runs/{entry.name}"
        if "/parts/" in path or path.endswith((".arrow", ".tmp")):
            cohort.files.delete(path)
            n_parts += 1
            continue
        if not stored_names(cohort.files, path, leaving):
            continue
        text = cohort.files.read_bytes(path).decode("utf-8", "replace")
        lines = path.endswith((".jsonl", ".log"))
        made = scrub_lines(text, leaving.scrub_json_text) if lines else leaving.scrub_json_text(text)
        cohort.files.write_bytes(path, made.encode())
        n_scrubbed += 1
    return n_parts, n_scrubbed


def clean_leftovers(cohort: Cohort, leaving: Leaving) -> int:
    """Remove bytes that the catalogue doesn't know and that may be theirs: of killed writers and dead runs."""
    with cohort.catalogue.read() as connection:
        segments = set(connection.execute(sa.select(t.segments.c.id).where(t.segments.c.state != "removed")).scalars())
        used = {
            file["path"]
            for text in connection.execute(sa.select(t.results.c.files)).scalars()
            for file in json.loads(text).values()
        }
    removed = 0
    known: dict[tuple[str, str], None] = {}
    for entry in cohort.files.walk("segments"):
        assay, _, rest = entry.name.partition("/")
        name = rest.split("/", 1)[0]
        for suffix in (".zarr", ".manifest.json"):
            if name.endswith(suffix) and name.removesuffix(suffix) not in segments:
                known[assay, name.removesuffix(suffix)] = None
    for assay, segment_id in known:
        if _may_hold(cohort, assay, segment_id, leaving):
            remove_segment(cohort.files, assay, segment_id)
            removed += 1
    for folder in ("tables", BUNDLES):
        for entry in list(cohort.files.walk(folder)):
            path = f"{folder}/{entry.name}"
            if path in used or "/".join(path.split("/")[:2]) in used:
                continue
            if entry.name.endswith(".tmp") or stored_names(cohort.files, path, leaving):
                cohort.files.delete(path)
                removed += 1
    return removed


def _may_hold(cohort: Cohort, assay: str, segment_id: str, leaving: Leaving) -> bool:
    try:
        return not leaving.samples.isdisjoint(stored_ids(cohort, assay, segment_id))
    except DataError:
        # Half written: nobody can tell whose values these are, and nobody needs them.
        return True


def clean_inbox(inbox: Path, leaving: Leaving, names: Callable[[Path], Iterable[str]] | None = None) -> list[str]:
    """Remove files that hold their values from what an inbox keeps: files taken in, and files refused.

    Parameters
    ----------
    inbox : Path
        Files that have not been taken in yet stay: what a tombstone drops never comes in.
    names : callable, optional
        The ids in a matrix file, where it can be read; else its bytes are searched.

    Returns
    -------
    list of str
        Names of the files, below the inbox.
    """
    removed = []
    for folder in (DONE, QUARANTINE):
        for path in sorted((inbox / folder).glob("*")):
            if not path.exists():
                continue
            inner = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
            found = any(file_names(one, leaving) for one in inner)
            if found or (names is not None and not leaving.ids.isdisjoint(names(path))):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
                path.with_name(f"{path.name}{REASON}").unlink(missing_ok=True)
                removed.append(path.relative_to(inbox).as_posix())
    return removed
