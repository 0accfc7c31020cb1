"""`sjd compare`: a grouping beside others and beside markers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sjd_dask.cli.options import Commands, JsonOption, emit, say

commands = Commands()


@commands.command()
def compare(
    table: Annotated[str, typer.Argument(metavar="TABLE", help="What `sjd score` wrote, a sheet, or a cohort.")],
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder to make.")],
    groups: Annotated[
        str, typer.Option("--groups", metavar="COLUMN", help="Groups: clusters, axes, or class (of the calls).")
    ],
    beside: Annotated[
        list[str] | None, typer.Option("--with", metavar="COLUMN", help="Column to cross it with; repeatable.")
    ] = None,
    markers: Annotated[
        list[str] | None, typer.Option("--markers", metavar="COLUMN", help="Numbers to compare; repeatable.")
    ] = None,
    cohort: Annotated[str | None, typer.Option("--cohort", metavar="COHORT", help="Where the calls are.")] = None,
    calls: Annotated[
        str | None, typer.Option("--calls", metavar="NAME", help="As in classes/NAME; or a file of calls.")
    ] = None,
    samples: Annotated[
        str | None, typer.Option("--samples", metavar="QUERY", help='Rows to keep, such as "visit == 1".')
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option("--mapping", metavar="FILE", help="YAML: the table's columns as canonical ones.")
    ] = None,
    below: Annotated[int, typer.Option("--suppress-below", min=0, help="Counts of fewer people are not shown.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """Cross tables of groups (clusters, axes, molecular classes) and markers by group, with tests."""
    from sjd_dask.jobs.compare import compare as find
    from sjd_dask.jobs.compare import write_compared

    found = find(
        table, groups, beside=beside or (), markers=markers or (), cohort=cohort, calls=calls, samples=samples,
        mapping=mapping, below=below,
    )  # fmt: skip
    files = [str(file) for file in write_compared(found, out)]
    say(found.notes)
    emit(as_json, {"files": files, "rows": found.n_rows}, "\n".join(files))
