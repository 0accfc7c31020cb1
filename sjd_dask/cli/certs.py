"""`sjd certs`: certificates for one cluster."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sjd_dask.cli.options import Commands, JsonOption, emit

commands = Commands()


@commands.command()
def certs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder.")],
    host: Annotated[
        list[str], typer.Option("--host", metavar="NAME", help="Host name or address to carry; repeatable.")
    ] = [],  # noqa: B006 - typer reads the default
    days: Annotated[int, typer.Option("--days", min=1, help="How long they are valid.")] = 365,
    as_json: JsonOption = False,
) -> None:
    """A private authority and its certificates for a cluster's tls:// address."""
    from sjd_dask.runtime.certs import make_certificates

    made = make_certificates(folder, host, days)
    until = made.expires.date().isoformat()
    text = (
        f"{made.folder}: {', '.join(made.files)}; valid until {until}\n"
        f"Scheduler and workers: DASK_CONFIG={made.folder}/dask.yaml dask scheduler --protocol tls\n"
        f"Jobs: the scheduler's address in {made.folder}/cluster.yaml, then sjd run SPEC --cluster "
        f"{made.folder}/cluster.yaml\n"
        f"Whoever has ca.key, or a key here, may run code on the cluster: move ca.key to a safe place."
    )
    emit(as_json, {"folder": str(made.folder), "files": list(made.files), "expires": made.expires.isoformat()}, text)
