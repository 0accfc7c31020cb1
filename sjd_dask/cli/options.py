"""Options, logging and output that the commands share."""

from __future__ import annotations

import functools
import inspect
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

# Options that several commands share, defined once.
CohortArgument = Annotated[str, typer.Argument(metavar="COHORT", help="Folder or URL that holds cohort.toml.")]
SpecArgument = Annotated[Path, typer.Argument(metavar="SPEC", help="Job spec, YAML.")]
RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Run id, as `sjd runs` lists it.")]
ResultArgument = Annotated[
    str, typer.Argument(metavar="RESULT", help="kind/name[@version], as `sjd info` lists them; default: the newest.")
]
SetOption = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the spec; repeatable.")
]
ClusterOption = Annotated[
    str, typer.Option("--cluster", metavar="C", help="local, tcp://..., tls://..., or a YAML file.")
]
WorkersOption = Annotated[
    int | None, typer.Option("--workers", min=1, help="Workers of a local cluster; default: the CPUs.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
QuietOption = Annotated[bool, typer.Option("-q", "--quiet", help="Warnings and errors only.")]
VerboseOption = Annotated[bool, typer.Option("-v", "--verbose", help="Say more, and show where an error arose.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Say what would be done; change nothing.")]


# Of the commands that read a clinical sheet.
SheetArgument = Annotated[
    str, typer.Argument(metavar="SHEET", help=".csv, .tsv (.gz), .parquet, a folder of Parquet parts, or a cohort.")
]
UnitsOption = Annotated[
    list[str] | None, typer.Option("--units", metavar="COLUMN=UNIT", help="Such as igg=mg/dL; repeatable.")
]
MappingOption = Annotated[
    Path | None, typer.Option("--mapping", metavar="FILE", help="YAML: the sheet's columns as canonical ones.")
]
BaselineOption = Annotated[
    str | None, typer.Option("--baseline", metavar="QUERY", help="Rows that are baselines; default: first visits.")
]
DefinitionOption = Annotated[
    list[str] | None,
    typer.Option("--definition", metavar="NAME=FILE", help="YAML laid over a shipped definition; repeatable."),
]
ReferenceOption = Annotated[
    Path | None, typer.Option("--reference", metavar="FILE", help="Reference cohort of the axes; default: SHEET.")
]


_LOUDNESS: dict[str, Any] = {"quiet": QuietOption, "verbose": VerboseOption}


class Commands(typer.Typer):
    """Commands that all take -q and -v; a function that asks for `quiet` or `verbose` gets it."""

    def command(self, *arguments: Any, **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        register = super().command(*arguments, **options)

        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            register(_with_loudness(function))
            return function

        return decorate


def _with_loudness(function: Callable[..., Any]) -> Callable[..., Any]:
    signature = inspect.signature(function, eval_str=True)
    own = signature.parameters
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=option)
        for name, option in _LOUDNESS.items()
        if name not in own
    ]

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        set_logging(given["quiet"], given["verbose"])
        return function(**{name: value for name, value in given.items() if name in own})

    everything = signature.replace(parameters=[*own.values(), *added])
    command.__signature__ = everything  # type: ignore[attr-defined]
    command.__annotations__ = {name: one.annotation for name, one in everything.parameters.items()}
    return command


def emit(as_json: bool, payload: dict[str, Any], lines: str) -> None:
    """A result on stdout: one JSON object, or text for people."""
    if as_json:
        print(json.dumps(payload, ensure_ascii=False, default=str))
    elif lines:
        print(lines)


def warn(warnings: Sequence[str]) -> None:
    for warning in warnings:
        print(f"sjd: warning: {warning}", file=sys.stderr)


def say(notes: Sequence[str]) -> None:
    """What was done, where no result tells it."""
    for note in notes:
        print(note, file=sys.stderr)


def set_logging(quiet: bool, verbose: bool) -> None:
    # Read when distributed is first imported, here and in the workers: its own log is for those who ask.
    os.environ.setdefault("DASK_LOGGING__DISTRIBUTED", "info" if verbose else "warning")
    level = logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(
        level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr, force=True
    )
    logging.getLogger("sjd_dask").setLevel(level)


def stage_lines() -> Callable[[str, int, int | None], None]:
    """Progress of a streamed stage as plain lines on stderr, at most one a second and one at each stage's end."""
    last: dict[str, float] = {}

    def show(stage: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if done == total or now - last.get(stage, 0.0) >= 1.0:
            last[stage] = now
            print(f"{stage}: {done}{f' of {total}' if total else ''}", file=sys.stderr)

    return show
