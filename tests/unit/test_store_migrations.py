"""A catalogue that an earlier version of the package left is brought up to date, and is then like a new one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from store_postgres import new_database, postgres_server

from sjd_dask.store.catalogue import migrate, results
from sjd_dask.store.catalogue import tables as t
from sjd_dask.store.catalogue.promotions import promote
from sjd_dask.store.catalogue.rollback import roll_back
from sjd_dask.store.catalogue.session import Catalogue
from sjd_dask.store.catalogue.tombstones import id_key

# As the second revision had them: by hand, since the tables of today know more.
_SECOND = (
    "INSERT INTO meta (key, value) VALUES ('format_version', '1'), ('name', 'old')",
    "INSERT INTO snapshots (id, time, kind, message, who) VALUES (1, 10.0, 'result', 'models/m@1', 'ann')",
    "INSERT INTO snapshots (id, time, kind, message, who) VALUES (2, 20.0, 'result', 'associations/e@1', 'ann')",
    "INSERT INTO results (id, kind, name, version, files, meta, published_in) VALUES"
    " ('r1', 'models', 'm', 1, '{}', '{}', 1), ('r2', 'associations', 'e', 1, '{}', '{}', 2)",
)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as url:
        yield url


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def catalogue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalogue]:
    here = request.param == "sqlite"
    url = f"sqlite:///{tmp_path / 'c.sqlite'}" if here else new_database(request.getfixturevalue("server"))
    made = Catalogue(url)
    yield made
    made.close()


def test_the_second_revision_becomes_the_third(catalogue: Catalogue) -> None:
    with catalogue.write_unprepared() as connection:
        migrate.upgrade(connection, "0002")
        for statement in _SECOND:
            connection.execute(sa.text(statement))
    migrate.open_checked(catalogue)
    with catalogue.read() as connection:
        assert migrate.revision_of(connection) == t.REVISIONS[-1] == "0003"
        key = id_key(connection)
        assert connection.execute(sa.select(t.snapshots.c.undoes)).scalars().all() == [None, None]
    assert len(key) == 32
    migrate.open_checked(catalogue)
    with catalogue.read() as connection:
        assert id_key(connection) == key
    # What the third revision brought works on what the second one left.
    assert promote(catalogue, "m", 1, "", None) == 3
    undone = roll_back(catalogue, 2, "", None, [], {})
    assert [f"{one.kind}/{one.name}@{one.version}" for one in results.list_results(catalogue)] == ["models/m@1"]
    assert roll_back(catalogue, undone.snapshot, "", None, [], {}).restored_refs == ["associations/e@1"]
    assert results.find_result(catalogue, "associations/e@1").published_in == 5


def test_two_catalogues_have_two_keys(catalogue: Catalogue, tmp_path: Path) -> None:
    migrate.create(catalogue, "one")
    other = Catalogue(f"sqlite:///{tmp_path / 'other.sqlite'}")
    migrate.create(other, "two")
    with catalogue.read() as here, other.read() as there:
        assert id_key(here) != id_key(there)


def test_migrations_make_the_tables_that_the_package_knows(catalogue: Catalogue) -> None:
    migrate.create(catalogue, "new")
    with catalogue.read() as connection:
        # SQLite keeps no lengths, so a migration leaves those of its types as they were.
        context = MigrationContext.configure(connection, opts={"compare_type": not catalogue.is_sqlite})
        found = compare_metadata(context, t.metadata)
    assert found == []
