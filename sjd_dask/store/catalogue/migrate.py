"""Creating a catalogue and bringing an older one up to date."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from sjd_dask.errors import DataError, FormatVersionError
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.session import Catalogue, engine_url


def revision_of(connection: sa.Connection) -> str | None:
    """The database's revision; None in an empty one."""
    if not sa.inspect(connection).has_table("alembic_version"):
        return None
    found = connection.execute(sa.text("SELECT version_num FROM alembic_version")).scalar()
    return None if found is None else str(found)


def check_revision(revision: str) -> None:
    """Refuse a catalogue that a newer package wrote."""
    if revision not in t.REVISIONS:
        known = int(t.REVISIONS[-1])
        if revision.isdigit():
            raise FormatVersionError(int(revision), known, "catalogue")
        raise DataError(
            f"this catalogue has the unknown revision {revision!r}, not one up to {known}; nothing was touched"
        )


def upgrade(connection: sa.Connection, revision: str = "head") -> None:
    """Run the missing migrations, up to a revision, inside the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)


def create(catalogue: Catalogue, name: str) -> None:
    """Make the tables of a new cohort.

    Raises
    ------
    DataError
        The database holds a cohort already.
    """
    with catalogue.write_unprepared() as connection:
        if sa.inspect(connection).has_table("meta"):
            raise DataError(f"{catalogue!r} holds a cohort already; give each cohort its own database")
        upgrade(connection)
        connection.execute(
            sa.insert(t.meta),
            [{"key": "format_version", "value": str(t.FORMAT_VERSION)}, {"key": "name", "value": name}],
        )


def open_checked(catalogue: Catalogue) -> None:
    """Refuse a newer catalogue; bring an older one up to date under the write lock.

    Raises
    ------
    FormatVersionError
        A newer package wrote it. Nothing was touched.
    DataError
        There is no catalogue.
    """
    with catalogue.read() as connection:
        revision = revision_of(connection)
        if revision is None:
            shown = engine_url(catalogue.url).render_as_string(hide_password=True)
            raise DataError(f"the catalogue {shown} is empty; restore it from a backup")
        check_revision(revision)
        _check_format(connection)
    if revision != t.REVISIONS[-1]:
        with catalogue.write() as connection:
            found = revision_of(connection) or ""
            check_revision(found)
            if found != t.REVISIONS[-1]:
                upgrade(connection)


def _check_format(connection: sa.Connection) -> None:
    found = connection.execute(sa.select(t.meta.c.value).where(t.meta.c.key == "format_version")).scalar()
    if found is None or not str(found).isdigit():
        raise DataError(f"the catalogue's format_version is {found!r}, not a number; restore it from a backup")
    if int(found) > t.FORMAT_VERSION:
        raise FormatVersionError(int(found), t.FORMAT_VERSION, "catalogue")
