"""What a cohort holds and how it came to be, as plain data ready for JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.results import TableFile, list_results
from sjd_dask.store.catalogue.session import Catalogue, current_snapshot, undone_changes
from sjd_dask.store.catalogue.session import iso_time as iso_time
from sjd_dask.store.layer import list_layers
from sjd_dask.store.models import model_facts
from sjd_dask.store.segment import is_layer_key

if TYPE_CHECKING:
    from sjd_dask.store.cohort import Cohort


def describe(cohort: Cohort) -> dict[str, Any]:
    """Assays and layers with their sizes, samples, models, results, and the newest snapshot.

    `bytes` counts the files on disk of live segments; compressed, with ids.
    """
    rows, segments = t.rows.c, t.segments.c
    with cohort.catalogue.read() as connection:
        assays: dict[str, dict[str, Any]] = {}
        for record in connection.execute(sa.select(t.assays).order_by(t.assays.c.name)).mappings():
            if is_layer_key(record["name"]):
                continue
            assays[record["name"]] = {
                "quantity": record["quantity"],
                "n_features": record["n_features"],
                "n_samples": 0,
                "n_segments": 0,
                "dtype": [],
                "bytes": 0,
            }
        live = sa.select(rows.assay, sa.func.count()).where(rows.retired_in.is_(None)).group_by(rows.assay)
        for name, count in connection.execute(live):
            if name in assays:
                assays[name]["n_samples"] = count
        used = sa.select(segments.assay, segments.encoding, segments.n_bytes).where(segments.state == "live")
        for name, encoding, n_bytes in connection.execute(used):
            if name not in assays:
                continue
            entry = assays[name]
            entry["n_segments"] += 1
            entry["bytes"] += n_bytes
            dtype = json.loads(encoding)["dtype"]
            if dtype not in entry["dtype"]:
                entry["dtype"].append(dtype)
        for entry in assays.values():
            entry["dtype"] = ", ".join(sorted(entry["dtype"]))
        ids = sa.union(
            sa.select(t.sample_columns.c.sample_id).where(t.sample_columns.c.retired_in.is_(None)),
            sa.select(rows.sample_id).where(rows.retired_in.is_(None), rows.assay.not_like("%@%")),
        ).subquery()
        n_samples = int(connection.execute(sa.select(sa.func.count()).select_from(ids)).scalar() or 0)
        snapshot = current_snapshot(connection)
    results = [
        {
            "ref": f"{record.kind}/{record.name}@{record.version}",
            "kind": record.kind,
            "name": record.name,
            "version": record.version,
            "run": record.run_id,
            "snapshot": record.published_in,
            "n_rows": {name: file.n_rows for name, file in record.files.items() if isinstance(file, TableFile)},
            "bytes": sum(file.n_bytes for file in record.files.values()),
        }
        for record in list_results(cohort.catalogue)
    ]
    layers = [
        {
            "ref": one.ref,
            "name": one.name,
            "version": one.version,
            "source_assay": one.source_assay,
            "steps": one.meta.get("steps_text"),
            "n_features": one.n_features,
            "n_samples": one.n_samples,
            "n_segments": one.n_segments,
            "dtype": one.dtype,
            "bytes": one.n_bytes,
            "snapshot": one.published_in,
            "run": one.run,
        }
        for layer in list_layers(cohort.catalogue)
        for one in layer.versions
    ]
    return {
        "name": cohort.name,
        "path": cohort.path,
        "data": cohort.files.url,
        "format_version": t.FORMAT_VERSION,
        "snapshot": snapshot,
        "n_samples": n_samples,
        "assays": assays,
        "layers": layers,
        "models": model_facts(cohort),
        "results": results,
    }


def history(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Published changes, newest last; times are UTC in ISO 8601."""
    with catalogue.read() as connection:
        undone = undone_changes(connection)
        records = connection.execute(sa.select(t.snapshots).order_by(t.snapshots.c.id)).mappings()
        return [
            {
                "snapshot": record["id"],
                "time": iso_time(record["time"]),
                "kind": record["kind"],
                "message": record["message"],
                "who": record["who"],
                "run": record["run_id"],
                "undoes": record["undoes"],
                "undone_by": undone.get(record["id"]),
            }
            for record in records
        ]
