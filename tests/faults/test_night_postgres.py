"""Nights, one taken back, a withdrawal: with a PostgreSQL catalogue all is published as with SQLite."""

from __future__ import annotations

from pathlib import Path

import night_scene as scene
import pytest
from store_postgres import new_database, postgres_server

from sjd_dask.jobs.rollback import roll_back
from sjd_dask.jobs.withdraw import withdraw_file
from sjd_dask.store.backup import backup, restore
from sjd_dask.store.verify import verify

NEW = [scene.sample(150), scene.sample(151), scene.sample(1, 2)]


def live(home: Path) -> None:
    """Arrivals and a correction, a night that is taken back and told again, somebody who leaves, one more night."""
    scene.write_arrival(home / "inbox", "new", NEW)
    scene.write_arrival(home / "inbox", "correction", [scene.sample(2)], version=1)
    scene.night(home)
    cohort = scene.opened(home)
    roll_back(cohort, str(cohort.snapshot()), why="the plate was turned", who="tests")
    for file in (home / "inbox" / "done").iterdir():
        file.rename(home / "inbox" / file.name)
    scene.night(home)
    (home / "leaving.txt").write_text("person001\n")
    withdraw_file(str(home / "cohort"), home / "leaving.txt", inboxes=[home / "inbox"])
    scene.write_arrival(home / "inbox", "again", [scene.sample(1), scene.sample(160)])
    scene.night(home)


@pytest.mark.postgres
def test_a_postgres_catalogue_tells_the_same_story(tmp_path: Path) -> None:
    home = scene.make(tmp_path / "sqlite")
    scene.night(home)
    other = tmp_path / "postgres"
    (other / "inbox").mkdir(parents=True)
    backup(scene.opened(home), tmp_path / "b.tar")
    with postgres_server() as server:
        restore(other / "cohort", tmp_path / "b.tar", catalogue=new_database(server))
        for one in (home, other):
            live(one)
        wanted, found = scene.published(home), scene.published(other)
        assert not scene.opened(other).catalogue.is_sqlite
        verify(scene.opened(other))
    assert "person001" not in str(wanted) and "P160_1" in wanted["rows"]
    assert found == wanted
