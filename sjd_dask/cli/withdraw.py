"""`sjd withdraw`: people leave a cohort."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sjd_dask.cli.options import CohortArgument, Commands, DryRunOption, JsonOption, QuietOption, emit, warn

commands = Commands()


@commands.command()
def withdraw(
    cohort: CohortArgument,
    ids: Annotated[
        Path, typer.Argument(metavar="IDS.txt", help="One id a line: people, or samples of nobody known. - is stdin.")
    ],
    person: Annotated[str, typer.Option("--person", metavar="COLUMN", help="Sample column of people.")] = "person_id",
    id_column: Annotated[
        list[str], typer.Option("--id-column", metavar="COLUMN", help="Another sample column of ids; repeatable.")
    ] = [],  # noqa: B006 - typer reads the default
    inbox: Annotated[
        list[Path], typer.Option("--inbox", metavar="DIR", help="Clean this inbox's done and quarantine; repeatable.")
    ] = [],  # noqa: B006
    expire: Annotated[
        float, typer.Option("--expire", min=0, metavar="HOURS", help="How long copies made before may be kept.")
    ] = 720.0,
    allow_unknown: Annotated[
        bool, typer.Option("--allow-unknown", help="Also ids never seen: they are dropped should they come.")
    ] = False,
    who: Annotated[str | None, typer.Option("--who", help="Who signs; default: the user.")] = None,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Remove people everywhere, past views included; run again, it goes on where it stopped."""
    from sjd_dask.jobs.withdraw import withdraw_file

    done = withdraw_file(
        cohort,
        ids,
        person=person,
        id_columns=id_column,
        inboxes=inbox,
        expire_hours=expire,
        allow_unknown=allow_unknown,
        who=who,
        dry_run=dry_run,
        progress=None if quiet else lambda text: print(text, file=sys.stderr),
    ).to_json()
    warn([f"{one}: this package did not write it, and it names somebody who leaves" for one in done["beside"]])
    emit(as_json, done, _text(done))


def _text(done: dict[str, Any]) -> str:
    if done["status"] == "unchanged":
        lines = [f"nothing to do: all {done['n_gone']:,} ids were withdrawn before"]
        return "\n".join([*(["a withdrawal that had been stopped was ended"] if done["ended_earlier"] else []), *lines])
    would = "would be " if done["status"] == "would_withdraw" else ""
    lines = [
        f"people {would}withdrawn: {done['n_persons']:,}, with {done['n_samples']:,} samples; {would}written anew: "
        f"{done['n_segments']:,} segments without {done['n_rows']:,} rows, and {len(done['results']):,} results"
    ]
    if done["n_unknown"]:
        lines.append(f"{done['n_unknown']:,} ids were never seen here; they {would or 'will be '}dropped if they come")
    if done["n_gone"]:
        lines.append(f"{done['n_gone']:,} ids were withdrawn before")
    lines += [f"blocked: {one['ref']}: {one['why']}" for one in done["blocked"]]
    lines += [f"needs retraining: {one}" for one in done["needs_retraining"]]
    if done["may_rest_on"]:
        lines.append(f"computed while they were here: {', '.join(done['may_rest_on'])}; run again what must not be")
    lines += [f"removed from the inbox: {one}" for one in done["removed"]]
    if done["status"] == "withdrawn":
        lines.append(
            f"searched: no place of this cohort names them; signed in the audit, snapshot {done['snapshot']}. Copies "
            f"and backups made before must be gone by {done['backups_expire']}"
        )
    return "\n".join(lines)
