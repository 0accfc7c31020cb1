"""The command `sjd`. It parses, calls, and prints: no logic lives here.

Logs and progress go to stderr, results to stdout. Exit codes: 0 done; 2 usage or invalid spec; 3 bad data;
4 plan refused; 5 interrupted, resumable; 6 another writer holds it; 1 anything else.
"""

from __future__ import annotations

import os
import sys
import traceback
from typing import Annotated, Any

import typer

from sjd_dask.cli import (
    backup,
    certs,
    clinical,
    cohorts,
    compare,
    exchange,
    history,
    models,
    person,
    runs,
    trial,
    withdraw,
)
from sjd_dask.cli.options import Commands, JsonOption, emit
from sjd_dask.errors import SjdError

app = Commands(
    name="sjd",
    help="Distributed batch processing for large biobank cohorts in Sjögren disease.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(cohorts.commands)
app.add_typer(runs.commands)
app.add_typer(history.commands)
app.add_typer(clinical.commands)
app.add_typer(person.commands)
app.add_typer(trial.commands)
app.add_typer(compare.commands)
app.add_typer(exchange.commands)
app.add_typer(withdraw.commands)
app.add_typer(backup.commands)
app.add_typer(certs.commands)
app.add_typer(models.registry, name="models")
app.add_typer(models.commands)

# typer carries a click of its own in some versions and uses the installed one in others; a public class leads to both.
_UsageError: Any = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "UsageError")


def _version(value: bool) -> None:
    if value:
        from sjd_dask import __version__

        print(f"sjd-dask {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command()
def schema(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Name of a schema; none lists them.")] = None,
    as_json: JsonOption = False,
) -> None:
    """JSON Schema of a job spec or of a result table."""
    from sjd_dask.jobs.schemas import schema_names, schema_text

    if name:
        print(schema_text(name))
    else:
        emit(as_json, {"schemas": schema_names()}, "\n".join(schema_names()))


@app.command()
def doctor(
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster", metavar="C", help="Try this cluster too: local, tcp://..., tls://..., or a YAML file."
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What works here and what doesn't."""
    from sjd_dask.jobs.doctor import examine

    findings = examine(cluster)
    text = "\n".join(f"{'ok ' if item['ok'] else 'NO '} {item['what']}: {item['detail']}" for item in findings)
    emit(as_json, {"findings": findings}, text)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and end the process with the contract's exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    verbose = "-v" in arguments or "--verbose" in arguments
    try:
        code = app(args=arguments, prog_name="sjd", standalone_mode=False)
        code = code if isinstance(code, int) else 0
    except typer.Abort:
        code = 5
    except _UsageError as error:
        error.show()
        code = 2
    except SjdError as error:
        if verbose:
            traceback.print_exc()
        print(f"sjd: error: {error}", file=sys.stderr)
        code = error.exit_code
    except BrokenPipeError:
        # The reader of our output went away (`sjd log | head`): not an error of ours.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    except OSError as error:
        # A file of the user's that can't be read or written; what belongs to a cohort has messages of its own.
        if verbose:
            traceback.print_exc()
        print(f"sjd: error: {str(error) or type(error).__name__}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        print("sjd: error: interrupted", file=sys.stderr)
        code = 5
    sys.stdout.flush()
    sys.exit(code)


if __name__ == "__main__":
    main()
