"""The clinical page of a person, or of all."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sjd_dask.cli.options import (
    BaselineOption,
    Commands,
    DefinitionOption,
    JsonOption,
    MappingOption,
    ReferenceOption,
    SheetArgument,
    UnitsOption,
    emit,
    say,
)

commands = Commands()


@commands.command()
def person(
    sheet: SheetArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="The page.")],
    who: Annotated[
        str | None,
        typer.Option("--person", metavar="ID", help="A person_id; without it: a page of all, without names."),
    ] = None,
    cohort: Annotated[
        str | None, typer.Option("--cohort", metavar="COHORT", help="Where the molecular classes are.")
    ] = None,
    calls: Annotated[
        str | None, typer.Option("--calls", metavar="NAME", help="Name of the calls, as in classes/NAME.")
    ] = None,
    units: UnitsOption = None,
    mapping: MappingOption = None,
    baseline: BaselineOption = None,
    definition: DefinitionOption = None,
    reference: ReferenceOption = None,
    samples: Annotated[
        str | None, typer.Option("--samples", metavar="QUERY", help="Rows to read, such as \"disease == 'patient'\".")
    ] = None,
    below: Annotated[
        int, typer.Option("--suppress-below", min=0, help="Page of all: counts of fewer people are not shown.")
    ] = 5,
    as_json: JsonOption = False,
) -> None:
    """Axes, scores, molecular class over visits, and what is missing to decide: one page of a person, or of all."""
    from sjd_dask.jobs.score_sheet import definition_files, unit_pairs
    from sjd_dask.report.write import write_text

    given: dict[str, Any] = {
        "mapping": mapping, "units": unit_pairs(units or []), "definitions": definition_files(definition or []),
        "reference": reference, "cohort": cohort, "calls": calls, "samples": samples,
    }  # fmt: skip
    if who is not None:
        from sjd_dask.jobs.person_page_inputs import person_inputs
        from sjd_dask.report.person_page import render_person

        found = person_inputs(sheet, who, baseline=baseline, **given)
        history = found.history
        page = render_person(
            who,
            found.visits,
            sheet=found.sheet,
            axes=found.axes,
            scales=found.scales,
            open_questions=found.open,
            reference=found.reference,
            calls=None if history is None else history.calls,
            classes=() if history is None else history.classes,
            calls_name="" if history is None else history.output,
            notes=found.notes,
        )
        facts: dict[str, Any] = {"person": who, "n_visits": len(found.visits), "open": found.open.to_dict("records")}
        notes = found.notes
    else:
        from sjd_dask.jobs.people_page_inputs import people_inputs
        from sjd_dask.report.people_page import render_people

        everyone = people_inputs(sheet, baseline=baseline, below=below, **given)
        page = render_people(everyone)
        facts, notes = {"n_persons": everyone.n_persons, "n_visits": everyone.n_visits}, everyone.notes
    write_text(page, out)
    say(notes)
    emit(as_json, {"file": str(out), **facts}, str(out))
