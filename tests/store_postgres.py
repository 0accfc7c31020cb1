"""A real PostgreSQL server for tests, started in a temporary folder; absent ones are skipped with the reason."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest


def _program(name: str) -> str | None:
    found = shutil.which(name)
    if found:
        return found
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(installed[-1]) if installed else None


def _missing(reason: str) -> NoReturn:
    """Skip with the reason; fail where the surroundings promise a server."""
    if os.environ.get("SJD_REQUIRE_POSTGRES"):
        pytest.fail(f"SJD_REQUIRE_POSTGRES is set, and {reason}")
    pytest.skip(reason)


@contextmanager
def postgres_server() -> Iterator[str]:
    """The URL of a fresh server (database ``postgres``), or a skip with the reason."""
    initdb, pg_ctl = _program("initdb"), _program("pg_ctl")
    if initdb is None or pg_ctl is None:
        _missing("no PostgreSQL server here: initdb and pg_ctl are neither on PATH nor under /usr/lib/postgresql")
    if importlib.util.find_spec("psycopg") is None:
        _missing("psycopg is not installed: pip install 'sjd-dask[postgres]'")
    identity: dict[str, object] = {}
    user = pwd.getpwuid(os.getuid()).pw_name
    folder = Path(tempfile.mkdtemp(prefix="sjd-pg-"))
    if os.getuid() == 0:
        # The server refuses to run as root.
        try:
            account = pwd.getpwnam("postgres")
        except KeyError:
            _missing("PostgreSQL refuses to run as root, and there is no user 'postgres' to run it as")
        os.chown(folder, account.pw_uid, account.pw_gid)
        identity = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        user = "postgres"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def run(*command: str) -> None:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, **identity)  # type: ignore[call-overload]
        if done.returncode:
            log = folder / "log"
            raise RuntimeError(f"{command}: {done.stdout}{done.stderr}{log.read_text() if log.exists() else ''}")

    data = str(folder / "data")
    try:
        run(initdb, "-D", data, "-U", user, "--auth=trust", "--no-sync", "-E", "UTF8", "--locale=C")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={folder} -c fsync=off"
        run(pg_ctl, "-D", data, "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://{user}@127.0.0.1:{port}/postgres"
        finally:
            run(pg_ctl, "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def new_database(server_url: str) -> str:
    """The URL of a new, empty database on the server."""
    import sqlalchemy as sa

    name = f"t{time.time_ns()}"
    admin = sa.create_engine(server_url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return server_url.rsplit("/", 1)[0] + "/" + name
