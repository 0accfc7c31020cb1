"""The registry of models, and taking back what was published."""

from __future__ import annotations

from typing import Annotated

import typer

from sjd_dask.cli import text
from sjd_dask.cli.options import CohortArgument, Commands, JsonOption, emit, warn

registry = Commands(no_args_is_help=True, help="The registry of models: which there are, and which is in production.")
commands = Commands()

ModelArgument = Annotated[
    str, typer.Argument(metavar="NAME[@VERSION]", help="A model; @production is the one in production.")
]
WhyOption = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, for the log.")]
WhoOption = Annotated[str | None, typer.Option("--who", metavar="NAME", help="Who decides; default: the user.")]


@registry.command("list")
def list_models(
    cohort: CohortArgument,
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One model only.")] = None,
    as_json: JsonOption = False,
) -> None:
    """All versions of all models, or of one."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.models import model_facts

    found = model_facts(open_cohort(cohort), name)
    emit(as_json, {"models": found}, text.models_text(found))


@registry.command()
def show(cohort: CohortArgument, model: ModelArgument, as_json: JsonOption = False) -> None:
    """What one model is, and which versions were in production when. Its card is a report: `sjd report`."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.models import describe_model

    facts = describe_model(open_cohort(cohort), model)
    emit(as_json, facts, text.model_text(facts))


@registry.command()
def promote(
    cohort: CohortArgument,
    model: ModelArgument,
    why: WhyOption = "",
    who: WhoOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put a version in production, in place of the one that is there; without a version the newest."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.models import promote_by_name

    ref, snapshot, warnings = promote_by_name(open_cohort(cohort), model, why, who)
    warn(warnings)
    done = f"promoted to production in snapshot {snapshot}" if snapshot else "in production already, unchanged"
    emit(as_json, {"model": ref, "snapshot": snapshot}, f"{ref}: {done}")


@registry.command()
def rollback(
    cohort: CohortArgument,
    model: ModelArgument,
    why: WhyOption = "",
    who: WhoOption = None,
    as_json: JsonOption = False,
) -> None:
    """Put back the version that was in production before, or an earlier one that is named."""
    from sjd_dask.store.cohort import open_cohort
    from sjd_dask.store.models import parse_model

    name, to, _ = parse_model(model)
    version, snapshot = open_cohort(cohort).rollback_model(name, why, who, to)
    ref = f"models/{name}@{version}"
    emit(as_json, {"model": ref, "snapshot": snapshot}, f"{ref}: in production again, snapshot {snapshot}")


@commands.command("rollback")
def roll_back(
    cohort: CohortArgument,
    target: Annotated[
        str, typer.Argument(metavar="SNAPSHOT|RUN", help="A number that `sjd log` lists, or the run that published it.")
    ],
    why: WhyOption = "",
    who: WhoOption = None,
    as_json: JsonOption = False,
) -> None:
    """Take back a published night, result, arrival or promotion, as a new change; nothing is deleted."""
    from sjd_dask.jobs.rollback import roll_back as take_back
    from sjd_dask.store.cohort import open_cohort

    done = take_back(open_cohort(cohort), target, why, who).to_json()
    emit(as_json, done, text.rollback_text(done))
