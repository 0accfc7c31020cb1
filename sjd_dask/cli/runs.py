"""Commands on jobs and their runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sjd_dask.cli import text
from sjd_dask.cli.options import (
    ClusterOption,
    CohortArgument,
    Commands,
    JsonOption,
    QuietOption,
    RunArgument,
    SetOption,
    SpecArgument,
    WorkersOption,
    emit,
    say,
    warn,
)
from sjd_dask.errors import Interrupted, SjdError

commands = Commands()


@commands.command()
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
    emit(as_json, made.to_json(), made.render())
    made.check()


@commands.command()
def run(
    spec: SpecArgument,
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    report: Annotated[Path | None, typer.Option("--report", metavar="FILE.html", help="Write the report too.")] = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Run a job; one line on stdout for each result it published."""
    from sjd_dask.jobs import run_job

    _published(run_job(spec, overrides, cluster=cluster, workers=workers, quiet=quiet), report, as_json)


def _published(outcome: Any, report: Path | None, as_json: bool) -> None:
    warn(outcome.warnings)
    if report is not None and outcome.results:
        from sjd_dask.report import write_report

        # Of a night's three results the changes have its report.
        of_night = [one for one in outcome.results if one.startswith("changes/")]
        write_report(outcome.cohort, (of_night or outcome.results)[0], report)
    if not as_json:
        say(outcome.notes)
    emit(as_json, outcome.to_json(), "\n".join(outcome.results))


@commands.command()
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
    emit(as_json, {"run": started.run_id, "state": started.state, "log": str(started.log)}, started.run_id)


@commands.command()
def runs(cohort: CohortArgument, as_json: JsonOption = False) -> None:
    """The cohort's runs, the newest last."""
    from sjd_dask.runtime.detached import status as look
    from sjd_dask.store.cohort import open_cohort

    opened = open_cohort(cohort)
    listed = [look(opened, run.id) for run in opened.runs()]
    emit(as_json, {"runs": listed}, text.runs_text(listed))


@commands.command()
def status(cohort: CohortArgument, run: RunArgument, as_json: JsonOption = False) -> None:
    """State and progress of a run."""
    from sjd_dask.runtime.detached import status as look
    from sjd_dask.store.cohort import open_cohort

    state = look(open_cohort(cohort), run)
    emit(as_json, state, text.fields_text(state))


@commands.command()
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
    emit(as_json, state, "\n".join(state.get("results") or [f"{state['run']}: {state['state']}"]))
    if state["state"] in ("interrupted", "cancelled"):
        raise Interrupted(state["message"])
    if state["state"] != "published":
        raise SjdError(state["message"])


@commands.command()
def cancel(cohort: CohortArgument, run: RunArgument, as_json: JsonOption = False) -> None:
    """Ask a run to stop; it can be resumed."""
    from sjd_dask.runtime.detached import cancel as ask
    from sjd_dask.store.cohort import open_cohort

    run_id = ask(open_cohort(cohort), run)
    emit(as_json, {"run": run_id, "asked": True}, f"{run_id}: asked to stop")


@commands.command()
def resume(
    cohort: CohortArgument,
    run: RunArgument,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Go on with an interrupted run: only what is missing is computed."""
    from sjd_dask.jobs import resume_job

    _published(resume_job(cohort, run, cluster=cluster, workers=workers, quiet=quiet), None, as_json)
