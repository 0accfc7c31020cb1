"""Reading and writing the catalogue: one consistent view a read, one locked transaction a write.

SQLite keeps its rollback journal (no WAL): WAL needs memory shared by all users of the file, which network file systems
don't give, and a commit here takes milliseconds. `synchronous=EXTRA` also forces the folder's names to disk.
"""

from __future__ import annotations

import datetime
import getpass
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import DatabaseError, OperationalError
from sqlalchemy.pool import NullPool

from sjd_dask.errors import Busy, DataError, MissingDependency, SjdError, SpecError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.owners import Owner

_T = TypeVar("_T")
_FORMS = "use sqlite:///file or postgresql://user@host/database"


def engine_url(url: str) -> sa.URL:
    """The database URL as SQLAlchemy takes it; `postgresql://` means psycopg 3.

    Raises
    ------
    SpecError
        Not a URL, or a database that is neither SQLite nor PostgreSQL.
    """
    try:
        parsed = sa.make_url(url)
    except sa.exc.ArgumentError as error:
        raise SpecError(f"{url!r} is not a catalogue URL; {_FORMS}") from error
    backend = parsed.get_backend_name()
    if backend == "sqlite":
        if not parsed.database or parsed.database == ":memory:":
            raise SpecError(f"{url!r} names no file; a catalogue must outlive the process")
        return parsed.set(drivername="sqlite+pysqlite")
    if backend in ("postgresql", "postgres"):
        return parsed.set(drivername="postgresql+psycopg")
    raise SpecError(f"a catalogue on {backend!r} is not supported; {_FORMS}")


class Catalogue:
    """The SQL catalogue of one cohort.

    Parameters
    ----------
    url : str
        ``sqlite:////absolute/file`` or ``postgresql://user@host/database``.
    timeout : float
        Seconds to wait for another writer before `Busy`.

    Notes
    -----
    Safe to use from several threads. Pickles by its URL.
    """

    def __init__(self, url: str, timeout: float = 30.0) -> None:
        self.url = url
        self.timeout = timeout
        parsed = engine_url(url)
        self.is_sqlite = parsed.get_backend_name() == "sqlite"
        self._engine = self._sqlite(parsed) if self.is_sqlite else self._postgres(parsed)
        # Pooled connections are closed with the catalogue, at the latest when the process ends.
        self._closing = weakref.finalize(self, self._engine.dispose)

    def __reduce__(self) -> tuple[type[Catalogue], tuple[str, float]]:
        return Catalogue, (self.url, self.timeout)

    def __repr__(self) -> str:
        return f"Catalogue({engine_url(self.url).render_as_string(hide_password=True)!r})"

    def _sqlite(self, parsed: sa.URL) -> sa.Engine:
        # No pool: an open handle would keep locks across threads, and opening one costs 0.2 ms.
        engine = sa.create_engine(
            parsed, poolclass=NullPool, connect_args={"timeout": self.timeout, "check_same_thread": False}
        )

        @event.listens_for(engine, "connect")
        def prepare(connection: Any, _record: Any) -> None:
            # The driver's own BEGIN comes late and isolates no reads; transactions are begun below.
            connection.isolation_level = None
            cursor = connection.cursor()
            cursor.execute("PRAGMA synchronous=EXTRA")
            cursor.execute("PRAGMA foreign_keys=ON")
            cursor.execute("PRAGMA cache_size=-65536")
            cursor.close()

        @event.listens_for(engine, "begin")
        def begin(connection: sa.Connection) -> None:
            write = connection.get_execution_options().get("sjd_write", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

        return engine

    def _postgres(self, parsed: sa.URL) -> sa.Engine:
        try:
            return sa.create_engine(
                parsed,
                pool_size=2,
                max_overflow=8,
                pool_pre_ping=True,
                isolation_level="REPEATABLE READ",
                connect_args={"connect_timeout": 10},
            )
        except ImportError as error:
            raise MissingDependency("psycopg", "postgres", "a PostgreSQL catalogue") from error

    def close(self) -> None:
        """Close pooled connections; the next use opens new ones."""
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection whose reads all see one moment."""
        with self._clear_errors("nothing was read"), self._engine.connect() as connection, connection.begin():
            yield connection

    def write_unprepared(self) -> AbstractContextManager[sa.Connection]:
        """As `write`, on a database that has no tables yet."""
        return self._write(lock_table=False)

    def write(self) -> AbstractContextManager[sa.Connection]:
        """A transaction that holds the write lock from its begin: commit when the block ends well, else roll back.

        Raises
        ------
        Busy
            Another writer kept the lock longer than `timeout`.
        """
        return self._write(lock_table=True)

    @contextmanager
    def _write(self, lock_table: bool) -> Iterator[sa.Connection]:
        with self._clear_errors("nothing was published"):
            if self.is_sqlite:
                connection = self._engine.connect().execution_options(sjd_write=True)
            else:
                # Each statement sees what committed before the lock was had.
                connection = self._engine.connect().execution_options(isolation_level="READ COMMITTED")
            with connection, connection.begin():
                if not self.is_sqlite:
                    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(self.timeout * 1000)}")
                    connection.exec_driver_sql("SET LOCAL synchronous_commit = on")
                    if lock_table:
                        # The same rule as SQLite's BEGIN IMMEDIATE: one writer at a time, readers go on.
                        connection.exec_driver_sql("LOCK TABLE meta IN EXCLUSIVE MODE")
                yield connection

    def vacuum(self) -> None:
        """Write the database anew without what was deleted from it.

        Raises
        ------
        Busy
            Another process reads or writes it.
        """
        with self._clear_errors("the database was not written anew"):
            if self.is_sqlite:
                raw = self._engine.raw_connection()
                try:
                    raw.cursor().execute("VACUUM")
                finally:
                    raw.close()
                return
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                for table in t.metadata.sorted_tables:
                    connection.exec_driver_sql(f'VACUUM (FULL) "{table.name}"')

    @contextmanager
    def _clear_errors(self, undone: str) -> Iterator[None]:
        try:
            yield
        except DatabaseError as error:
            text = str(error.orig or error).strip()
            low = text.lower()
            shown = engine_url(self.url).render_as_string(hide_password=True)
            if "locked" in low or "lock timeout" in low or "could not serialize" in low or "deadlock" in low:
                raise Busy(
                    f"another writer held the catalogue {shown} for longer than {self.timeout:g} s; {undone}. "
                    f"Run the same command again."
                ) from error
            if "readonly" in low or "read-only" in low:
                raise SjdError(f"the catalogue {shown} is read-only; {undone}. Remedy: make it writable.") from error
            if "full" in low and "disk" in low:
                raise SjdError(
                    f"no space left for the catalogue {shown}; {undone}. Remedy: free space, then run it again."
                ) from error
            if "malformed" in low or "not a database" in low:
                raise DataError(f"the catalogue {shown} is damaged ({text}); restore it from a backup") from error
            if isinstance(error, OperationalError):
                raise SjdError(f"the catalogue {shown} cannot be used: {text}; {undone}.") from error
            raise


def who_am_i() -> str:
    """The user's name, for the log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return "unknown"


def new_snapshot(
    connection: sa.Connection,
    kind: str,
    message: str,
    *,
    who: str | None = None,
    run_id: str | None = None,
    undoes: int | None = None,
) -> int:
    """Number and log a change, inside the write transaction that makes it. `undoes`: the change that it takes back."""
    number = current_snapshot(connection) + 1
    connection.execute(
        sa.insert(t.snapshots).values(
            id=number, time=now(), kind=kind, message=message, who=who or who_am_i(), run_id=run_id, undoes=undoes
        )
    )
    return number


def undone_changes(connection: sa.Connection) -> dict[int, int]:
    """Changes that were taken back, and by which change; not those whose taking back was taken back itself."""
    columns = t.snapshots.c
    pairs = connection.execute(
        sa.select(columns.id, columns.undoes).where(columns.undoes.is_not(None)).order_by(columns.id.desc())
    )
    undone: dict[int, int] = {}
    for number, before in pairs:
        # The newest first: whether a change stands is known before what it took back is looked at.
        if number not in undone:
            undone[before] = number
    return undone


def current_snapshot(connection: sa.Connection) -> int:
    """The newest change; 0 in an empty cohort."""
    return int(connection.execute(sa.select(sa.func.max(t.snapshots.c.id))).scalar() or 0)


def as_of(table: sa.Table, snapshot: int | None) -> sa.ColumnElement[bool]:
    """The condition that a record is part of a view; None is the present."""
    if snapshot is None:
        return table.c.retired_in.is_(None)
    return sa.and_(
        table.c.published_in <= snapshot, sa.or_(table.c.retired_in.is_(None), table.c.retired_in > snapshot)
    )


def in_pieces(items: list[_T], size: int = 1000) -> Iterator[list[_T]]:
    """Lists short enough for one IN (...): databases limit the number of parameters."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def owner_values(owner: Owner) -> dict[str, Any]:
    """An owner as columns."""
    return {"host": owner.host, "pid": owner.pid, "started": owner.started}


def owner_of(record: Mapping[str, Any] | Any) -> Owner:
    """The owner that columns describe."""
    return Owner(record["host"], record["pid"], record["started"])


def now() -> float:
    """Seconds since 1970."""
    return time.time()


def iso_time(seconds: float) -> str:
    """Seconds since 1970 as UTC text."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")
