"""Clinical scores of a sheet."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sjd_dask.cli import text
from sjd_dask.cli.options import (
    BaselineOption,
    ClusterOption,
    Commands,
    DefinitionOption,
    JsonOption,
    MappingOption,
    ReferenceOption,
    SheetArgument,
    UnitsOption,
    WorkersOption,
    emit,
    say,
    warn,
)

commands = Commands()


@commands.command()
def score(
    sheet: SheetArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help=".csv, .tsv (.gz), .parquet or .json")],
    measure: Annotated[
        list[str],
        typer.Option("--measure", metavar="M", help="A measure, such as acr-eular or essdai; repeatable; or all."),
    ],
    units: UnitsOption = None,
    mapping: MappingOption = None,
    domains: Annotated[
        str | None, typer.Option("--domains", metavar="A,B", help="ESSDAI domains to score; default: all.")
    ] = None,
    baseline: BaselineOption = None,
    carry: Annotated[
        str | None,
        typer.Option(
            "--carry",
            metavar="A,B",
            help="Tests (focus_score, anti_ssa, ultrasound) kept from a person's earlier visits; default: none.",
        ),
    ] = None,
    definition: DefinitionOption = None,
    reference: ReferenceOption = None,
    save_reference: Annotated[
        Path | None, typer.Option("--save-reference", metavar="FILE", help="Keep SHEET as a reference of the axes.")
    ] = None,
    model: Annotated[
        Path | None, typer.Option("--model", metavar="FILE", help="Model of nsst or integrated, made by --fit.")
    ] = None,
    fit: Annotated[
        Path | None, typer.Option("--fit", metavar="FILE", help="Fit nsst or integrated on SHEET and keep the model.")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="NAME=VALUE", help="Another option of a measure, as in Python; repeatable."),
    ] = None,
    cluster: ClusterOption = "local",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Clinical scores of every row of a sheet, each with its range under missing items, and why it is open."""
    from sjd_dask.jobs.score_sheet import definition_files, option_pairs, score_sheet, unit_pairs

    named: dict[str, Any] = {"domains": domains, "baseline": baseline, "carry": carry}
    done = score_sheet(
        sheet,
        out,
        measures=measure,
        mapping=mapping,
        units=unit_pairs(units or []),
        definitions=definition_files(definition or []),
        options={**{key: value for key, value in named.items() if value is not None}, **option_pairs(option or [])},
        reference=reference,
        save_reference=save_reference,
        model=model,
        fit=fit,
        cluster=cluster,
        workers=workers,
    )
    say(done.notes)
    warn(done.warnings)
    emit(as_json, done.to_json(), text.score_text(done.to_json()))
