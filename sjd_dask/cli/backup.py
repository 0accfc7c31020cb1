"""`sjd backup` and `sjd restore`: a consistent copy of a cohort in one file, and a cohort made of it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sjd_dask.cli.options import CohortArgument, Commands, JsonOption, QuietOption, emit

commands = Commands()


@commands.command()
def backup(
    cohort: CohortArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to make, a tar archive.")],
    expire: Annotated[
        float, typer.Option("--expire", min=0, metavar="HOURS", help="After how long it should be gone.")
    ] = 720.0,
    as_json: JsonOption = False,
) -> None:
    """Write a consistent copy of a cohort into one file; runs and nights go on meanwhile."""
    from sjd_dask.store.backup import backup as write
    from sjd_dask.store.cohort import open_cohort

    made = write(open_cohort(cohort), file, expire_hours=expire).to_json()
    text = (
        f"{file}: {made['n_files']:,} files, {made['n_bytes']:,} bytes, all up to snapshot {made['snapshot']}; "
        f"should be gone by {made['expires']}. It holds the cohort's key: keep it as you keep the cohort."
    )
    emit(as_json, made | {"file": str(file)}, text)


@commands.command()
def restore(
    cohort: CohortArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="From `sjd backup`.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="URL", help="Where the bytes go; default: beside.")
    ] = None,
    catalogue: Annotated[
        str | None, typer.Option("--catalogue", metavar="URL", help="sqlite:///file or postgresql://...")
    ] = None,
    allow_expired: Annotated[
        bool, typer.Option("--allow-expired", help="Take a backup that should be gone already.")
    ] = False,
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Make a cohort of a backup, in a new folder."""
    from sjd_dask.store.backup import restore as make

    made = make(
        cohort, file, data, catalogue, allow_expired=allow_expired,
        progress=None if quiet else lambda text: print(text, file=sys.stderr),
    ).to_json()  # fmt: skip
    text = (
        f"{cohort}: {made['n_files']:,} files, up to snapshot {made['snapshot']}, as of {made['created']}. Whoever was "
        f"withdrawn since is in it again: run those withdrawals once more before anybody reads it."
    )
    emit(as_json, made | {"cohort": cohort}, text)
