"""The calls of one person."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sjd_dask.cli import text
from sjd_dask.cli.options import CohortArgument, Commands, JsonOption, emit

commands = Commands()


@commands.command()
def history(
    cohort: CohortArgument,
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="Name of the calls, as in classes/OUTPUT.")],
    person: Annotated[str, typer.Argument(metavar="PERSON", help="person_id, or the id of a sample without one.")],
    file: Annotated[Path | None, typer.Argument(metavar="[FILE.html]", help="A page with a plot over visits.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Every call of a person, the replaced ones too, and what is reported after each visit."""
    from sjd_dask.jobs.history import person_history
    from sjd_dask.store.cohort import open_cohort

    found = person_history(open_cohort(cohort), output, person)
    if file is not None:
        from sjd_dask.report.history_page import render_history
        from sjd_dask.report.write import write_text

        page = render_history(
            person, found.calls, found.classes, output=found.output, margin=found.margin, cohort_path=str(cohort)
        )
        write_text(page, file)
    rows = found.to_rows()
    payload = {"output": found.output, "person": person, "calls": rows, "file": None if file is None else str(file)}
    emit(as_json, payload, str(file) if file is not None else text.history_text(rows))
