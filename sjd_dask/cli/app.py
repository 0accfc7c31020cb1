"""The command `sjd`. It parses, calls, and prints: no logic lives here.

Logs and progress go to stderr, results to stdout. Exit codes: 0 done; 2 usage or invalid spec; 3 bad data;
4 plan refused; 5 interrupted, resumable; 6 another writer holds it; 1 anything else.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from sjd_dask.cli import text
from sjd_dask.errors import DataError, Interrupted, SjdError

app = typer.Typer(
    name="sjd",
    help="Distributed batch processing for large biobank cohorts in Sjögren disease.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Options that several commands share, defined once.
CohortArgument = Annotated[str, typer.Argument(metavar="COHORT", help="Folder or URL that holds cohort.toml.")]
SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="Job spec, YAML.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run id, as `sjd runs` lists it.")]
ResultArgument = Annotated[str, typer.Argument(metavar="RESULT", help="kind/name[@version]")]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec; repeatable.")
]
ClusterOption = Annotated[
    str, typer.Option("--cluster", metavar="C", help="local, tcp://..., tls://..., or a YAML file.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Workers of a local cluster; default: the CPUs.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Warnings and errors only.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Say more, and show where an error arose.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]


# typer carries a click of its own in some versions and uses the installed one in others; a public class leads to both.
_UsageError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "UsageError")


def _emit(as_json: bool, payload: dict[str, Any], text: str) -> None:
    """A result on stdout: one JSON object, or text for people."""
    if as_json:
        print(json.dumps(payload, ensure_ascii=False, default=str))
    elif text:
        print(text)


def _warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"sjd: warning: {warning}", file=sys.stderr)


def _logging(quiet: bool, verbose: bool) -> None:
    # Read when distributed is first imported, here and in the workers: its own log is for those who ask.
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "info" if verbose else "warning")
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True
    )
    logging.getLogger("sjd_dask").setLevel(level)


def _version(value: bool) -> None:
    if value:
        from sjd_dask import __version__

        print(f"sjd-dask {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command()
def init(
    cohort: CohortArgument,
    data: Annotated[
        str | None, typer.Option("--data", metavar="URL", help="Where matrices go; default: COHORT itself.")
    ] = None,
    catalogue: Annotated[
        str | None, typer.Option("--catalogue", metavar="URL", help="Database; default: SQLite in COHORT.")
    ] = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the cohort; default: the folder's.")] = None,
    chunk_samples: Annotated[int | None, typer.Option("--chunk-samples", min=1, help="Rows of a chunk.")] = None,
    chunk_features: Annotated[int | None, typer.Option("--chunk-features", min=1, help="Columns of a chunk.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Make an empty cohort."""
    from sjd_dask.store.cohort import create_cohort
    from sjd_dask.store.layout import Layout

    sizes = {"chunk_samples": chunk_samples, "chunk_features": chunk_features}
    layout = Layout(**{key: value for key, value in sizes.items() if value is not None})
    made = create_cohort(cohort, data=data, catalogue=catalogue, name=name, layout=layout)
    _emit(as_json, {"cohort": str(made.path), "name": made.name}, f"{made.path}: an empty cohort named {made.name}")


@app.command()
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
        str | None, typer.Option("--rows", metavar="features|samples", help="What the rows of MATRIX are.")
    ] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Corrected samples take the place of those published.")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option("--dtype", help="Keep (`source`) or lower (`float32`) the stored type.")
    ] = None,
    scale: Annotated[float | None, typer.Option("--scale", help="Stored numbers are values times this.")] = None,
    missing: Annotated[float | None, typer.Option("--missing", help="Code of a missing value.")] = None,
    sample_column: Annotated[str | None, typer.Option("--sample-column", help="Id column of SHEET.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Bring a matrix into the cohort as one segment. The same content again is a no-op."""
    _logging(quiet, verbose)
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.ingest.pipeline import ingest as bring

    progress = None if quiet else _stage_lines()
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
        progress=progress,
    )
    if as_json:
        _warn(report.warnings)
    _emit(as_json, report.to_json(), "\n".join(report.lines()))


@app.command()
def samples(
    cohort: CohortArgument,
    sheet: Annotated[Path, typer.Argument(metavar="SHEET", help="CSV or TSV with a sample_id column.")],
    sample_column: Annotated[str | None, typer.Option("--sample-column", help="Id column of SHEET.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Add or correct sample columns by sample_id; the history is kept."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.ingest.sheets import read_sheet

    table = read_sheet(sheet, id_column=sample_column)
    opened = open_cohort(cohort)
    published = {name for assay in opened.assays() for name in opened.assay(assay).sample_ids()}
    waiting = [name for name in table.index if name not in published]
    snapshot = opened.add_samples(table, message=f"sample sheet {sheet.name}")
    for_people = f"{len(table):,} samples: " + (
        f"published in snapshot {snapshot}" if snapshot else "nothing new, unchanged"
    )
    if waiting:
        print(f"sjd: warning: {len(waiting):,} are in no assay yet: {', '.join(waiting[:5])}", file=sys.stderr)
    _emit(as_json, {"n_samples": len(table), "snapshot": snapshot, "in_no_assay": waiting}, for_people)


@app.command()
def info(cohort: CohortArgument, as_json: JsonOption = False) -> None:
    """Assays, segments, samples, results."""
    from sjd_dask.store.cohort import open_cohort

    facts = open_cohort(cohort).info()
    _emit(as_json, facts, text.info_text(facts))


@app.command()
def log(cohort: CohortArgument, as_json: JsonOption = False) -> None:
    """History of published changes, the newest last."""
    from sjd_dask.store.cohort import open_cohort

    entries = open_cohort(cohort).log()
    _emit(as_json, {"changes": entries}, text.log_text(entries))


@app.command()
def plan(
    spec: SpecArgument,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Dry run: bytes, tasks, memory, expected time."""
    from sjd_dask.jobs import plan_job

    made = plan_job(spec, overrides, cluster=cluster, workers=workers)
    _emit(as_json, made.to_json(), made.render())
    made.check()


@app.command()
def run(
    spec: SpecArgument,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE.html", help="Write the report too.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Run a job; one line on stdout for each result it published."""
    _logging(quiet, verbose)
    from sjd_dask.jobs import run_job

    _published(run_job(spec, overrides, cluster=cluster, workers=workers, quiet=quiet), report, as_json)


def _published(outcome: Any, report: Path | None, as_json: bool) -> None:
    _warn(outcome.warnings)
    if report is not None and outcome.results:
        from sjd_dask.report import write_report

        write_report(outcome.cohort, outcome.results[0], report)
    _emit(as_json, outcome.to_json(), "\n".join(outcome.results))


@app.command()
def submit(
    spec: SpecArgument,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a run that goes on when this client goes away; prints its run id."""
    from sjd_dask.jobs import submit_job

    started = submit_job(spec, overrides, cluster=cluster, workers=workers)
    _emit(as_json, {"run": started.run_id, "state": started.state, "log": str(started.log)}, started.run_id)


@app.command()
def runs(cohort: CohortArgument, as_json: JsonOption = False) -> None:
    """The cohort's runs, the newest last."""
    from sjd_dask.runtime.detached import status as look
    from sjd_dask.store.cohort import open_cohort

    opened = open_cohort(cohort)
    listed = [look(opened, run.id) for run in opened.runs()]
    _emit(as_json, {"runs": listed}, text.runs_text(listed))


@app.command()
def status(cohort: CohortArgument, run: RunArgument, as_json: JsonOption = False) -> None:
    """State and progress of a run."""
    from sjd_dask.runtime.detached import status as look
    from sjd_dask.store.cohort import open_cohort

    state = look(open_cohort(cohort), run)
    _emit(as_json, state, text.fields_text(state))


@app.command()
def wait(
    cohort: CohortArgument,
    run: RunArgument,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds to wait at most.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Wait for a run to end; exits as the run did: 0 published, 5 interrupted, 1 failed."""
    from sjd_dask.runtime.detached import wait as await_end
    from sjd_dask.store.cohort import open_cohort

    state = await_end(open_cohort(cohort), run, timeout=timeout)
    _emit(as_json, state, "\n".join(state.get("results") or [f"{state['run']}: {state['state']}"]))
    if state["state"] in ("interrupted", "cancelled"):
        raise Interrupted(state["message"])
    if state["state"] != "published":
        raise SjdError(state["message"])


@app.command()
def cancel(cohort: CohortArgument, run: RunArgument, as_json: JsonOption = False) -> None:
    """Ask a run to stop; it can be resumed."""
    from sjd_dask.runtime.detached import cancel as ask
    from sjd_dask.store.cohort import open_cohort

    run_id = ask(open_cohort(cohort), run)
    _emit(as_json, {"run": run_id, "asked": True}, f"{run_id}: asked to stop")


@app.command()
def resume(
    cohort: CohortArgument,
    run: RunArgument,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Go on with an interrupted run: only what is missing is computed."""
    _logging(quiet, verbose)
    from sjd_dask.jobs import resume_job

    _published(resume_job(cohort, run, cluster=cluster, workers=workers, quiet=quiet), None, as_json)


@app.command()
def export(
    cohort: CohortArgument,
    result: ResultArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help=".tsv, .csv, .parquet or .zarr")],
    as_json: JsonOption = False,
) -> None:
    """Write a result to a file, at full precision."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.export import export as write

    written = str(write(open_cohort(cohort), result, file))
    _emit(as_json, {"result": result, "file": written}, written)


@app.command()
def report(
    cohort: CohortArgument,
    result: ResultArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE.html")],
    as_json: JsonOption = False,
) -> None:
    """One self-contained page on a result; it needs no network."""
    from sjd_dask.report import write_report
    from sjd_dask.store.cohort import open_cohort

    write_report(open_cohort(cohort), result, file)
    _emit(as_json, {"file": str(file)}, str(file))


@app.command()
def compact(
    cohort: CohortArgument,
    assay: Annotated[str | None, typer.Option("--assay", help="One assay only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Merge small segments; past views stay open."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.compact import compact as merge

    done = [dataclasses.asdict(item) for item in merge(open_cohort(cohort), assay)]
    _emit(as_json, {"assays": done}, text.compact_text(done))


@app.command()
def gc(
    cohort: CohortArgument,
    grace: Annotated[float, typer.Option("--grace", min=0, help="Hours a retired segment is kept.")] = 24.0,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove data that nothing refers to any more."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.gc import gc as collect

    done = collect(open_cohort(cohort), grace_hours=grace, dry_run=dry_run).to_json()
    _emit(as_json, done, text.gc_text(done))


@app.command()
def verify(cohort: CohortArgument, as_json: JsonOption = False) -> None:
    """Check every hash: chunks, rows, tables."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.verify import verify as check

    found = check(open_cohort(cohort), raise_errors=False).to_json()
    _emit(as_json, found, text.verify_text(found))
    if found["problems"]:
        raise DataError(f"{len(found['problems'])} problem(s); the first: {found['problems'][0]}")


@app.command()
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

    progress = None if quiet else _stage_lines()
    done = simulate_cohort(
        cohort,
        n_samples=n_samples,
        n_features=n_features,
        seed=seed,
        assays=[name.strip() for name in assays.split(",") if name.strip()],
        missing_share=missing,
        progress=progress,
    )
    _emit(as_json, done, "\n".join(f"{key}: {value}" for key, value in done.items()))


@app.command()
def schema(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name of a schema; none lists them.")] = None,
) -> None:
    """JSON Schema of a job spec or of a result table."""
    from sjd_dask.jobs.schemas import schema_names, schema_text

    print(schema_text(name) if name else "\n".join(schema_names()))


@app.command()
def doctor(
    cluster: Annotated[str | None, typer.Option("--cluster", metavar="C")] = None, as_json: JsonOption = False
) -> None:
    """What works here and what doesn't."""
    from sjd_dask.jobs.doctor import examine

    findings = examine(cluster)
    text = "\n".join(f"{'ok ' if item['ok'] else 'NO '} {item['what']}: {item['detail']}" for item in findings)
    _emit(as_json, {"findings": findings}, text)


def _stage_lines() -> Callable[[str, int, int | None], None]:
    """Progress of a streamed stage as plain lines on stderr, at most one a second and one at each stage's end."""
    import time

    last: dict[str, float] = {}

    def show(stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done == total or now - last.get(stage, 0.0) >= 1.0:
            last[stage] = now
            print(f"{stage}: {done}{f' of {total}' if total else ''}", file=sys.stderr)

    return show


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and end the process with the contract's exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        code = app(args=arguments, prog_name="sjd", standalone_mode=False)
        code = code if isinstance(code, int) else 0
    except typer.Abort:
        code = 5
    except _UsageError as error:
        error.show()
        code = 2
    except SjdError as error:
        if verbose:
            traceback.print_exc()
        print(f"sjd: error: {error}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`sjd log | head`): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except KeyboardInterrupt:
        print("sjd: error: interrupted", file=sys.stderr)
        code = 5
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
