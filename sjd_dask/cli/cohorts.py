"""Commands on a cohort: make, fill, look, write out, keep in order."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from sjd_dask.cli import text
from sjd_dask.cli.options import (
    CohortArgument,
    Commands,
    DryRunOption,
    JsonOption,
    QuietOption,
    ResultArgument,
    emit,
    stage_lines,
    warn,
)
from sjd_dask.errors import DataError

commands = Commands()

SampleColumnOption = Annotated[
    str | None,
    typer.Option("--sample-column", metavar="COLUMN", help="Id column of SHEET; default: sample_id, else the first."),
]


@commands.command()
def init(
    cohort: CohortArgument,
    data: Annotated[
        str | None, typer.Option("--data", metavar="URL", help="Where matrices go; default: COHORT itself.")
    ] = None,
    catalogue: Annotated[
        str | None, typer.Option("--catalogue", metavar="URL", help="Database; default: SQLite in COHORT.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the cohort; default: the folder's.")] = None,
    chunk_samples: Annotated[
        int | None, typer.Option("--chunk-samples", min=1, help="Rows of a chunk; default: 64.")
    ] = None,
    chunk_features: Annotated[
        int | None, typer.Option("--chunk-features", min=1, help="Columns of a chunk; default: 16384.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an empty cohort."""
    from sjd_dask.store.cohort import create_cohort
    from sjd_dask.store.layout import Layout

    sizes = {"chunk_samples": chunk_samples, "chunk_features": chunk_features}
    layout = Layout(**{key: value for key, value in sizes.items() if value is not None})
    made = create_cohort(cohort, data=data, catalogue=catalogue, name=name, layout=layout)
    emit(as_json, {"cohort": str(made.path), "name": made.name}, f"{made.path}: an empty cohort named {made.name}")


@commands.command()
def ingest(
    cohort: CohortArgument,
    assay: Annotated[str, typer.Argument(metavar="ASSAY", help="Name of the assay, such as methylation.")],
    matrix: Annotated[Path, typer.Argument(metavar="MATRIX", help="Matrix file or Zarr group.")],
    quantity: Annotated[
        str,
        typer.Option(
            "--quantity", metavar="Q", help="counts, expression, beta, m_value, concentration, proportion, dosage."
        ),
    ],
    samples: Annotated[
        Path | None, typer.Option("--samples", metavar="SHEET", help="Sample sheet, joined by sample_id.")
    ] = None,
    features: Annotated[
        Path | None,
        typer.Option("--features", metavar="TABLE", help="Feature table: declares and reconciles the features."),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(
            "--rows",
            metavar="features|samples",
            help="What the rows of MATRIX are; default: features in text and Parquet, else what the file says.",
        ),
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Corrected samples take the place of those published.")
    ] = False,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            help="Keep (`source`) or lower (`float32`) the stored type; default: betas as uint16 within 8e-6, counts "
            "as the smallest whole numbers that hold them, others as in MATRIX.",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option("--scale", help="NPZ: stored numbers are values times this; default: what the file says."),
    ] = None,
    missing: Annotated[
        float | None, typer.Option("--missing", help="NPZ: code of a missing value; default: what the file says.")
    ] = None,
    layer: Annotated[
        str | None,
        typer.Option("--layer", metavar="NAME", help="h5ad: a layer in place of X. Zarr: the variable to read."),
    ] = None,
    sample_column: SampleColumnOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Bring a matrix into the cohort as one segment. The same content again is a no-op."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.ingest.pipeline import ingest as bring

    progress = None if quiet else stage_lines()
    report = bring(
        open_cohort(cohort),
        assay,
        matrix,
        quantity=quantity,
        samples=samples,
        features=features,
        rows=rows,
        replace=replace,
        dtype=dtype,
        scale=scale,
        missing=missing,
        sample_column=sample_column,
        layer=layer,
        progress=progress,
    )
    warn(report.warnings)
    emit(as_json, report.to_json(), "\n".join(report.lines()))


@commands.command()
def samples(
    cohort: CohortArgument,
    sheet: Annotated[
        Path, typer.Argument(metavar="SHEET", help=".csv, .tsv (.gz) or .parquet with a sample_id column.")
    ],
    sample_column: SampleColumnOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add or correct sample columns by sample_id; the history is kept."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.ingest.columns import mixed_columns
    from sjd_dask.store.ingest.sheets import read_sheet

    table = read_sheet(sheet, id_column=sample_column)
    opened = open_cohort(cohort)
    withdrawn = opened.withdrawn_samples([], table)
    table = table[~table.index.isin(list(withdrawn))]
    if withdrawn:
        warn([f"{len(withdrawn):,} samples of withdrawn people were left out"])
    published = {name for assay in opened.assays() for name in opened.assay(assay).sample_ids()}
    waiting = [name for name in table.index if name not in published]
    mixed = mixed_columns(opened.samples(), table)
    snapshot = opened.add_samples(table, message=f"sample sheet {sheet.name}") if len(table) else None
    for_people = f"{len(table):,} samples: " + (
        f"published in snapshot {snapshot}" if snapshot else "nothing new, unchanged"
    )
    if waiting:
        warn([f"{len(waiting):,} are in no assay yet: {', '.join(waiting[:5])}"])
    warn(mixed)
    emit(
        as_json,
        {"n_samples": len(table), "n_withdrawn": len(withdrawn), "snapshot": snapshot, "in_no_assay": waiting},
        for_people,
    )


@commands.command()
def info(cohort: CohortArgument, as_json: JsonOption = False) -> None:
    """Assays, segments, samples, results."""
    from sjd_dask.store.cohort import open_cohort

    facts = open_cohort(cohort).info()
    emit(as_json, facts, text.info_text(facts))


@commands.command()
def log(cohort: CohortArgument, as_json: JsonOption = False) -> None:
    """History of published changes, the newest last."""
    from sjd_dask.store.cohort import open_cohort

    entries = open_cohort(cohort).log()
    emit(as_json, {"changes": entries}, text.log_text(entries))


@commands.command()
def export(
    cohort: CohortArgument,
    result: ResultArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".tsv, .csv, .parquet or .zarr")],
    table: Annotated[
        str, typer.Option("--table", metavar="NAME", help="A companion table, as `sjd info` lists them.")
    ] = "table",
    as_json: JsonOption = False,
) -> None:
    """Write a result, or one of its companion tables, to a file, at full precision."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.export import export as write

    written = str(write(open_cohort(cohort), result, file, table))
    emit(as_json, {"result": result, "table": table, "file": written}, written)


@commands.command()
def report(
    cohort: CohortArgument,
    result: ResultArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.html", help="Of a night also FILE.json.")],
    persons: Annotated[
        bool, typer.Option("--persons", help="The report of a night lists the persons, and hides no count.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """One self-contained page on a result; it needs no network."""
    from sjd_dask.report import write_report
    from sjd_dask.store.cohort import open_cohort

    write_report(open_cohort(cohort), result, file, persons=persons)
    emit(as_json, {"file": str(file)}, str(file))


@commands.command()
def compact(
    cohort: CohortArgument,
    assay: Annotated[str | None, typer.Option("--assay", help="One assay only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Merge small segments; past views stay open."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.compact import compact as merge

    done = [dataclasses.asdict(item) for item in merge(open_cohort(cohort), assay)]
    emit(as_json, {"assays": done}, text.compact_text(done))


@commands.command()
def gc(
    cohort: CohortArgument,
    grace: Annotated[float, typer.Option("--grace", min=0, help="Hours a retired segment is kept.")] = 24.0,
    keep_nights: Annotated[
        int | None,
        typer.Option("--keep-nights", metavar="N", min=1, help="Of older nights keep the changes only. Default: all."),
    ] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove data that nothing refers to any more."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.gc import gc as collect

    done = collect(open_cohort(cohort), grace_hours=grace, dry_run=dry_run, keep_nights=keep_nights).to_json()
    emit(as_json, done, text.gc_text(done))


@commands.command()
def verify(cohort: CohortArgument, as_json: JsonOption = False) -> None:
    """Check every hash: chunks, rows, tables."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.verify import verify as check

    found = check(open_cohort(cohort), raise_errors=False).to_json()
    emit(as_json, found, text.verify_text(found))
    if found["problems"]:
        raise DataError(f"{len(found['problems'])} problem(s); the first: {found['problems'][0]}")


@commands.command()
def simulate(
    cohort: CohortArgument,
    n_samples: Annotated[int, typer.Option("--samples", min=2, help="Samples.")] = 600,
    n_features: Annotated[int, typer.Option("--features", min=1, help="Methylation sites.")] = 10_000,
    seed: Annotated[int, typer.Option("--seed", help="The same seed gives the same cohort.")] = 1,
    assays: Annotated[
        str, typer.Option("--assays", help="Comma-separated: methylation, rnaseq, cytokines.")
    ] = "methylation",
    missing: Annotated[float, typer.Option("--missing", min=0.0, max=0.5, help="Share of missing values.")] = 0.0,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a cohort with known truth, streamed; its truth tables lie in COHORT/truth."""
    from sjd_dask.jobs.simulate import simulate_cohort

    progress = None if quiet else stage_lines()
    done = simulate_cohort(
        cohort,
        n_samples=n_samples,
        n_features=n_features,
        seed=seed,
        assays=[name.strip() for name in assays.split(",") if name.strip()],
        missing_share=missing,
        progress=progress,
    )
    emit(as_json, done, "\n".join(f"{key}: {value}" for key, value in done.items()))
