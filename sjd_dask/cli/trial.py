"""A trial from its protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sjd_dask.cli.options import Commands, JsonOption, QuietOption, SetOption, emit, say

commands = Commands()


@commands.command()
def trial(
    protocol: Annotated[Path, typer.Argument(metavar="PROTOCOL.yaml", help="See `sjd schema trial`.")],
    overrides: SetOption = [],  # noqa: B006 - typer copies it
    as_json: JsonOption = False,
    quiet: QuietOption = False,
) -> None:
    """Eligibility, feasibility, sizes and power, randomisation lists, and a finished trial by class."""
    from sjd_dask.jobs.spec import resolve_path
    from sjd_dask.jobs.trial import read_protocol, run_trial, write_trial
    from sjd_dask.report.trial_page import render_trial

    spec, base = read_protocol(protocol, overrides)
    done = run_trial(spec, base)
    page = render_trial(done.facts, done.tables, hide_below=spec.hide_below)
    written = write_trial(done, Path(resolve_path(spec.output, base)), page)
    if not quiet:
        say(done.notes)
    emit(as_json, {**done.facts, "files": list(map(str, written))}, "\n".join(map(str, written)))
