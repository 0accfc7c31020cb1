"""Clinical data in the formats that others read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sjd_dask.cli import text
from sjd_dask.cli.options import Commands, JsonOption, MappingOption, SheetArgument, UnitsOption, emit, say

commands = Commands()


@commands.command()
def exchange(
    sheet: SheetArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A folder to make.")],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="phenopackets or omop.")],
    scores: Annotated[
        Path | None, typer.Option("--scores", metavar="TABLE", help="What `sjd score` wrote; joined by sample_id.")
    ] = None,
    cohort: Annotated[
        str | None, typer.Option("--cohort", metavar="COHORT", help="Cohort of the calls; goes with --calls.")
    ] = None,
    calls: Annotated[
        str | None, typer.Option("--calls", metavar="NAME", help="Molecular classes, as in classes/NAME.")
    ] = None,
    mapping: MappingOption = None,
    units: UnitsOption = None,
    definition: Annotated[
        list[str] | None,
        typer.Option("--definition", metavar="NAME=FILE", help="YAML laid over shipped terms, such as omop=FILE."),
    ] = None,
    patients: Annotated[
        str | None, typer.Option("--patients", metavar="QUERY", help="Rows whose persons have Sjögren disease.")
    ] = None,
    persons: Annotated[
        Path | None, typer.Option("--persons", metavar="TABLE", help="person_ids.csv of an earlier OMOP export.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write a sheet, its scores and molecular classes as GA4GH Phenopackets or OMOP measurement rows."""
    from sjd_dask.jobs.exchange import exchange as write
    from sjd_dask.jobs.score_sheet import definition_files, unit_pairs

    done = write(
        sheet,
        out,
        to,
        scores=scores,
        cohort=cohort,
        calls=calls,
        mapping=mapping,
        units=unit_pairs(units or []),
        definitions=definition_files(definition or []),
        patients=patients,
        persons=persons,
    )
    say(done.notes)
    emit(as_json, done.to_json(), text.exchange_text(done.to_json()))
